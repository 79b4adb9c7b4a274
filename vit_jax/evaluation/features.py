"""The frozen features of images, in float32 on the host, computed once for all evaluations of the same moment.

Every process gets the features of all images. A device never holds more than those of a batch.
"""

import contextlib
import contextvars
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float, Int

from vit_jax.data import Dataset
from vit_jax.errors import UserError
from vit_jax.models.functional import Params
from vit_jax.tasks import Batch, Learner


class Features(NamedTuple):
    """The features of a data set's examples, in its order."""

    values: Float[np.ndarray, "examples features"]  # float32; those of images that can't be read mean nothing
    labels: Int[np.ndarray, " examples"]  # -1 for images that can't be read
    read: Bool[np.ndarray, " examples"]  # which images can be read

    def take(self, chosen: np.ndarray) -> "Features":
        """Returns the features of the examples of some numbers, or of those where a mask is true."""
        return Features(self.values[chosen], self.labels[chosen], self.read[chosen])


class _Computed(NamedTuple):
    """Features, and what they are of."""

    extractor: "Extractor"
    params: Params
    dataset: Dataset
    features: Features


_computed: contextvars.ContextVar[list[_Computed] | None] = contextvars.ContextVar("computed", default=None)


@contextlib.contextmanager
def computed_once() -> Iterator[None]:
    """Makes extractors remember the features that they have computed, until the context ends.

    The evaluations of one moment, such as a step of training, therefore compute each split once, and between two
    moments nothing is kept.
    """
    token = _computed.set([])
    try:
        yield
    finally:
        _computed.reset(token)


class Extractor:
    """Computes the features of data sets by a model, `model.features(images)`."""

    def __init__(self, learner: Learner, mesh: Mesh):
        def whole(params: Params, batch: Batch) -> Batch:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                features = learner.model(params).features(batch["image"])
            return {"features": features.astype(np.float32), **{key: batch[key] for key in ("label", "mask", "index")}}

        self._whole = jax.jit(whole, out_shardings=NamedSharding(mesh, PartitionSpec()))  # all processes get all rows

    def __call__(
        self, name: str, params: Params, dataset: Dataset, batches: Callable[[Dataset], Generator[Batch]]
    ) -> Features:
        """Returns the features of a data set.

        Inside of `computed_once`, they are taken from those computed before with the same parameters, if all of them
        are among those of one other data set.

        Args:
            name: of the evaluation that asks, for messages.
            params: parameters of the model; those of the task may be among them.
            dataset: each of its examples has one label.
            batches: yields each example of a data set once, sharded over the mesh.

        Raises:
            UserError: a feature is not finite.
        """
        before = _computed.get()
        for other in before or ():
            if other.extractor is self and other.params is params:
                numbers = dataset.numbers_in(other.dataset)
                if numbers is not None:
                    return other.features.take(numbers)
        found = self._compute(name, params, batches(dataset))
        if before is not None:
            before.append(_Computed(self, params, dataset, found))
        return found

    def _compute(self, name: str, params: Params, batches: Generator[Batch]) -> Features:
        fetched = [jax.device_get(self._whole(params, batch)) for batch in batches]
        rows = {key: np.concatenate([batch[key] for batch in fetched]) for key in fetched[0]}
        filled = rows["index"] >= 0  # the last batch may have rows that are left over
        found = Features(rows["features"][filled], rows["label"][filled], rows["mask"][filled] > 0)
        if wrong := not_finite(found.values[found.read]):
            raise UserError(
                f"the evaluation {name!r} gets features from the model that are not finite, for {wrong} of "
                f"{found.read.sum()} images; choose other weights, a lower config.optimizer.learning_rate if they are "
                "being trained, or the dtype float32"
            )
        return found


def not_finite(features: np.ndarray) -> int:
    """Returns how many rows of features (images, features) hold a number that is not finite."""
    return int((~np.isfinite(features).all(axis=1)).sum())


def require_finite(**features: np.ndarray) -> None:
    """Raises UserError if a row of some features (images, features) by name is not finite."""
    for name, values in features.items():
        if wrong := not_finite(values):
            raise UserError(f"{name} are not finite in {wrong} of {len(values)} rows; leave these rows out")
