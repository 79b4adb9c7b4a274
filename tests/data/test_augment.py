import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import config as config_lib
from vit_jax.data import augment as augment_lib
from vit_jax.data import warp
from vit_jax.errors import UserError

BATCH, HEIGHT, WIDTH_PX, CLASSES = 16, 9, 7, 6
IMAGES = jax.random.uniform(jax.random.key(1), (BATCH, HEIGHT, WIDTH_PX, 3))
LABELS = jax.nn.one_hot(jnp.arange(BATCH) % CLASSES, CLASSES)
KEYS = jax.random.split(jax.random.key(2), BATCH)
ALL = config_lib.Augmentation(flip=True, rotate_degrees=20.0, shift_pixels=2.0, mixup=0.5)
PIXELS = config_lib.Augmentation(flip=True, rotate_degrees=20.0, shift_pixels=2.0)


@functools.partial(jax.jit, static_argnums=3)
def jitted(images, labels, keys, config):
    """Returns images and labels after both stages of augmentation."""
    batch = {"image": augment_lib.augment_pixels(images, keys, config), "label": labels}
    mixed = augment_lib.mix(batch, keys, config)
    return mixed["image"], mixed["label"]


def keys_of(name, keys=KEYS):
    """Returns the keys of an operation by their definition: those of the rows, folded with the CRC-32 of its name."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, zlib.crc32(name.encode()))


def test_off_is_nothing():
    off, batch = config_lib.Augmentation(), {"image": IMAGES, "label": LABELS}
    assert augment_lib.augment_pixels(IMAGES, KEYS, off) is IMAGES
    assert augment_lib.mix(batch, KEYS, off) is batch
    assert not augment_lib.changes_pixels(off) and not augment_lib.changes_pixels(config_lib.Augmentation(mixup=0.5))
    for on in ("shift_pixels", "hue", "autoaugment", "randaugment_layers", "erasing"):
        assert augment_lib.changes_pixels(config_lib.Augmentation(**{on: 1})), on


def test_each_operation_has_keys_of_its_own(monkeypatch):
    """Adding an operation before the others does not change the random numbers of the others."""
    drawn = []
    noop = augment_lib.PixelOp("nothing", lambda s: True, lambda images, keys, s: drawn.append(keys) or images)
    expected = augment_lib.augment_pixels(IMAGES, KEYS, ALL)
    monkeypatch.setattr(augment_lib, "PIXELS", (noop, *augment_lib.PIXELS))
    np.testing.assert_array_equal(augment_lib.augment_pixels(IMAGES, KEYS, ALL), expected)
    assert not np.array_equal(jax.random.key_data(drawn[0]), jax.random.key_data(KEYS))


def test_what_the_first_operations_draw_stays():
    """A run that began before other operations were added goes on with the same draws."""
    flipped = jax.vmap(jax.random.bernoulli)(keys_of("flip"))
    expected = jnp.where(flipped[:, None, None, None], IMAGES[:, :, ::-1], IMAGES)
    most = np.array([np.deg2rad(20), 2, 2], np.float32)
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (3,), minval=-1, maxval=1))(keys_of("rotate_and_shift")) * most
    expected = warp.rotated_and_shifted(expected, *drawn.T)
    np.testing.assert_allclose(jitted(IMAGES, LABELS, KEYS, PIXELS)[0], expected, atol=1e-6)
    share = jax.vmap(lambda key: jax.random.beta(key, 1.0, 1.0))(keys_of("mixup"))
    expected = LABELS * jnp.maximum(share, 1 - share)[:, None]
    _, labels = jitted(IMAGES, LABELS, KEYS, config_lib.Augmentation(mixup=1.0))
    np.testing.assert_allclose(labels * LABELS, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_needs_labels(name):
    with pytest.raises(UserError, match=rf"config.augmentation.{name} mixes labels, and the task has none"):
        augment_lib.mix({"image": IMAGES}, KEYS, config_lib.Augmentation(**{name: 0.5}))


@pytest.mark.parametrize("config", [ALL, PIXELS])
def test_rows_depend_on_their_keys_alone(config):
    whole = jitted(IMAGES, LABELS, KEYS, config)
    half = jitted(IMAGES[:8], LABELS[:8], KEYS[:8], config)
    rows = 7 if config.mixup else 8  # with mixup, the last row is mixed with another row than in the whole batch
    for one, other in zip(whole, half, strict=True):
        np.testing.assert_allclose(one[:rows], other[:rows], atol=1e-6)
    others = jitted(IMAGES, LABELS, jax.random.split(jax.random.key(3), BATCH), config)
    assert (np.abs(whole[0] - others[0]).max((1, 2, 3)) > 1e-3).sum() > BATCH / 2


def test_half_of_the_images_are_flipped():
    keys = jax.random.split(jax.random.key(0), 400)
    images = jnp.broadcast_to(IMAGES[:1], (400, *IMAGES.shape[1:]))
    result, _ = jitted(images, jnp.zeros((400, 1)), keys, config_lib.Augmentation(flip=True))
    flipped = np.array((result == images[:, :, ::-1]).all((1, 2, 3)))
    kept = np.array((result == images).all((1, 2, 3)))
    assert (flipped ^ kept).all()
    assert 150 < flipped.sum() < 250


def warped(images, degrees, down, right):
    """Returns the result of rotating and shifting by exactly the given amounts."""
    angle, down, right = (jnp.full(len(images), value, jnp.float32) for value in (np.deg2rad(degrees), down, right))
    return warp.rotated_and_shifted(images, angle, down, right)


def test_shift_of_a_known_pattern():
    image = jnp.arange(20.0).reshape(1, 4, 5, 1)
    moved = warped(image, 0, 1, 2)[0, ..., 0]
    np.testing.assert_allclose(moved[1:, 2:], image[0, :-1, :-2, 0], atol=1e-5)
    np.testing.assert_allclose(moved[0], jnp.array([0.0, 0, 0, 1, 2]), atol=1e-5)  # the edge is repeated
    half = warped(image, 0, 0, 0.5)[0, ..., 0]
    np.testing.assert_allclose(half[:, 1:], (image[0, :, 1:, 0] + image[0, :, :-1, 0]) / 2, atol=1e-5)


def test_rotation_of_a_known_pattern():
    image = jax.random.uniform(jax.random.key(5), (1, 6, 6, 3))
    quarter = warped(image, 90.0, 0, 0)
    turns = [np.abs(np.rot90(image[0], k) - quarter[0]).max() < 1e-4 for k in (1, 3)]
    assert sorted(turns) == [False, True]


def test_mixup():
    images, labels = jitted(IMAGES, LABELS, KEYS, config_lib.Augmentation(mixup=1.0))
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-6)
    share = (labels * LABELS).sum(-1)
    assert share.min() >= 0.5
    assert np.ptp(share) > 0.2
    np.testing.assert_allclose((labels * jnp.roll(LABELS, -1, 0)).sum(-1), 1 - share, atol=1e-6)
    mixed = IMAGES * share[:, None, None, None] + jnp.roll(IMAGES, -1, 0) * (1 - share[:, None, None, None])
    np.testing.assert_allclose(images, mixed, atol=1e-5)


def test_cutmix_mixes_labels_by_the_area_of_the_box():
    images, labels = jitted(IMAGES, LABELS, KEYS, config_lib.Augmentation(cutmix=1.0))
    own, other = (images == IMAGES).all(-1), (images == jnp.roll(IMAGES, -1, 0)).all(-1)
    assert (own ^ other).all()
    assert (other.any((1, 2)) & own.any((1, 2))).sum() > BATCH / 2
    area = own.mean((1, 2))[:, None]
    np.testing.assert_allclose(labels, LABELS * area + jnp.roll(LABELS, -1, 0) * (1 - area), atol=1e-6)


def test_a_row_is_mixed_in_one_of_two_ways():
    both = config_lib.Augmentation(mixup=1.0, cutmix=1.0, cutmix_share=0.25)
    images, labels = jitted(IMAGES, LABELS, KEYS, both)
    cut = np.asarray(jax.vmap(lambda key: jax.random.bernoulli(key, 0.25))(keys_of("cutmix_share")))
    assert 0 < cut.sum() < BATCH
    for rows, alone in ((cut, {"cutmix": 1.0}), (~cut, {"mixup": 1.0})):
        found = jitted(IMAGES, LABELS, KEYS, config_lib.Augmentation(**alone))
        np.testing.assert_array_equal(images[rows], found[0][rows])
        np.testing.assert_allclose(labels[rows], found[1][rows], atol=1e-6)


def test_repeats_are_not_mixed_with_each_other():
    """Rows of the same image follow one another, so with three repeats the partner is three rows later."""
    batch = {"image": IMAGES, "label": LABELS}
    mixed = augment_lib.mix(batch, KEYS, config_lib.Augmentation(mixup=1.0), repeats=3)
    share = (mixed["label"] * LABELS).sum(-1)
    assert share.min() < 0.95
    partner = mixed["image"] - IMAGES * share[:, None, None, None]
    np.testing.assert_allclose(partner, jnp.roll(IMAGES, -3, 0) * (1 - share)[:, None, None, None], atol=1e-5)


SOME = config_lib.Augmentation(flip=True, contrast=0.4, randaugment_layers=2, erasing=0.5)
EVERYTHING = config_lib.Augmentation(
    flip=True, rotate_degrees=20.0, shift_pixels=2.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1,
    autoaugment=True, randaugment_layers=2, randaugment_magnitude=15.0, erasing=0.5, mixup=0.8, cutmix=1.0,
)  # fmt: skip


@pytest.mark.parametrize("settings", [SOME, pytest.param(EVERYTHING, marks=pytest.mark.slow)], ids=["some", "all"])
def test_sharded_equals_whole(settings):
    """The rows of eight devices are augmented as those of one."""
    keys = jax.random.split(jax.random.key(2), BATCH)
    whole = jitted(IMAGES * 255, LABELS, keys, settings)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = jitted(*jax.device_put((IMAGES * 255, LABELS, keys), rows), settings)
    assert len(sharded[0].sharding.device_set) == 8
    for one, other in zip(whole, sharded, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
        assert np.abs(np.asarray(one) - other).mean() < 1e-5


def test_one_program_equals_one_operation_after_the_other():
    """A fused program may compute a value twice and round it differently, which must not decide a pixel's hue."""
    turned, rotated = config_lib.Augmentation(hue=0.1), config_lib.Augmentation(rotate_degrees=20.0)
    found, _ = jitted(IMAGES * 255, LABELS, KEYS, dataclasses.replace(rotated, hue=0.1))
    expected, _ = jitted(jitted(IMAGES * 255, LABELS, KEYS, rotated)[0], LABELS, KEYS, turned)
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_types_shapes_and_range():
    images, labels = jitted(IMAGES, LABELS, KEYS, ALL)
    assert images.dtype == labels.dtype == jnp.float32
    assert images.shape == IMAGES.shape
    assert images.min() >= 0
    assert images.max() <= 1
    images, labels = jitted(IMAGES * 255, LABELS, KEYS, SOME)
    assert images.dtype == labels.dtype == jnp.float32
    assert images.shape == IMAGES.shape and np.isfinite(images).all()
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-6)
