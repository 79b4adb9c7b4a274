"""LayerNorm and GELU whose gradients are written out, against Flax, JAX and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vit_jax.models.mlp import gelu
from vit_jax.models.norm import LayerNorm


def with_gradients(function, *arrays):
    """The output for all arrays but the last, and the gradients where the last is the output's."""
    output, back = jax.vjp(function, *arrays[:-1])
    return output, *jax.tree.leaves(back(arrays[-1].astype(output.dtype)))


def norms(dtype):
    """Ours and Flax's as functions of their parameters and tokens, and such parameters."""
    made = [norm(96, epsilon=1e-6, dtype=dtype, rngs=nnx.Rngs(0)) for norm in (LayerNorm, nnx.LayerNorm)]
    graphs, (parameters, _) = zip(*(nnx.split(norm) for norm in made), strict=True)
    keys = iter(jax.random.split(jax.random.key(0), 2))
    parameters = jax.tree.map(lambda p: p + jax.random.normal(next(keys), p.shape), parameters)
    return [lambda p, x, graph=graph: nnx.merge(graph, p)(x) for graph in graphs], parameters


@pytest.fixture
def tokens():
    """Some whose mean is not zero, and a gradient."""
    keys = jax.random.split(jax.random.key(1))
    return 3 + 2 * jax.random.normal(keys[0], (4, 7, 96)), jax.random.normal(keys[1], (4, 7, 96))


def test_norm_is_that_of_flax(tokens):
    (ours, theirs), parameters = norms(jnp.float32)
    for a, b in zip(*(with_gradients(f, parameters, *tokens) for f in (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max()))


def test_bfloat16_norm_is_as_close_to_float32_as_that_of_flax(tokens):
    def errors(function):
        low = with_gradients(function, parameters, *(a.astype(jnp.bfloat16) for a in tokens))
        return [float(jnp.abs(a.astype(jnp.float32) - e).max()) for a, e in zip(low, exact, strict=True)]

    (_, theirs), parameters = norms(jnp.float32)
    exact = with_gradients(theirs, parameters, *(a.astype(jnp.bfloat16).astype(jnp.float32) for a in tokens))
    low = norms(jnp.bfloat16)[0]
    for a, b in zip(*map(errors, low), strict=True):
        assert a < 1.5 * b


def test_norm_may_widen(tokens):
    """A norm in float32 does not round to the dtype of what it is given."""
    (ours, theirs), parameters = norms(jnp.float32)
    x = tokens[0].astype(jnp.bfloat16)
    assert ours(parameters, x).dtype == jnp.float32
    np.testing.assert_allclose(ours(parameters, x), theirs(parameters, x), atol=1e-5)


def test_gelu_is_that_of_jax():
    x = jnp.linspace(-9, 9, 1001)
    for a, b in zip(*(with_gradients(f, x, jnp.cos(x)) for f in (gelu, jax.nn.gelu)), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


def test_bfloat16_gelu_is_closer_to_float32_than_that_of_jax():
    x = jnp.linspace(-6, 6, 1001).astype(jnp.bfloat16)
    exact = with_gradients(jax.nn.gelu, x.astype(jnp.float32), jnp.ones(x.shape))
    low = [with_gradients(f, x, jnp.ones(x.shape)) for f in (gelu, jax.nn.gelu)]
    for ours, theirs, e in zip(*low, exact, strict=True):
        assert jnp.abs(ours - e).max() < jnp.abs(theirs - e).max()
