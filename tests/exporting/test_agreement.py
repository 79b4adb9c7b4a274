"""Files of all families compute what their models compute, as ONNX by onnxruntime and as StableHLO by JAX."""

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

import vit_jax
from helpers import models
from vit_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

CASES = {  # together they use every family and every option that changes the computation
    "tok": ("Ti/16", {}),
    "gap, registers, SwiGLU, RoPE, scales": (
        "Ti/16",
        {"pool": "gap", "registers": 2, "mlp": "swiglu", "rope": 100.0, "rope_coordinates": "unit", "posemb": "none"}
        | {"layer_scale": 0.5, "key_bias": False},
    ),
    "map, axial, sincos2d, matmul": (
        "Ti/16",
        {"pool": "map", "attention": "axial", "posemb": "sincos2d", "posemb_at": "layers", "patchify": "matmul"},
    ),
    "tok+gap, relative, parallel, no qkv_bias, erf": (
        "Ti/16",
        {"pool": "tok+gap", "posemb": "relative", "parallel": True, "qkv_bias": False, "mlp": "gelu_erf"},
    ),
    "unrolled, learned2d, qk_norm, norm_after_pool": (
        "Ti/16",
        {"scan": False, "posemb": "learned2d", "qk_norm": True, "norm_after_pool": True},
    ),
    "distilled, pre_logits": ("Ti/16", {"registers": 1, "distilled": True, "pre_logits": 32, "scan": False}),
    "R+": ("R+Ti/16", {"stages": ()}),
    "hybrid": ("R26+S/32", {"stages": (2, 1), "image_size": (16, 32), "patch_size": (1, 1)}),
    "BiT": ("BiT-R50x1", {"stages": (3, 1)}),
    "Mixer": ("Mixer-B/16", {}),
}


def opened(path):
    """Returns the function in a file, opened as a program without this package would."""
    if path.suffix == ".stablehlo":
        return jax.export.deserialize(bytearray(path.read_bytes())).call
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (argument,), (output,) = session.get_inputs(), session.get_outputs()
    return lambda images: session.run([output.name], {argument.name: images})[0]


@pytest.mark.parametrize("case", CASES)
def test_every_family(case, tmp_path):
    """A file with any batch size agrees with its model to 1e-4, of batches of 1, 3 and 64 images."""
    name, options = CASES[case]
    model = models.create(name, **options)
    for suffix in ("onnx", "stablehlo"):
        found = vit_jax.export(model, tmp_path / f"model.{suffix}")
        assert found.difference <= 1e-4 and found.largest > 0.1
    images = models.images(model.arch.image_size, 64)
    expected = jax.jit(lambda images: model(images))(images)
    assert np.std(expected, axis=0).min() > 1e-2  # the images matter
    run = opened(tmp_path / "model.onnx")
    for batch in (1, 3, 64):
        np.testing.assert_allclose(run(images[:batch]), expected[:batch], atol=1e-4)
    np.testing.assert_allclose(opened(tmp_path / "model.stablehlo")(images), expected, atol=1e-4)


@pytest.mark.parametrize("suffix", ["onnx", "stablehlo"])
def test_pixels_probabilities_and_a_fixed_batch(suffix, tmp_path):
    model = models.create(pool="gap")
    size = model.arch.image_size
    model.preprocessing = Preprocessing(size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    path = tmp_path / f"model.{suffix}"
    vit_jax.export(model, path, batch=2, output="probabilities", uint8=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    found = opened(path)(pixels)
    logits = np.asarray(model(((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32)), np.float64)
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, exps / exps.sum(axis=1, keepdims=True), atol=1e-5)
    with pytest.raises(Exception):  # noqa: B017 - each runtime has its own error for a batch of another size
        opened(path)(pixels[:1])


def test_bfloat16(tmp_path):
    """ONNX holds half the bytes and computes with the rounded weights; StableHLO computes in bfloat16 as the model."""
    model, size = models.create(dtype="bfloat16"), {}
    images = models.images()
    for suffix in ("onnx", "stablehlo"):
        found = vit_jax.export(model, tmp_path / f"half.{suffix}")
        assert 0 <= found.difference < found.limit < 0.5
        np.testing.assert_allclose(opened(tmp_path / f"half.{suffix}")(images), model(images), atol=found.limit)
    vit_jax.export(models.create(), tmp_path / "whole.onnx")
    for name in ("half", "whole"):
        weights = onnx.load(tmp_path / f"{name}.onnx").graph.initializer
        size[name] = sum(len(each.raw_data) for each in weights)
    assert size["half"] < 0.6 * size["whole"]


def test_features_at_another_size(tmp_path):
    """Features need no head; position embeddings are resampled for the size of the file."""
    model = models.create(num_classes=0, posemb_resample="bicubic")
    model.preprocessing = Preprocessing((24, 20))
    vit_jax.export(model, tmp_path / "model.onnx", output="features")
    images = models.images((24, 20))
    np.testing.assert_allclose(opened(tmp_path / "model.onnx")(images), model.features(images), atol=1e-4)
