"""Tests the stem of hybrids and BiT: a golden, shapes, parameter paths, weight standardisation and precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_jax
from vit_jax.models.architecture import stem_stride
from vit_jax.models.functional import split
from vit_jax.models.resnet import BitBody, BitUnit, GroupNorm, HybridStem, HybridUnit, stem_features

OPTIONS = {"dtype": "float32", "scan": True, "remat": "none"}
BOTH = pytest.mark.parametrize("kind", [HybridStem, BitBody])


def abstract(kind, stages=(1, 3), width=32, **options):
    """Returns a function from parameters to a network, and the shapes of the parameters."""
    return split(nnx.eval_shape(lambda: kind(stages, width, **{**OPTIONS, **options}, rngs=nnx.Rngs(0))))


def make(kind, *args, **options):
    """Returns a small network with random parameters, none of them zero."""
    bind, shapes = abstract(kind, *args, **options)
    draw = np.random.default_rng(0).normal
    return bind(jax.tree.map(lambda p: jnp.asarray(draw(p.ndim < 4, 0.2, p.shape), p.dtype), shapes))


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(0), (2, 32, 48, 3), minval=-1)


def test_bit_golden(goldens):
    golden = np.load(goldens / "bit_paper.npz")
    body = BitBody((1, 1), 32, **OPTIONS, rngs=nnx.Rngs(0))
    ours = {"unit01": "unit1", "norm-pre-head": "norm"}
    for name in golden:
        kind, *path = name.split("/")
        if kind == "params" and path[0] != "head":
            param = body
            for part in path:
                param = param if part == "root_block" else getattr(param, ours.get(part, part))
            param[...] = jnp.asarray(golden[name]).reshape(param.shape)  # its norms are (1, 1, 1, channels)
    features = jax.jit(body)(golden["image"]).mean((1, 2))
    logits = features @ golden["params/head/kernel"] + golden["params/head/bias"]
    np.testing.assert_allclose(features, golden["pre_logits"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(logits, golden["logits"], atol=2e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("stages", [(), (1,), (2, 1), (1, 1, 1)])
def test_shapes(kind, stages):
    """The output has the expected shape. Odd sizes are rounded up at each halving."""
    network = make(kind, stages)
    assert network.features == stem_features(stages, 32) == (32 if not stages else 128 * 2 ** (len(stages) - 1))
    assert stem_stride(stages) == {0: 4, 1: 4, 2: 8, 3: 16}[len(stages)]
    for height, width in [(32, 48), (37, 61)]:
        grid = [-(-side // stem_stride(stages)) for side in (height, width)]
        x = jax.eval_shape(network, jnp.ones((2, height, width, 3)))
        assert x.shape == (2, *grid, network.features)


@pytest.mark.parametrize(("kind", "norm"), [(HybridStem, "gn_proj"), (BitBody, None)])
def test_parameter_paths(kind, norm):
    """The first unit of each stage has a projection, and the others, if any, are one stack.

    The units of a stack have different initial parameters.
    """
    _, params = split(kind((1, 3), 32, **OPTIONS, rngs=nnx.Rngs(0)))
    equal = {"conv1", "conv2", "conv3", "gn1", "gn2", "gn3"}
    assert set(params) == {"conv_root", "gn_root" if norm else "norm", "block1", "block2"}
    assert set(params["block1"]) == {"unit1"} and set(params["block2"]) == {"unit1", "units"}
    for block in ("block1", "block2"):
        assert set(params[block]["unit1"]) == equal | {"conv_proj"} | ({norm} if norm else set())
    assert set(params["block2"]["units"]) == equal
    assert params["block2"]["units"]["conv2"]["kernel"].shape == (2, 3, 3, 64, 64)
    kernels = params["block2"]["units"]["conv1"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])
    np.testing.assert_allclose(kernels.std((1, 2, 3, 4)), 256**-0.5, rtol=0.03)


def test_units_start_as_published():
    """A new unit of a hybrid is the identity and a ReLU; one of BiT is not the identity."""
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 128))
    np.testing.assert_array_equal(HybridUnit(128, 32, 1, dtype="float32", rngs=nnx.Rngs(0))(x), nnx.relu(x))
    assert not np.allclose(BitUnit(128, 32, 1, dtype="float32", rngs=nnx.Rngs(0))(x), x, atol=0.1)


@BOTH
def test_weights_are_standardised(images, kind):
    """The result does not change if a kernel is scaled, or if a constant is added to all weights of an output."""
    network, other = make(kind, (1,)), make(kind, (1,))
    for conv in (other.conv_root, other.block1.unit1.conv2, other.block1.unit1.conv_proj):
        conv.kernel[...] = 3 * conv.kernel[...] + jnp.arange(conv.kernel.shape[-1])
    np.testing.assert_allclose(jax.jit(network)(images), jax.jit(other)(images), atol=1e-3)


@BOTH
def test_bfloat16(images, kind):
    network = make(kind, dtype="bfloat16")
    assert {p.dtype for p in jax.tree.leaves(split(network)[1])} == {jnp.dtype("float32")}
    half, full = jax.jit(network)(images), jax.jit(make(kind))(images)
    assert half.dtype == jnp.bfloat16 and full.dtype == jnp.float32
    assert np.linalg.norm(half - full) < 0.03 * np.linalg.norm(full)


def test_statistics_are_float32():
    """Group norm computes its statistics in float32.

    The inputs are bfloat16 and far from zero, where sums or squares in bfloat16 would lose the variance completely.
    """
    x = (50 + jax.random.normal(jax.random.key(0), (2, 16, 16, 64))).astype(jnp.bfloat16)
    half = GroupNorm(64, "bfloat16", nnx.Rngs(0), epsilon=1e-6)(x)
    groups = np.asarray(x, np.float64).reshape(2, 256, 32, 2)
    expected = (groups - groups.mean((1, 3), keepdims=True)) / groups.std((1, 3), keepdims=True)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), expected.reshape(x.shape), rtol=2**-8, atol=1e-4)


@BOTH
def test_width_that_has_no_32_groups(kind):
    with pytest.raises(vit_jax.UserError, match="width 48 .* take a multiple of 32"):
        kind((1,), 48, **OPTIONS, rngs=nnx.Rngs(0))
