"""The order of the training examples: a pure function of seed and position, so that the data position is the step."""

from typing import TYPE_CHECKING

import numpy as np

from vit_jax import streams

if TYPE_CHECKING:
    import grain


def shuffled(num_examples: int, seed: int) -> "grain.MapDataset[int]":
    """An endless random-access sequence of indices; each run of `num_examples` from the start is a permutation.

    Item i is the example at position i; row r of global batch k has position k * global_batch_size + r.
    """
    import grain

    # Grain gives epoch e the seed s + e, so nearby seeds would share epochs if they weren't mixed first.
    mixed = int(np.random.SeedSequence((seed, streams.number("order"))).generate_state(1)[0])
    return grain.MapDataset.range(num_examples).shuffle(seed=mixed).repeat()
