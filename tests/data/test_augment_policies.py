"""RandAugment and AutoAugment: which operations are drawn, how far they go, and that a row depends on its key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.pictures import pictures
from vit_jax import UserError
from vit_jax import config as config_lib
from vit_jax.data import levels
from vit_jax.data.augmentation import operations, policies

SIZE = 24
IMAGES = np.repeat(pictures(4, SIZE, SIZE).astype(np.float32), 4, axis=0)
KEYS = jax.random.split(jax.random.key(3), len(IMAGES))
randaugment = jax.jit(policies.randaugment, static_argnums=(2, 3))
autoaugment = jax.jit(policies.autoaugment)


@pytest.fixture
def drawn(monkeypatch):
    """Returns a function that returns the operations that a policy asks for, in turn, without applying them."""

    def ask(policy, number, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(policies, "_in_turn", lambda images, operations: operations)
            keys = jax.random.split(jax.random.key(0), number)
            asked = jax.jit(lambda keys: policy(jnp.zeros((number, 1, 1, 3)), keys, *arguments))(keys)
        return [operations.Operation(*map(np.asarray, of)) for of in zip(*vars(asked).values(), strict=True)]

    return ask


def named(operation):
    return np.array(operations.NAMES)[operation.number]


def test_published_amounts():
    """The arguments that the code of AugReg computes at magnitude 10 and 15, for images of 224 px (2106.10270)."""
    at_10, at_15 = policies.amounts(10), policies.amounts(15)
    assert (at_10["rotate"], at_15["rotate"]) == (30, 45)
    np.testing.assert_allclose((at_10["shear_x"], at_15["shear_y"]), (0.3, 0.45))
    np.testing.assert_allclose((224 * at_10["translate_x"], 224 * at_15["translate_y"]), (100, 150))
    np.testing.assert_allclose((224 * at_10["cutout"], 224 * at_15["cutout"]), (40, 60))
    assert (at_10["posterize"], at_15["posterize"]) == (4, 6)
    assert (at_10["solarize_add"], at_15["solarize_add"]) == (110, 165)
    for name in ("color", "contrast", "brightness", "sharpness"):
        np.testing.assert_allclose((at_10[name], at_15[name]), (1.9, 2.8))
    assert [policies.amounts(magnitude)["solarize"] for magnitude in (0, 5, 10, 15, 20)] == [0, 128, 0, 128, 0]
    assert [policies.amounts(magnitude)["posterize"] for magnitude in (0, 5, 20)] == [1, 2, 8]


def test_randaugment_draws_all_operations_alike(drawn):
    first, second = drawn(policies.randaugment, 8000, 2, 15.0)
    assert not np.array_equal(first.number, second.number)
    for operation in (first, second):
        names, counts = np.unique(named(operation), return_counts=True)
        assert set(names) == set(operations.NAMES) - {"identity"}
        assert counts.min() > 400 and counts.max() < 600  # 500 are expected of each
        for name, amount in policies.amounts(15.0).items():
            found = operation.amount[named(operation) == name]
            signed = name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
            np.testing.assert_allclose(np.abs(found) if signed else found, amount, rtol=1e-6)
            assert not signed or 0.4 < (found < 0).mean() < 0.6
        centre = operation.centre
        assert centre.min() >= 0 and centre.max() < 1 and abs(centre.mean() - 0.5) < 0.02


def test_autoaugment_draws_its_sub_policies_with_their_probabilities(drawn):
    """Counts of the pairs of operations, against the table's own probabilities; some sub-policies occur twice."""
    number = 25_000
    first_of, second_of = drawn(policies.autoaugment, number)
    expected: dict[tuple[str, str], float] = {}
    for (first, share, _), (second, other, _) in policies._IMAGENET:
        for name, chance in ((first, share), ("identity", 1 - share)):
            for following, again in ((second, other), ("identity", 1 - other)):
                expected[name, following] = expected.get((name, following), 0) + chance * again / 25
    found = dict.fromkeys(expected, 0)
    for pair in zip(named(first_of).tolist(), named(second_of).tolist(), strict=True):
        found[pair] += 1
    for pair, chance in expected.items():
        assert abs(found[pair] / number - chance) < 0.01, pair


def test_autoaugment_goes_as_far_as_the_paper(drawn):
    """Table 6: [4, 8] bits, thresholds [0, 256], factors [0.1, 1.9], 30 degrees, shears of 0.3; all linear."""
    first, second = drawn(policies.autoaugment, 25_000)
    found = {name: np.unique(np.abs(second.amount[named(second) == name])) for name in set(named(second))}
    np.testing.assert_allclose(found["rotate"], (24, 27))
    np.testing.assert_allclose(found["posterize"], 6)
    np.testing.assert_allclose(found["solarize"], (102, 179, 204))
    np.testing.assert_allclose(found["color"], (0.1, 0.46), rtol=1e-6)
    np.testing.assert_allclose(found["contrast"], 1.54, rtol=1e-6)
    np.testing.assert_allclose(np.unique(first.amount[named(first) == "posterize"]), (6, 7))
    np.testing.assert_allclose(np.unique(np.abs(first.amount[named(first) == "shear_x"])), 0.15)


@pytest.mark.parametrize("function", [lambda images, keys: randaugment(images, keys, 2, 15.0), autoaugment])
def test_rows_depend_on_their_keys_alone(function):
    whole = np.asarray(function(IMAGES, KEYS))
    order = np.random.default_rng(0).permutation(len(IMAGES))
    np.testing.assert_array_equal(function(IMAGES[order], KEYS[order]), whole[order])
    assert (whole != IMAGES).any((1, 2, 3)).mean() > 0.4
    assert (whole == np.round(whole)).all() and whole.min() >= 0 and whole.max() <= 255
    assert len({image.tobytes() for image in whole[:4]}) > 1  # the first four are the same image


def test_layers_follow_one_another():
    """A second layer starts from what the first one made, and the first one draws the same with and without it."""
    one = randaugment(IMAGES, KEYS, 1, 15.0)
    two = np.asarray(randaugment(IMAGES, KEYS, 2, 15.0))
    keys = policies.fold_in(KEYS, 1)
    drawn = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (4,)))(keys))
    numbers = (drawn[:, 0] * 16).astype(np.int32)
    amounts = np.array([policies.amounts(15.0).get(name, 0) for name in np.array(operations.NAMES)[numbers]])
    signed = np.isin(numbers, [operations.NAMES.index(name) for name in policies._SIGNED])
    operation = operations.Operation(
        jnp.array(numbers),
        jnp.array(np.where(signed & (drawn[:, 1] < 0.5), -amounts, amounts), jnp.float32),
        drawn[:, 2:],
    )
    planes = jnp.asarray(one).transpose(0, 3, 1, 2).astype(jnp.bfloat16)
    again = jax.jit(operations.applied)(planes, operation).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(again.astype(jnp.float32), two)


def test_values_are_rounded():
    """Pixels between whole numbers, and noise outside of 0 to 255, become what an 8-bit image could have."""
    images = IMAGES + np.float32(0.3)
    images[0, 0, 0] = (-20, 300, 7.6)
    rounded = np.clip(np.round(images), 0, 255)
    np.testing.assert_array_equal(randaugment(images, KEYS, 1, 15.0), randaugment(rounded, KEYS, 1, 15.0))
    floats = (IMAGES / 255 - np.float32(0.485)) / np.float32(0.229)  # as a batch of normalised images has them
    again = (floats * np.float32(0.229) + np.float32(0.485)) * 255
    np.testing.assert_array_equal(randaugment(again, KEYS, 1, 15.0), randaugment(IMAGES, KEYS, 1, 15.0))


def test_levels():
    """The seven of AugReg, Figure 4: RandAugment's layers and magnitude, and mixup."""
    expected = {
        "none": (0, 10, 0), "light1": (2, 0, 0), "light2": (2, 10, 0.2), "medium1": (2, 15, 0.2),
        "medium2": (2, 15, 0.5), "strong1": (2, 20, 0.5), "strong2": (2, 20, 0.8),
    }  # fmt: skip
    for name, (layers, magnitude, mixup) in expected.items():
        config = config_lib.default()
        config.augmentation.flip, config.augmentation.mixup = True, 0.7
        config.augmentation.update(levels.augreg(name))
        config.total_steps = 10
        made = config_lib.typed(config).augmentation
        assert (made.randaugment_layers, made.randaugment_magnitude, made.mixup) == (layers, magnitude, mixup)
        assert made.flip
    with pytest.raises(
        UserError, match=r"no augmentation level 'medium3' .did you mean medium.*take one of none, light1"
    ):
        levels.augreg("medium3")
