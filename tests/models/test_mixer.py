"""Tests the body of MLP-Mixer: a golden of the original code, randomness, and precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import vit_jax
from vit_jax import randomness
from vit_jax.models.architecture import MixerArchitecture
from vit_jax.models.functional import split
from vit_jax.models.mixer import MixerBody

SMALL = {"image_size": (16, 24), "patch_size": 8, "width": 16, "depth": 3, "tokens_mlp_dim": 8, "mlp_dim": 32}


def small(**options):
    return MixerBody(MixerArchitecture.of(**{**SMALL, **options}), rngs=nnx.Rngs(0))


@pytest.fixture
def tokens():
    return jax.random.normal(jax.random.key(0), (4, 6, 16))


@pytest.fixture
def keys():
    return randomness.row_keys(jax.random.key(1), 4)


def test_golden(goldens):
    golden = np.load(goldens / "mixer.npz")
    params = {name.removeprefix("params/"): golden[name] for name in golden}
    body = small(image_size=32, width=32, depth=2, tokens_mlp_dim=16, mlp_dim=64)
    ours = {"LayerNorm_0": "norm1", "LayerNorm_1": "norm2", "Dense_0": "dense1", "Dense_1": "dense2"}
    for name in params:
        block, *path = name.split("/")
        if block == "MixerBlock_0":
            param = body.blocks
            for part in path:
                param = getattr(param, ours.get(part, part))
            param[...] = jnp.stack([params[f"MixerBlock_{i}/{'/'.join(path)}"] for i in range(2)])
    body.norm.scale[...] = jnp.asarray(params["pre_head_layer_norm/scale"])
    body.norm.bias[...] = jnp.asarray(params["pre_head_layer_norm/bias"])
    x = lax.conv_general_dilated(
        params["image"], params["stem/kernel"], (8, 8), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = body((x + params["stem/bias"]).reshape(3, 16, 32)).tokens
    logits = x.mean(1) @ params["head/kernel"] + params["head/bias"]
    np.testing.assert_allclose(logits, params["logits"], atol=2e-5, rtol=0)


def test_no_keys_no_dropout(tokens, keys):
    model, plain = small(dropout=0.2, drop_path=0.5), small()
    np.testing.assert_array_equal(model(tokens, None).tokens, plain(tokens, None).tokens)
    np.testing.assert_array_equal(plain(tokens, keys).tokens, plain(tokens, None).tokens)
    for rates in ({"dropout": 0.2}, {"drop_path": 0.5}):
        assert not np.allclose(small(**rates)(tokens, keys).tokens, plain(tokens, None).tokens, atol=1e-3)


def test_randomness_is_the_rows_own(tokens, keys):
    model = small(dropout=0.2, drop_path=0.5)
    np.testing.assert_allclose(model(tokens, keys).tokens[2:], model(tokens[2:], keys[2:]).tokens, atol=1e-5)
    same = model(jnp.stack([tokens[0]] * 4), keys).tokens
    assert not np.allclose(same[0], same[1], atol=1e-3)


def test_drop_path_grows_with_depth(tokens, keys):
    """The rate of stochastic depth grows from 0 in the first block to `drop_path` in the last.

    With a rate of almost 1 the last of two blocks is always dropped, and the first never.
    """
    model, first = small(drop_path=1 - 1e-6, depth=2), small(depth=1)
    first.blocks = jax.tree.map(lambda p: p[:1], model.blocks)
    np.testing.assert_allclose(model(tokens, keys).tokens, first(tokens, None).tokens, atol=1e-5)


def test_bfloat16(tokens):
    model = small(dtype="bfloat16")
    assert {p.dtype for p in jax.tree.leaves(split(model)[1])} == {jnp.dtype("float32")}
    half, full = model(tokens.astype(jnp.bfloat16), None).tokens, small()(tokens, None).tokens
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), full, atol=0.06)


def test_another_number_of_tokens(tokens):
    with pytest.raises(vit_jax.UserError, match="made for 6 patches can't mix 5"):
        small()(tokens[:, :5], None)
