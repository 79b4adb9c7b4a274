"""RandAugment and AutoAugment: which operations an image goes through, and how far."""

import jax
import jax.numpy as jnp

from vit_jax.data.augmentation.operations import NAMES, Operation, applied
from vit_jax.randomness import Keys, fold_in

_AT = 224  # pixels; the side of the images for which lengths in pixels are published
_SIGNED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def amounts(magnitude: float) -> dict[str, float]:
    """Returns `Operation.amount` of each operation of RandAugment at a magnitude, from 0 to 20.

    They are those of the code that AugReg used (2106.10270), in which some operations change less at a larger
    magnitude. Lengths are relative to the image, and the published ones at 224 px. In that code the threshold of
    solarize is a number of 8 bits, so that at magnitude 10, for example, it is 0 and not 256. Its contrast, however,
    takes a number that depends on the size of the image alone for the mean grey; ours takes the mean, as Pillow does.
    """
    share = magnitude / 10
    return {
        "rotate": 30 * share,
        "shear_x": 0.3 * share,
        "shear_y": 0.3 * share,
        "translate_x": 100 * share / _AT,
        "translate_y": 100 * share / _AT,
        "cutout": 40 * share / _AT,
        "posterize": min(max(int(4 * share), 1), 8),
        "solarize": int(256 * share) % 256,
        "solarize_add": int(110 * share),
        **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), 0.1 + 1.8 * share),
    }


def randaugment(images: jax.Array, keys: Keys, layers: int, magnitude: float) -> jax.Array:
    """Returns the images after `layers` operations in turn, each drawn from all but the identity (1909.13719).

    Args:
        images: float32 (batch, height, width_px, 3), 0 to 255; they are rounded to whole numbers.
        keys: typed PRNG keys (batch,).
        layers: the number of operations.
        magnitude: of `amounts`.
    """
    names = [name for name in NAMES if name != "identity"]
    of_name = amounts(magnitude)
    table = jnp.array([of_name.get(name, 0.0) for name in names], jnp.float32)

    def drawn(layer: jax.Array) -> Operation:
        values = jax.vmap(lambda key: jax.random.uniform(key, (4,)))(fold_in(keys, layer))
        number = (values[:, 0] * len(names)).astype(jnp.int32)
        return Operation(number, _signed(number, table[number], values[:, 1]), values[:, 2:])

    return _in_turn(images, jax.vmap(drawn)(jnp.arange(layers)))


# The policy found on ImageNet (1805.09501, Table 9): sub-policies of two operations, each with its probability and its
# magnitude, in tenths of the range of the paper's Table 6. Operations without a magnitude don't read it.
_IMAGENET = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def autoaugment(images: jax.Array, keys: Keys) -> jax.Array:
    """Returns the images after a sub-policy, drawn from the 25 of AutoAugment's policy for ImageNet (1805.09501).

    Args:
        images: float32 (batch, height, width_px, 3), 0 to 255; they are rounded to whole numbers.
        keys: typed PRNG keys (batch,).
    """
    numbers = jnp.array([[NAMES.index(name) for name, _, _ in policy] for policy in _IMAGENET], jnp.int32)
    shares = jnp.array([[share for _, share, _ in policy] for policy in _IMAGENET], jnp.float32)
    table = jnp.array([[_policy_amount(name, tenths) for name, _, tenths in policy] for policy in _IMAGENET])
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (5,)))(keys)
    policy = (drawn[:, 0] * len(_IMAGENET)).astype(jnp.int32)
    centre = jnp.zeros((len(images), 2))

    def of_place(place: int) -> Operation:
        on = drawn[:, 1 + place] < shares[policy, place]
        number = jnp.where(on, numbers[policy, place], NAMES.index("identity"))
        return Operation(number, _signed(number, table[policy, place], drawn[:, 3 + place]), centre)

    return _in_turn(images, jax.tree.map(lambda *both: jnp.stack(both), of_place(0), of_place(1)))


def _policy_amount(name: str, tenths: int) -> float:
    """Returns `Operation.amount` in AutoAugment's policy; it posterizes to 4 to 8 bits, RandAugment to 1 to 8."""
    return 4 + tenths * 4 // 10 if name == "posterize" else amounts(tenths).get(name, 0.0)


def _signed(number: jax.Array, amount: jax.Array, drawn: jax.Array) -> jax.Array:
    """Returns the amounts of each row, negated with probability 1/2 if the operation has two directions."""
    signed = (number[:, None] == jnp.array([NAMES.index(name) for name in _SIGNED])).any(1)
    return jnp.where(signed & (drawn < 0.5), -amount, amount)


def _in_turn(images: jax.Array, operations: Operation) -> jax.Array:
    """Returns the images after operations one after the other, which lie along a first axis of the arrays.

    A loop compiles them once. On v5e it takes 2 % more cycles than the same operations without a loop.
    """
    planes = jnp.round(jnp.clip(images, 0, 255)).astype(jnp.bfloat16).transpose(0, 3, 1, 2)
    planes, _ = jax.lax.scan(lambda planes, operation: (applied(planes, operation), None), planes, operations)
    return planes.transpose(0, 2, 3, 1).astype(jnp.float32)
