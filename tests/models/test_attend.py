"""Compares attention with its hand-written backward pass to autodiff of the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import config, sharding
from vit_jax.models import stack
from vit_jax.models.attend import attend


def plain(q, k, v):
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32))
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


def with_gradients(function, *arrays):
    """Returns the output for all arrays but the last, and the gradients. The last array is the output's gradient."""
    output, back = jax.vjp(function, *arrays[:-1])
    return output, *back(arrays[-1])


@pytest.fixture
def arrays():
    """Returns queries, keys, values and the gradient of the output. They are large enough for scores of tens."""
    shapes = [(2, 5, 3, 8), (2, 7, 3, 8), (2, 7, 3, 8), (2, 5, 3, 8)]
    return [3 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


def test_as_autodiff_has_it(arrays):
    for ours, theirs in zip(with_gradients(attend, *arrays), with_gradients(plain, *arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * float(jnp.abs(theirs).max()))


def test_bfloat16_is_as_close_to_float32_as_the_plain_formula(arrays):
    def errors(function):
        low = with_gradients(function, *(a.astype(jnp.bfloat16) for a in arrays))
        return [float(jnp.abs(a.astype(jnp.float32) - e).max()) for a, e in zip(low, exact, strict=True)]

    arrays = [a.astype(jnp.bfloat16).astype(jnp.float32) for a in arrays]  # the inputs have no rounding errors
    exact = with_gradients(plain, *arrays)
    for ours, theirs in zip(errors(attend), errors(plain), strict=True):
        assert ours < 1.5 * theirs


def test_large_scores_do_not_overflow(arrays):
    q, *others = arrays
    assert all(bool(jnp.isfinite(x).all()) for x in with_gradients(attend, 1e4 * q, *others))


def test_slices_of_a_stack_and_their_gradients():
    stacked = jnp.arange(12.0).reshape(3, 4)
    slices, back = jax.vjp(stack.layers, stacked)
    np.testing.assert_array_equal(jnp.stack(slices), stacked)
    np.testing.assert_array_equal(back(tuple(10 * s for s in slices))[0], 10 * stacked)


@pytest.mark.parametrize("shape", [(8, 4, 6, 5), (8, 3, 5, 5)])  # the mesh divides the first, but not the second
def test_each_part(shape):
    mesh = sharding.make_mesh(config.Mesh(data=2, fsdp=1, tensor=2, sequence=2))
    parts = []

    def double(part):
        parts.append(part.shape)
        return 2 * part

    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = jax.device_put(x, sharding.batch_sharding(mesh))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        doubled = jax.jit(lambda x: sharding.each_part(double, x, ("tensor", "sequence", None)))(x)
    np.testing.assert_array_equal(doubled, 2 * x)
    assert parts[0] == ((4, 2, 3, 5) if shape[1] == 4 else (4, 3, 5, 5))
