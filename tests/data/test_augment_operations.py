"""The operations of RandAugment and AutoAugment, against Pillow; and the two ways of moving pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from helpers.pictures import pictures
from vit_jax.data.augmentation import affine, onehot, operations

COUNT, HEIGHT, WIDTH_PX = 4, 40, 56
IMAGES = pictures(COUNT, HEIGHT, WIDTH_PX)
FILL = (128, 128, 128)


def planes(images):
    return jnp.asarray(images).transpose(0, 3, 1, 2).astype(jnp.bfloat16)


def pixels(planes):
    return np.asarray(planes.astype(jnp.float32)).transpose(0, 2, 3, 1)


_applied = jax.jit(operations.applied)


def applied(names, amounts, images=IMAGES, centre=(0.5, 0.5)):
    """Returns the images after operations and their amounts, one for each row."""
    numbers = jnp.array([operations.NAMES.index(name) for name in names], jnp.int32)
    centres = jnp.tile(jnp.array([centre], jnp.float32), (len(images), 1))
    return pixels(_applied(planes(images), operations.Operation(numbers, jnp.array(amounts, jnp.float32), centres)))


def by_pillow(function, amount=None, images=IMAGES):
    arguments = () if amount is None else (amount,)
    return np.stack([np.asarray(function(Image.fromarray(image), *arguments)) for image in images]).astype(np.float32)


def affine_by_pillow(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=FILL)


def enhanced(kind):
    return lambda image, factor: kind(image).enhance(factor)


def solarize_add(image, amount):
    return image.point(lambda value: min(value + amount, 255) if value < 128 else value)


EXACT = {
    "identity": (lambda image, _: image, (0,)),
    "equalize": (lambda image, _: ImageOps.equalize(image), (0,)),
    "invert": (lambda image, _: ImageOps.invert(image), (0,)),
    "posterize": (ImageOps.posterize, (1, 4, 6, 8)),
    "solarize": (ImageOps.solarize, (0, 77, 128, 256)),
    "solarize_add": (solarize_add, (0, 55, 110, 220)),
    "shear_x": (lambda image, amount: affine_by_pillow(image, 1, amount, 0, 0, 1, 0), (-0.57, -0.15, 0.3, 0.45)),
    "shear_y": (lambda image, amount: affine_by_pillow(image, 1, 0, 0, amount, 1, 0), (-0.57, -0.15, 0.3, 0.45)),
    "translate_x": (lambda image, amount: affine_by_pillow(image, 1, 0, amount * WIDTH_PX, 0, 1, 0), (-0.9, 0.25)),
    "translate_y": (lambda image, amount: affine_by_pillow(image, 1, 0, 0, 0, 1, amount * HEIGHT), (-0.9, 0.25)),
}
# Pillow computes the tables of autocontrast in float64, and blends in float32 with other intermediate results, so that
# one of a hundred values is rounded to its neighbour.
NEARLY = {
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), (0,)),
    "color": (enhanced(ImageEnhance.Color), (0.1, 0.7, 1.9, 3.7)),
    "contrast": (enhanced(ImageEnhance.Contrast), (0.1, 0.7, 1.9, 3.7)),
    "brightness": (enhanced(ImageEnhance.Brightness), (0.1, 0.7, 1.9, 3.7)),
    "sharpness": (enhanced(ImageEnhance.Sharpness), (0.1, 0.7, 1.9, 3.7)),
}


@pytest.mark.parametrize(("name", "amount"), [(name, a) for name, (_, amounts) in EXACT.items() for a in amounts])
def test_as_pillow(name, amount):
    found, expected = applied([name] * COUNT, [amount] * COUNT), by_pillow(EXACT[name][0], amount)
    np.testing.assert_array_equal(found, expected)
    assert name == "identity" or amount in (0, 8, 256) or (found != IMAGES).mean() > 0.1


@pytest.mark.parametrize(("name", "amount"), [(name, a) for name, (_, amounts) in NEARLY.items() for a in amounts])
def test_as_pillow_but_for_rounding(name, amount):
    found, expected = applied([name] * COUNT, [amount] * COUNT), by_pillow(NEARLY[name][0], amount)
    np.testing.assert_allclose(found, expected, atol=1)
    assert (found != expected).mean() < 0.02
    assert (found != IMAGES).mean() > 0.1


def test_images_of_few_values():
    """Images of one and of two values, or nearly so, whose histograms have no range or no step to spread."""
    images = np.zeros_like(IMAGES)
    images[0] = 77
    images[1, ::2] = 203
    images[2, 0, 0] = (1, 2, 3)
    images[3, :, :5] = (1, 2, 255)
    found = {name: applied([name] * COUNT, [0] * COUNT, images) for name in ("equalize", "autocontrast")}
    np.testing.assert_array_equal(found["equalize"], by_pillow(ImageOps.equalize, images=images))
    np.testing.assert_allclose(found["autocontrast"], by_pillow(ImageOps.autocontrast, images=images), atol=1)


@functools.cache
def places():
    """Returns images whose red and green are 4 times each pixel's column and row, and whose blue is 255."""
    row, column = np.mgrid[:HEIGHT, :WIDTH_PX]
    image = np.stack([4 * column, 4 * row, np.full_like(row, 255)], -1).astype(np.uint8)
    return np.broadcast_to(image, IMAGES.shape)


@functools.cache
def rotated():
    """Returns the images after rotations by some degrees, by degrees."""
    degrees = (13, -30, 45, -60)
    return dict(zip(degrees, applied(["rotate"] * COUNT, degrees, places()), strict=True))


@pytest.mark.parametrize("degrees", [13, -30, 45, -60])
def test_rotations_take_a_pixel_near_the_exact_place(degrees):
    found = rotated()[degrees]
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:HEIGHT, :WIDTH_PX] + 0.5
    y, x = y - HEIGHT / 2, x - WIDTH_PX / 2
    from_x = np.cos(angle) * x - np.sin(angle) * y + WIDTH_PX / 2
    from_y = np.sin(angle) * x + np.cos(angle) * y + HEIGHT / 2
    inside = found[..., 2] == 255
    off_x, off_y = (1 + abs(np.tan(angle))) / 2, 0.5
    assert np.abs(found[..., 0] / 4 + 0.5 - from_x)[inside].max() <= off_x + 1e-3
    assert np.abs(found[..., 1] / 4 + 0.5 - from_y)[inside].max() <= off_y + 1e-3
    surely = (from_x > off_x) & (from_x < WIDTH_PX - off_x) & (from_y > off_y) & (from_y < HEIGHT - off_y)
    assert inside[surely].all()
    assert (found[~inside] == 128).all()
    exact = np.asarray(Image.fromarray(places()[0]).rotate(degrees, Image.Resampling.NEAREST, fillcolor=FILL))
    assert np.abs(exact.astype(np.float32) - found)[surely].max() <= 4 * (off_x + 1)  # it is counterclockwise for both


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.0, 0.99), (0.3, 0.0)])
def test_cutout(centre):
    found, expected = applied(["cutout"] * COUNT, [0.25] * COUNT, centre=centre), IMAGES.copy()
    y, x = int(centre[0] * HEIGHT), int(centre[1] * WIDTH_PX)
    half = HEIGHT // 4
    expected[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 128
    np.testing.assert_array_equal(found, expected)


def test_each_row_has_its_own_operation():
    names, amounts = ["solarize", "shear_x", "equalize", "color"], [100, 0.3, 0, 0.1]
    together = applied(names, amounts)
    for row, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        alone = applied([name] * COUNT, [amount] * COUNT)[row]
        np.testing.assert_array_equal(together[row], alone)


def test_products_are_gathers():
    """What TPUs compute as matrix products equals what other devices gather and count, bit for bit."""
    images, shape = planes(IMAGES), (COUNT, HEIGHT, WIDTH_PX)
    source = np.random.default_rng(0).integers(-3, WIDTH_PX + 3, shape)
    found, expected = (jax.jit(way)(images - 128, source) for way in (onehot.taken_by_product, onehot.taken_by_gather))
    np.testing.assert_array_equal(found, expected)
    found = jax.jit(onehot.histogram_by_product)(images)
    np.testing.assert_array_equal(found, jax.jit(onehot.histogram_by_scatter)(images))
    expected = [[np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)] for image in IMAGES]
    np.testing.assert_array_equal(found, expected)
    tables = np.random.default_rng(1).integers(0, 256, (COUNT, 3, 256)).astype(np.float32)
    found = jax.jit(onehot.looked_up_by_product)(tables, images)
    np.testing.assert_array_equal(found, jax.jit(onehot.looked_up_by_gather)(tables, images))
    np.testing.assert_array_equal(found[1, 2], tables[1, 2][IMAGES[1, ..., 2]])


def test_affine_changes_of_any_matrix_stay_near():
    """A shear along both axes with a shift, which no operation makes, takes pixels near the exact places."""
    matrix = (0.9, 0.2, 3.0, -0.3, 1.1, 2.0)
    matrices, holes = jnp.tile(jnp.array([matrix]), (COUNT, 1)), jnp.zeros((COUNT, 4), jnp.int32)
    found = pixels(jax.jit(affine.warped, static_argnums=3)(planes(places()), matrices, holes, 128.0))[0]
    exact = np.asarray(affine_by_pillow(Image.fromarray(places()[0]), *matrix)).astype(np.float32)
    both = (found[..., 2] == 255) & (exact[..., 2] == 255)
    assert both.mean() > 0.5
    assert np.abs(found - exact)[both].max() <= 4 * 2
