"""Random keys for the initial parameters of a model."""

import itertools

import jax
from flax import nnx
from jaxtyping import Array, Key


class ParameterKeys(nnx.Rngs):
    """Gives a model the keys that `nnx.Rngs(key)` would give its parameters, in a fraction of the time.

    Flax counts the keys of a stream in an array, which costs milliseconds for each key while JAX traces. This class
    counts in Python. It has the stream `params` alone, and belongs to one trace, so modules must not keep it.
    """

    def __init__(self, key: Key[Array, ""]):
        self._key, self._count = key, itertools.count()

    def params(self) -> Key[Array, ""]:
        """Returns the next key."""
        return jax.random.fold_in(self._key, next(self._count))
