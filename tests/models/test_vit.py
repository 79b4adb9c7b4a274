"""Tests the Vision Transformer: shapes, masks, randomness and errors. Its options are in the other files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_jax
from vit_jax import randomness
from vit_jax.errors import UserError
from vit_jax.models import dropout
from vit_jax.models.encoder import Scope
from vit_jax.models.functional import split
from vit_jax.models.model import keys_of_rows
from vit_jax.models.observe import ATTENTION

SMALL = {
    "width": 32, "depth": 3, "mlp_dim": 64, "num_heads": 4, "image_size": (32, 16), "num_classes": 5,
    "dropout": 0.1, "attention_dropout": 0.1, "drop_path": 0.3,
}  # fmt: skip


def small(name="Ti/8", **keywords):
    """Returns a small model with a head that is not zero."""
    model = vit_jax.create(name, **{**SMALL, **keywords})
    if model.arch.num_classes:
        model.head.kernel[...] = jax.random.normal(jax.random.key(5), model.head.kernel.shape)
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (4, 32, 16, 3)).astype(np.float32)


def test_no_key_no_dropout(images):
    model = small()
    np.testing.assert_array_equal(model(images), model(images))
    assert not np.allclose(model(images), model(images, key=jax.random.key(0)))


@pytest.mark.parametrize("pool", ["tok", "gap", "map"])
@pytest.mark.parametrize("posemb", ["learned", "sincos2d", "none"])
def test_shapes(images, pool, posemb):
    model = small(pool=pool, posemb=posemb, pre_logits=20)
    tokens = 8 + (pool == "tok")
    assert model(images).shape == (4, 5)
    assert model.encode(images).shape == (4, tokens, 32)
    assert model.features(images).shape == (4, 20)
    assert model.encode_with_attention(images).attention.shape == (3, 4, 4, tokens, tokens)
    assert small(pool=pool, posemb=posemb, num_classes=0)(images).shape == (4, 32)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"attention_dropout": 0.0, "remat": "full"}, marks=pytest.mark.slow),
        pytest.param({"attention_dropout": 0.0, "parallel": True, "layer_scale": 0.1}, marks=pytest.mark.slow),
        {"attention_dropout": 0.0, "registers": 1, "distilled": True, "qk_norm": True},
        pytest.param({}, marks=pytest.mark.slow),  # attention dropout is drawn for all queries, so it is not short
        pytest.param({"attention_dropout": 0.0, "rope": 100.0}, marks=pytest.mark.slow),
        pytest.param({"attention_dropout": 0.0, "posemb": "relative"}, marks=pytest.mark.slow),
        pytest.param({"attention_dropout": 0.0, "pool": "tok+gap"}, marks=pytest.mark.slow),
    ],
)
def test_the_last_block_is_short(images, options):
    """The last block of an unrolled model computes only the tokens that the head reads, if the options permit it.

    These tokens are the same as if all were computed.
    """
    key, count = jax.random.key(0), 1 + options.get("distilled", False)
    short = options.get("attention_dropout") == 0 and not {"rope", "posemb", "pool"} & set(options)

    @jax.jit
    def results(model):
        tokens = model.encode(images, key=key)
        return model.encode_for_head(images, key=key), tokens, model(images, key=key), model.logits(tokens)

    read, tokens, logits, expected = results(small(scan=False, **options))
    assert read.shape[1] == (count if short else tokens.shape[1]) and tokens.shape[1] >= 9
    np.testing.assert_allclose(read[:, :count], tokens[:, :count], atol=1e-5)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    read, *_, scanned, _ = results(small(scan=True, **options))
    assert read.shape == tokens.shape
    np.testing.assert_allclose(logits, scanned, atol=1e-5)


def test_positions_follow_the_images():
    """A model takes images of another size, with its position embeddings resampled, if patches divide the size."""
    model = small(posemb_std=1.0)
    assert model(np.zeros((2, 64, 48, 3), np.uint8)).shape == (2, 5)
    assert not np.allclose(model(np.ones((1, 64, 16, 3))), model(np.ones((1, 32, 16, 3))))
    with pytest.raises(vit_jax.UserError, match="do not divide images of 33x16"):
        model(np.zeros((1, 33, 16, 3)))


def test_uint8_is_normalised(images):
    pixels = np.round((images + 1) / 2 * 255).astype(np.uint8)
    model = small()
    np.testing.assert_allclose(model(pixels), model(pixels / np.float32(127.5) - 1), atol=1e-4)


def test_masked_patches_are_not_seen(images):
    model = small(pool="tok", image_size=(32, 16))
    mask = np.arange(8)[None].repeat(4, 0) < 6
    changed = images.copy()
    changed[:, 24:, :] = 7  # the last row of two patches
    before, after = (model.encode_with_attention(x, mask=jnp.asarray(mask)).tokens[:, :7] for x in (images, changed))
    np.testing.assert_allclose(before, after, atol=1e-5)
    assert not np.allclose(model.encode(images)[:, :7], model.encode(changed)[:, :7], atol=1e-3)


def test_attention_weights_are_those_of_all_tokens(images):
    """With an observer, the last block computes all tokens, even if only the first are needed."""
    found = small(scan=False, attention_dropout=0.0).encoder(jnp.ones((4, 9, 32)), Scope(), observer=ATTENTION, only=1)
    assert found.outputs.shape == (3, 4, 4, 9, 9) and found.tokens.shape == (4, 9, 32)


def test_attention_weights_sum_to_one(images):
    np.testing.assert_allclose(small().encode_with_attention(images).attention.sum(-1), 1, atol=1e-5)


def test_zero_head_with_its_bias(images):
    np.testing.assert_array_equal(vit_jax.create("Ti/8", **{**SMALL, "head_bias": -6.9})(images), np.float32(-6.9))


def test_randomness_is_the_rows(images):
    """The randomness of an image depends only on its own key, not on the other images of the batch.

    If a call gets one key for the batch, that key folded with the index of an image is the image's key.
    """
    model = small()
    keys = randomness.row_keys(jax.random.key(3), 4)
    whole = model(images, key=keys)
    np.testing.assert_allclose(whole[2:], model(images[2:], key=keys[2:]), atol=1e-4)
    np.testing.assert_allclose(whole, model(images, key=jax.random.key(3)), atol=1e-4)


def test_drop_path_keeps_the_mean():
    x, keys = jnp.ones((20_000, 1)), randomness.row_keys(jax.random.key(0), 20_000)
    dropped = dropout.drop_path(x, 0.3, keys)
    assert set(np.unique(dropped).round(4)) == {0.0, np.float32(1 / 0.7).round(4)}
    assert abs(dropped.mean() - 1) < 0.02


def test_bfloat16_computes_near_float32(images):
    model, half = small(), small(dtype="bfloat16")
    assert half(images).dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(split(half)[1]))
    np.testing.assert_allclose(model(images), half(images), atol=0.3)
    assert not np.array_equal(model(images), half(images))


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("X/16", {}, "unknown variant 'X/16'"),
        ("B16", {}, "unknown variant 'B16'.*B/16"),
        ("B/16", {"image_size": 225}, "patch of 16 pixels does not divide the image's height of 225.*224"),
        ("B/16", {"num_heads": 7}, "width=768 can't be split over num_heads=7"),
        ("B/16", {"pool": "cls"}, "pool is 'cls'; it can be tok, gap, map"),
        ("B/16", {"widht": 3}, "no keyword 'widht'"),
        ("B/16", {"width": 30, "num_heads": 3, "posemb": "sincos2d"}, "sincos2d needs a width divisible by 4"),
    ],
)
def test_errors(name, keywords, message):
    with pytest.raises(vit_jax.UserError, match=message):
        vit_jax.create(name, **keywords)


def test_raw_keys_are_keys_too():
    """Keys of `jax.random.PRNGKey` give the same numbers as those of `jax.random.key`, alone or one for each image.

    Values that are not keys raise an error.
    """
    model, images = small(), np.ones((2, 32, 16, 3), np.float32)
    expected = model.encode(images, key=jax.random.key(3))
    np.testing.assert_array_equal(model.encode(images, key=jax.random.PRNGKey(3)), expected)
    rows = jax.random.split(jax.random.key(3), 2)
    raw = jax.random.split(jax.random.PRNGKey(3), 2)
    np.testing.assert_array_equal(model.encode(images, key=raw), model.encode(images, key=rows))
    with pytest.raises(UserError, match="keys of shape .1,. for 2 images"):
        model(images, key=rows[:1])
    for no_key in (0, jnp.ones(3)):
        with pytest.raises(UserError, match="; give a key such as"):
            keys_of_rows(no_key, 2)


@pytest.mark.parametrize("name", ["B/16", "Mixer-B/16", "BiT-R50x1", "R50+B/16"])
def test_a_model_prints_on_a_screen(name):
    model = nnx.eval_shape(lambda: vit_jax.create(name, num_classes=7))
    text = repr(model)
    assert len(text.splitlines()) <= 20 and max(map(len, text.splitlines())) <= 200
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))
    assert name in text and "7, without names" in text and f"{count:,}: " in text and "head" in text


def test_models_are_listed():
    assert {"B/16", "R50+B/16", "Mixer-B/16", "BiT-R50x1"} <= set(vit_jax.list_models())
    assert vit_jax.list_models("R26+*") == ["R26+S/32", "R26+B/32"] and "L/16" in vit_jax.list_models("/16")
    assert {"load_config", "list_models", "read_images"} <= set(dir(vit_jax)) & set(vit_jax.__all__)
