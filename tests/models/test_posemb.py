"""Tests the resampling of position embeddings and patch kernels with goldens, SciPy, and what resampling must keep."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from vit_jax.models import interpolate, posemb


@pytest.mark.parametrize(("name", "old", "new"), [("7_to_24_cls", 7, 24), ("14_to_7", 14, 7)])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["host", "device"])
def test_goldens(goldens, name, old, new, array):
    golden = np.load(goldens / f"posemb_{name}.npz")
    after = posemb.resample(array(golden["before"]), (old, old), (new, new))
    np.testing.assert_allclose(after, golden["after"], atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [((3, 5), (7, 4)), ((2, 2), (1, 9)), ((1, 4), (3, 4))])
def test_any_grid(old, new):
    table = np.random.default_rng(0).normal(size=(1, old[0] * old[1] + 1, 6)).astype(np.float32)
    after = posemb.resample(table, old, new)
    zoomed = scipy.ndimage.zoom(
        table[0, 1:].reshape(*old, 6), (new[0] / old[0], new[1] / old[1], 1), order=1, mode="nearest"
    )
    np.testing.assert_array_equal(after[:, 0], table[:, 0])
    np.testing.assert_allclose(after[0, 1:], zoomed.reshape(-1, 6), atol=1e-6)


def test_sincos_by_its_formula():
    table = posemb.sincos_2d((2, 3), 8)
    row, column, w = 1, 2, 1e-4  # the second of two frequencies
    expected = [np.sin(column), np.sin(column * w), np.cos(column), np.cos(column * w)]
    expected += [np.sin(row), np.sin(row * w), np.cos(row), np.cos(row * w)]
    np.testing.assert_allclose(table[0, row * 3 + column], expected, atol=1e-6)


@pytest.mark.parametrize(("method", "peer"), [("bicubic", "dinov2"), ("bicubic_antialias", "timm")])
@pytest.mark.parametrize("sizes", ["7x5_to_14x10", "7x5_to_4x9", "7x5_to_3x3", "16x16_to_10x16"])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["host", "device"])
def test_bicubic_goldens(goldens, method, peer, sizes, array):
    golden = np.load(goldens / "posemb_bicubic.npz")
    old, new = (tuple(map(int, size.split("x"))) for size in sizes.split("_to_"))
    table = array(golden["before_{}x{}".format(*old)])
    after = posemb.resample(table, old, new, method)
    np.testing.assert_allclose(after, golden[f"{peer}_{sizes}"], atol=1e-5)


@pytest.mark.parametrize("method", interpolate.METHODS)
def test_constants_stay_constant(method):
    for old, new in ((5, 8), (8, 5), (1, 4), (3, 1)):
        np.testing.assert_allclose(interpolate.matrix(old, new, method).sum(1), 1, atol=1e-12)
        np.testing.assert_array_equal(interpolate.matrix(old, old, method), np.eye(old))


def upsampled(patch, new):
    """Returns a patch (height, width, 3) resized to `new` by SciPy.

    The interpolation is linear between the centres of pixels, and pixels at the border are repeated.
    """
    axes = [(np.arange(n) + 0.5) * (o / n) - 0.5 for o, n in zip(patch.shape, new, strict=False)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.stack(
        [scipy.ndimage.map_coordinates(patch[..., c], points, order=1, mode="nearest") for c in range(3)], axis=-1
    )


@pytest.mark.parametrize(("old", "new"), [((4, 4), (8, 8)), ((4, 6), (7, 9)), ((8, 4), (8, 5)), ((2, 3), (6, 3))])
def test_resized_patches_have_the_same_embeddings(old, new):
    """An enlarged patch has, with the resized kernel, the embedding of the original patch (FlexiViT)."""
    rng = np.random.default_rng(0)
    patch, kernel = rng.uniform(-1, 1, (*old, 3)), rng.normal(size=(*old, 3, 16)).astype(np.float32)
    resized = interpolate.resize_patches(kernel, new)
    assert resized.shape == (*new, 3, 16) and resized.dtype == np.float32
    expected = np.einsum("ijc,ijcd->d", patch, kernel)
    np.testing.assert_allclose(np.einsum("ijc,ijcd->d", upsampled(patch, new), resized), expected, atol=1e-5)


def test_patches_of_the_same_size_stay():
    kernel = np.random.default_rng(0).normal(size=(4, 6, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(interpolate.resize_patches(kernel, (4, 6)), kernel, atol=1e-6)


def test_rope_in_unit_coordinates():
    """The same pairs turn by their patch's centre, from -1 to 1."""
    x = np.random.default_rng(0).normal(size=(2, 7, 2, 16)).astype(np.float32)  # a special token
    turned = np.asarray(posemb.rotate(jnp.asarray(x), (2, 3), 1, 50.0, "unit"))
    expected = x[..., :8] + 1j * x[..., 8:]
    centres = (-1 / 2, 1 / 2), (-2 / 3, 0, 2 / 3)  # of two rows and three columns
    for token in range(6):
        for pair in range(8):
            position = centres[pair // 4][divmod(token, 3)[pair // 4]]
            expected[:, 1 + token, :, pair] *= np.exp(2j * np.pi * position * 50.0 ** -((pair % 4) / 4))
    np.testing.assert_allclose(turned, np.concatenate([expected.real, expected.imag], -1), atol=1e-5)
    np.testing.assert_array_equal(turned[:, :1], x[:, :1])
