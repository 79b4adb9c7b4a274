"""The order of the training examples, as a pure function of the seed and the position."""

from typing import TYPE_CHECKING

import numpy as np

from vit_jax import streams

if TYPE_CHECKING:
    import grain


def shuffled(num_examples: int, seed: int) -> "grain.MapDataset[int]":
    """Returns an endless random-access sequence of example numbers. Each epoch is a permutation of all of them.

    Row r of global batch k has position k * global_batch_size + r, and item position // repeats, where `repeats` is the
    key `data.repeats`.
    """
    import grain

    # Grain shuffles epoch e with the seed s + e. Without mixing, runs with nearby seeds would share epochs.
    mixed = int(np.random.SeedSequence((seed, streams.number("order"))).generate_state(1)[0])
    return grain.MapDataset.range(num_examples).shuffle(seed=mixed).repeat()
