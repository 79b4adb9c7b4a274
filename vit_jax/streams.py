"""The named streams of randomness: every number that a run draws belongs to one of them.

A draw depends on the config's seed, the name of its stream and a position. Two purposes therefore never draw the same
numbers, and a new stream changes none of the others. The streams are

    order             the shuffled order of the training examples (position in the data)
    labels_per_class  which examples are kept of each class
    shots             which examples of each class a few-shot evaluation learns from (draw)
    subset            which examples are kept of all
    crop              random crops on the host (position in the data)
    parameters        the model's initial parameters
    task              initial parameters of the task's own
    augmentation      augmentation on the device (step, row of the global batch, operation)
    loss              dropout, stochastic depth and what the task draws (step, row of the global batch)
    evaluation        what the task draws in evaluations (index of the example)

This file does not import JAX, because worker processes of the data pipeline read it.
"""

import threading
import zlib
from typing import Any

import numpy as np


def number(name: str) -> int:
    """Returns the number of a name, the same on every machine, below 2**32."""
    return zlib.crc32(name.encode())


def generator(seed: int, stream: str, *position: int) -> np.random.Generator:
    """Returns NumPy's generator of a stream at a position, for draws on the host."""
    return np.random.default_rng((seed, number(stream), *position))


def counted(seed: int, stream: str, position: int) -> np.random.Generator:
    """Returns a generator of a stream at one of very many positions, in a fraction of the time of `generator`.

    It is to be used before the next call in the same thread, which returns the same object at another position.
    """
    generators: dict[tuple[int, str], Any] = _of_thread.__dict__.setdefault("generators", {})
    if (seed, stream) not in generators:
        key = np.random.SeedSequence((seed, number(stream))).generate_state(2, np.uint64)
        philox = np.random.Philox(key=key)
        generators[seed, stream] = np.random.Generator(philox), philox, philox.state
    found, philox, state = generators[seed, stream]
    state["state"]["counter"][1] = position  # each position has 2**64 numbers of its own
    philox.state = state
    return found


_of_thread = threading.local()
