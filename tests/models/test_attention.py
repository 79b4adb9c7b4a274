"""Tests axial attention by full attention within lines, and that masked patches are not seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from helpers.models import GRID, arch, create, drawn, images
from vit_jax.models.attention import Attention
from vit_jax.models.encoder import Scope


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_axial_attention_is_full_attention_within_lines(axis, masked):
    options = arch(attention="axial", pool="gap", qk_norm=True)
    axial = drawn(nnx.eval_shape(lambda: Attention(options, axis=axis, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 32)).astype(np.float32)
    mask = np.ones((2, 6), bool)
    if masked:
        mask[0, 1] = mask[1, 3] = False  # every row and column keeps an unmasked patch
    layers = axial.query, axial.key, axial.value
    q, k, v = (np.einsum("btw,whd->bthd", x, layer.kernel[...]) + layer.bias[...] for layer in layers)

    def normed(x, norm):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * norm.scale[...] + norm.bias[...]

    scores = np.einsum("bqhd,bkhd->bhqk", normed(q, axial.query_norm), normed(k, axial.key_norm)) / 4
    line = np.indices(GRID)[1 - axis].ravel()  # the row of each patch for axis 1, its column for axis 0
    seen = (line[:, None] == line) & mask[:, None, None]
    expected = np.exp(np.where(seen, scores, -np.inf))
    expected /= expected.sum(-1, keepdims=True)
    y, weights = axial(jnp.asarray(x), jnp.asarray(x), grid=GRID, mask=jnp.asarray(mask) if masked else None)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    out = np.einsum("bhqk,bkhd,hdw->bqw", expected, v, axial.out.kernel[...]) + axial.out.bias[...]
    np.testing.assert_allclose(y, out, atol=1e-4)


def test_axial_attention_shows_rows_and_columns_in_turn():
    """In an axial block, a patch sees its row first, and then through its column the whole image.

    The returned attention weights are therefore positive for all pairs of patches.
    """
    model = create(attention="axial", pool="gap", depth=1)
    x = jnp.asarray(images())
    weights = jax.jit(lambda x: model.encode_with_attention(x).attention)(x)
    assert weights.shape == (1, 2, 2, 6, 6) and (weights > 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    block = jax.tree.map(lambda p: p[0], model.encoder.blocks)
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 32)), jnp.float32)
    jacobian = jax.jit(jax.jacobian(lambda t: block.rows(t, 0, Scope(GRID))[0].sum(-1)))
    touched = jacobian(tokens)[0, :, 0].any(-1)
    np.testing.assert_array_equal(touched, np.kron(np.eye(2), np.ones((3, 3))))


@pytest.mark.parametrize("options", [{"rope": 10.0}, {"attention": "axial", "pool": "gap"}, {"posemb": "relative"}])
def test_masked_patches_are_not_seen(options):
    """Masked patches have no influence on the others, even if they are a whole row."""
    model, x = create(**options), images()
    changed = x.copy()
    changed[:, 8:] = 7  # the second row of patches
    mask = jnp.asarray(np.arange(6)[None].repeat(2, 0) < 3)
    tokens = jax.jit(lambda x, mask: model.encode_with_attention(x, mask=mask).tokens)
    seen = model.arch.specials + 3
    np.testing.assert_allclose(tokens(x, mask)[:, :seen], tokens(changed, mask)[:, :seen], atol=1e-5)
    everything = mask | True
    assert not np.allclose(tokens(x, everything)[:, :seen], tokens(changed, everything)[:, :seen], atol=1e-3)
