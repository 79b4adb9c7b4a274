"""Colour jitter, against Pillow and Python's own colorsys."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from helpers.pictures import pictures
from vit_jax.data.augmentation import jitter

COUNT = 4
IMAGES = pictures(COUNT, 20, 26)
KEYS = jax.random.split(jax.random.key(0), COUNT)
_adjusted, jittered = jax.jit(jitter.adjusted), jax.jit(jitter.jittered, static_argnums=(2, 3, 4, 5))


def adjusted(brightness=1.0, contrast=1.0, saturation=1.0, turn=None, images=IMAGES):
    factors = (jnp.full(COUNT, factor, jnp.float32) for factor in (brightness, contrast, saturation))
    turns = None if turn is None else jnp.full(COUNT, turn, jnp.float32)
    return np.asarray(_adjusted(jnp.asarray(images, jnp.float32), *factors, turns))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4, 2.5])
def test_as_pillow(name, kind, factor):
    """Pillow rounds the grey image and its mean, by 1/2 at most, and cuts off what is below the decimal point."""
    found = adjusted(**{name: factor})
    expected = [np.asarray(kind(Image.fromarray(image)).enhance(factor), np.float32) for image in IMAGES]
    np.testing.assert_allclose(found, expected, atol=1.01 + abs(1 - factor) / 2)
    assert (np.abs(found - IMAGES) > 2).mean() > 0.1


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.03, 0.25])
def test_hue_as_colorsys(turn):
    def turned(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        return np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)) * 255

    expected = np.apply_along_axis(turned, -1, IMAGES.astype(np.float64))
    np.testing.assert_allclose(adjusted(turn=turn), expected, atol=1e-2)


def test_what_is_drawn():
    """Factors lie around 1 within the limits and not below 0; what is off stays as it is."""
    images, keys = jnp.full((2000, 1, 1, 3), 100.0), jax.random.split(jax.random.key(1), 2000)
    found = np.asarray(jittered(images, keys, 0.4, 0, 0, 0))[:, 0, 0, 0] / 100
    assert 0.6 <= found.min() < 0.61 and 1.39 < found.max() <= 1.4 and abs(found.mean() - 1) < 0.02
    wide = np.asarray(jittered(images, keys, 1.5, 0, 0, 0))[:, 0, 0, 0] / 100
    assert wide.min() >= 0 and 2.4 < wide.max() <= 2.5
    pixels = jnp.asarray(IMAGES, jnp.float32)
    np.testing.assert_allclose(jittered(pixels, KEYS, 0, 0, 0, 0), pixels, atol=1e-4)
    turned = np.asarray(jittered(pixels, KEYS, 0, 0, 0, 0.1))
    np.testing.assert_allclose(turned.max(-1), pixels.max(-1), atol=1e-2)  # the value of HSV stays
    assert np.abs(turned - pixels).max() > 5
