"""Tests the options of blocks, pooling and patches by simple loops and formulas that define them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from helpers.models import GRID, arch, create, drawn, images
from vit_jax.models.encoder import Block, Scope
from vit_jax.models.functional import split


def test_layer_scale():
    """A layer scale of 0 leaves the tokens unchanged, and one of 1 has no effect."""
    model, x = create(layer_scale=0.5), images()
    _, params = split(model)
    blocks = params["encoder"]["blocks"]
    encode = jax.jit(lambda model: model.encode(x))
    for scale in (0.0, 1.0):
        blocks["scale1"], blocks["scale2"] = jnp.full((2, 32), scale), jnp.full((2, 32), scale)
        nnx.update(model, nnx.State(params))
        if scale == 0:
            cls = jnp.broadcast_to(model.cls[...], (2, 1, 32))
            tokens = jnp.concatenate([cls, model.embedding(jnp.asarray(x)).reshape(2, 6, 32)], 1)
            expected = model.encoder.norm(tokens + model.positions(GRID))
        else:
            plain = create()
            nnx.update(plain, nnx.State({**params, "encoder": {**params["encoder"], "blocks": {
                name: value for name, value in blocks.items() if not name.startswith("scale")
            }}}))  # fmt: skip
            expected = encode(plain)
        np.testing.assert_allclose(encode(model), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["gelu", "gelu_erf", "swiglu"])
@pytest.mark.parametrize("parallel", [False, True])
def test_block_by_hand(kind, parallel):
    options = arch(mlp=kind, parallel=parallel, layer_scale=0.1)
    block = drawn(nnx.eval_shape(lambda: Block(options, rngs=nnx.Rngs(0))))
    x = np.random.default_rng(0).normal(size=(2, 7, 32)).astype(np.float32)

    def norm(x, layer):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * layer.scale + layer.bias

    def mlp(x):
        y = x @ block.mlp.dense1.kernel[...] + block.mlp.dense1.bias[...]
        if kind == "swiglu":
            gate = x @ block.mlp.gate.kernel[...] + block.mlp.gate.bias[...]
            y = gate / (1 + np.exp(-gate)) * y
        elif kind == "gelu_erf":
            y = y * (1 + jax.scipy.special.erf(y / np.sqrt(2))) / 2
        else:
            y = y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) / 2
        return y @ block.mlp.dense2.kernel[...] + block.mlp.dense2.bias[...]

    normed = norm(x, block.norm1)
    attended = x + block.attention(normed, normed)[0] * block.scale1[...]
    expected = attended + mlp(normed if parallel else norm(attended, block.norm2)) * block.scale2[...]
    np.testing.assert_allclose(block(jnp.asarray(x), 0, Scope())[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("specials", [{}, {"registers": 2}, {"class_token": True, "registers": 1}], ids=str)
@pytest.mark.parametrize("pool", ["tok", "gap", "tok+gap", "map"])
def test_pooling(pool, specials):
    """Average and attention pooling read only the patches, not the special tokens."""
    model = create(pool=pool, **specials)
    n = specials.get("registers", 0) + bool(pool.startswith("tok") or specials.get("class_token"))
    assert model.arch.specials == n
    tokens = np.random.default_rng(0).normal(size=(2, n + 6, 32)).astype(np.float32)
    features = model.pooled(jnp.asarray(tokens))
    mean = tokens[:, n:].mean(1)
    if pool == "map":
        changed = tokens.copy()
        changed[:, :n] = 0
        np.testing.assert_array_equal(features, model.pooled(jnp.asarray(changed)))
    else:
        expected = {"tok": tokens[:, 0], "gap": mean, "tok+gap": np.concatenate([tokens[:, 0], mean], 1)}[pool]
        np.testing.assert_allclose(features, expected, atol=1e-6)


def test_norm_after_pool():
    model = create(pool="gap", norm_after_pool=True)
    assert not hasattr(model.encoder, "norm")
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 32)), jnp.float32)
    mean = tokens.mean(1)
    expected = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(mean.var(-1, keepdims=True) + 1e-6)
    expected = expected * model.fc_norm.scale[...] + model.fc_norm.bias[...]
    np.testing.assert_allclose(model.pooled(tokens), expected, atol=1e-5)


@pytest.mark.parametrize("how", ["conv", "matmul"])
def test_patches_by_a_loop(how):
    model, x = create(patchify=how), images()
    embedded = model.embedding(jnp.asarray(x))
    kernel = np.asarray(model.embedding.kernel[...]).reshape(-1, 32)
    for row in range(2):
        for column in range(3):
            patch = x[:, 8 * row : 8 * row + 8, 4 * column : 4 * column + 4].reshape(2, -1)
            np.testing.assert_allclose(embedded[:, row, column], patch @ kernel + model.embedding.bias[...], atol=1e-4)
