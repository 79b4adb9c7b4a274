"""Random erasing and CutMix, against the papers' definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.data.augmentation import boxes

COUNT, HEIGHT, WIDTH_PX = 1000, 24, 20
KEYS = jax.random.split(jax.random.key(0), COUNT)
IMAGES = jnp.full((COUNT, HEIGHT, WIDTH_PX, 3), 300.0)  # no filling has this value
MEAN, DEVIATION = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
AREA = (0.02, 1 / 3)
erased = jax.jit(boxes.erased, static_argnums=(2, 3, 4, 5))
kept = jax.jit(boxes.kept, static_argnums=0)


def sides(changed):
    """Returns top, bottom, left and right of what is True in each image, after checking that it is a full box."""
    found = []
    for image in changed:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        assert image[box[0] : box[1], box[2] : box[3]].all()
        assert image.sum() == (box[1] - box[0]) * (box[3] - box[2])
        found.append(box)
    return np.array(found).T


def test_erasing():
    made = np.asarray(erased(IMAGES, KEYS, 0.5, AREA, 0.3, "mean"))
    changed = (made != 300).all(-1)
    assert ((made != 300).any(-1) == changed).all()
    happened = changed.any((1, 2))
    assert abs(happened.mean() - 0.5) < 0.06
    top, bottom, left, right = sides(changed[happened])
    height, width_px = bottom - top, right - left
    area = height * width_px / (HEIGHT * WIDTH_PX)
    # Sides are rounded to whole pixels, which matters most in the smallest and longest boxes.
    assert ((height - 0.5) * (width_px - 0.5) / (HEIGHT * WIDTH_PX)).max() <= AREA[1]
    assert ((height + 0.5) * (width_px + 0.5) / (HEIGHT * WIDTH_PX)).min() >= AREA[0]
    assert abs(area.mean() - sum(AREA) / 2) < 0.02  # uniform
    assert ((height - 0.5) / (width_px + 0.5)).max() <= 1 / 0.3 and ((height + 0.5) / (width_px - 0.5)).min() >= 0.3
    assert abs(np.log(height / width_px).mean()) < 0.1
    assert (top == 0).any() and (bottom == HEIGHT).any() and (left == 0).any() and (right == WIDTH_PX).any()
    assert abs((top + bottom).mean() / 2 - HEIGHT / 2) < 1 and abs((left + right).mean() / 2 - WIDTH_PX / 2) < 1
    np.testing.assert_allclose(made[changed], np.broadcast_to(MEAN, made[changed].shape), rtol=1e-6)


def test_noise_is_in_the_same_boxes():
    mean, noise = (np.asarray(erased(IMAGES, KEYS, 0.5, AREA, 0.3, fill)) for fill in ("mean", "noise"))
    np.testing.assert_array_equal(mean == 300, noise == 300)
    values = noise[noise[..., 0] != 300]
    np.testing.assert_allclose(values.mean(0), MEAN, atol=1)
    np.testing.assert_allclose(values.std(0), DEVIATION, atol=1)
    off = np.corrcoef(values.T) - np.eye(3)
    assert np.abs(off).max() < 0.02  # each channel has noise of its own


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_never_and_always(probability):
    changed = (np.asarray(erased(IMAGES, KEYS, probability, AREA, 0.3, "mean")) != 300).any((1, 2, 3))
    assert (changed == bool(probability)).all()


def test_what_never_fits_is_not_erased():
    """A box of the whole image is no box in it; ten tries at that leave the image as it is."""
    made = erased(IMAGES[:8], KEYS[:8], 1.0, (1.0, 1.0), 1.0, "mean")
    np.testing.assert_array_equal(made, IMAGES[:8])


@pytest.mark.parametrize("alpha", [1.0, 0.2])
def test_cutmix(alpha):
    """The box keeps the aspect ratio of the image; its side is the root of the area that Beta(alpha, alpha) leaves."""
    made = np.asarray(kept(IMAGES.shape, KEYS, alpha))
    assert made.shape == (COUNT, HEIGHT, WIDTH_PX, 1) and set(np.unique(made)) == {0.0, 1.0}
    cut = made[..., 0] == 0
    some = cut.any((1, 2))
    top, bottom, left, right = sides(cut[some])
    within = (top > 0) & (bottom < HEIGHT) & (left > 0) & (right < WIDTH_PX)
    height, width_px = (bottom - top)[within], (right - left)[within]
    assert (height % 2 == 0).all() and (width_px % 2 == 0).all()  # halves to both sides of the centre
    assert np.abs(height / HEIGHT - width_px / WIDTH_PX).max() < 2 * (1 / HEIGHT + 1 / WIDTH_PX)
    # The distribution of the sides before they are cut off: recomputed from a draw of NumPy's.
    share = np.random.default_rng(0).beta(alpha, alpha, 20_000)
    half = np.floor(np.floor(HEIGHT * np.sqrt(1 - share)) / 2)
    assert abs(some.mean() - (half > 0).mean()) < 0.06
    centre = np.random.default_rng(1).integers(0, (HEIGHT, WIDTH_PX), (20_000, 2))
    halves = np.stack([half, np.floor(np.floor(WIDTH_PX * np.sqrt(1 - share)) / 2)], 1)
    box = np.minimum(centre + halves, (HEIGHT, WIDTH_PX)) - np.maximum(centre - halves, 0)
    assert abs(cut.mean() - box.prod(1).mean() / (HEIGHT * WIDTH_PX)) < 0.03
