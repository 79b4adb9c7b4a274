"""The order of the training examples, as a pure function of the seed and the position."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax import streams

if TYPE_CHECKING:
    import grain


def mixed(shares: Sequence[tuple[int, float]], seed: int) -> "grain.MapDataset[int]":
    """Returns an endless random-access sequence of the example numbers of several data sets.

    Each data set has a shuffled order of its own, as `shuffled` makes it, in which all its examples come before one
    comes again. Which of them position i takes depends on i and the weights alone; the share that a data set has of
    any long stretch of positions is its share of the weights to within 1 %. The examples are numbered through.

    Args:
        shares: the number of examples and the weight of each data set.
        seed: decides the orders.
    """
    import grain

    orders, before = [], 0
    for number, (count, _) in enumerate(shares):
        orders.append(_shuffled(range(before, before + count), seed, number))
        before += count
    return grain.MapDataset.mix(orders, [weight for _, weight in shares]) if len(orders) > 1 else orders[0]


def shuffled(num_examples: int, seed: int) -> "grain.MapDataset[int]":
    """Returns an endless random-access sequence of example numbers. Each epoch is a permutation of all of them.

    Row r of global batch k has position k * global_batch_size + r, and item position // repeats, where `repeats` is the
    key `data.repeats`.
    """
    return _shuffled(range(num_examples), seed, 0)


def _shuffled(numbers: range, seed: int, member: int) -> "grain.MapDataset[int]":
    """Returns `shuffled` of some numbers; those of a mixture's member other than the first have a seed of their own."""
    import grain

    # Grain shuffles epoch e with the seed s + e. Without mixing, runs with nearby seeds would share epochs.
    entropy = (seed, streams.number("order"), *([member] if member else []))
    mixed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    return grain.MapDataset.range(numbers.start, numbers.stop).shuffle(seed=mixed).repeat()
