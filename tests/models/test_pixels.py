"""Tests which images models take. Integers are pixels, and wrong input raises an error of one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax
from vit_jax import UserError
from vit_jax.models.architecture import Preprocessing

IMAGENET = Preprocessing((8, 8), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
PIXELS[0, 0, 0] = 0, 255, 7
MODELS = {
    "vit": ("Ti/4", {"width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2}),
    "mixer": ("Mixer-S/4", {"width": 16, "depth": 1, "mlp_dim": 32, "tokens_mlp_dim": 8}),
    "bit": ("BiT-R50x1", {"stages": (1,), "stem_width": 32}),
}


def create(family):
    name, keywords = MODELS[family]
    return vit_jax.create(name, image_size=8, num_classes=0, patch_size=4 if family != "bit" else None, **keywords)


@pytest.mark.parametrize("kind", ["int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_of_every_type_are_pixels(kind):
    pixels = PIXELS // 2 if kind == "int8" else PIXELS
    expected = IMAGENET.normalize(pixels)
    np.testing.assert_allclose(expected, (pixels / 255 - IMAGENET.mean) / IMAGENET.std, atol=1e-6)
    given = pixels.astype(kind)
    for images in (given, jnp.asarray(given)):
        np.testing.assert_array_equal(IMAGENET.normalize(images), expected)
    np.testing.assert_allclose(jax.jit(IMAGENET.normalize)(given), expected, atol=1e-6)


@pytest.mark.parametrize("family", MODELS)
def test_all_families(family):
    model = create(family)
    np.testing.assert_array_equal(model(PIXELS.astype(np.int32)), model(PIXELS))
    for method in (model, model.features, model.encode):
        with pytest.raises(UserError, match="integers are pixels from 0 to 255"):
            method(PIXELS.astype(np.int32) + 1)
        with pytest.raises(UserError, match="floats from 0 to 255"):
            method(PIXELS.astype(np.float32))
        with pytest.raises(UserError, match=r"images\[None\]"):
            jax.jit(method)(PIXELS[0])


@pytest.mark.parametrize(
    "images", [PIXELS.astype(np.int64) - 1, PIXELS.astype(np.uint16) * 257, np.full((1, 8, 8, 3), 2**40)]
)
def test_integers_that_are_no_pixels(images):
    with pytest.raises(UserError, match="integers are pixels from 0 to 255; scale them"):
        IMAGENET.normalize(images)


@pytest.mark.parametrize("kind", ["bool", "complex64", "str"])
def test_other_types(kind):
    with pytest.raises(UserError, match="give uint8 pixels, or floats"):
        IMAGENET.normalize(PIXELS.astype(kind))


@pytest.mark.parametrize(
    "settings", [Preprocessing((8, 8)), IMAGENET, Preprocessing((8, 8), None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))]
)
def test_floats_in_the_range_and_around_it_pass(settings):
    """Normalised images of any floating-point type pass, even with as much noise as augmentation adds.

    Floats from 0 to 255 raise an error.
    """
    noise = 6 * np.random.default_rng(1).uniform(-1, 1, PIXELS.shape)
    for images in (settings.normalize(PIXELS), np.float16(settings.normalize(PIXELS) + noise), jnp.bfloat16(noise)):
        np.testing.assert_array_equal(settings.normalize(images), np.float32(images))
    for far in (np.float32(PIXELS), jnp.float32(PIXELS), np.float64(PIXELS) - 128, np.full(PIXELS.shape, np.inf)):
        with pytest.raises(UserError, match="floats must be in this model's range"):
            settings.normalize(far)
    wide = Preprocessing((8, 8), None, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    np.testing.assert_array_equal(wide.normalize(np.float32(PIXELS)), PIXELS)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 3, 8, 8), r"channels come last here; give images.transpose\(0, 2, 3, 1\)"),
        ((2, 8, 8, 4), r"fourth channel, as RGBA has; give images\[..., :3\]"),
        ((2, 8, 8, 1), r"grey; repeat it, np.repeat\(images, 3, axis=-1\)"),
        ((2, 1, 8, 8), "grey; repeat it, .* after images.transpose"),
        ((8, 8, 3), r"a single image without a batch axis; give images\[None\]"),
        ((3, 8, 8), r"a single image, channels first"),
        ((2, 8, 8), "no channels; of grey images"),
        ((0, 8, 8, 3), "an empty batch has no result"),
        ((2, 0, 8, 3), "have no pixels"),
        ((2, 8, 8, 5), "give one array of that shape"),
        ((8, 8), "give one array of that shape"),
        ((), "give one array of that shape"),
    ],
)
def test_shapes(shape, said):
    said = rf"\(batch, height, width, 3\): .*{said}"
    for kind in (np.uint8, np.float32):
        for normalize in (IMAGENET.normalize, jax.jit(IMAGENET.normalize)):
            with pytest.raises(UserError, match=said):
                normalize(np.zeros(shape, kind))


def test_traced_values_are_not_looked_at():
    """A compiled program does not check values, so it has no reduction over the image."""
    text = jax.jit(IMAGENET.normalize).lower(np.float32(PIXELS)).as_text()
    assert "stablehlo.reduce" not in text
    jax.jit(IMAGENET.normalize)(np.float32(PIXELS))


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"interpolation": "cubic"}, "interpolation is 'cubic'; it can be nearest, bilinear, bicubic"),
        ({"shorter_side": 7}, "shorter_side=7 is smaller than the image of 8x8 pixels"),
        ({"std": (1.0, 0.0, 1.0)}, "std is .*; it must be above 0"),
        ({"mean": (1.0, float("nan"), 1.0)}, "mean is .*; it must be a finite number"),
    ],
)
def test_preprocessing_that_can_not_be(keywords, said):
    with pytest.raises(UserError, match=said):
        Preprocessing(**{"size": (8, 8), **keywords})
