"""Position embeddings: resampling against goldens and against SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from vit_jax.models import posemb


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
