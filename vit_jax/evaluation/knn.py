"""Nearest-neighbour evaluation: the classes of test images by a vote of the images with the most similar features.

The similarity is the cosine of the angle between two features. The k nearest images of the split that is learned from
vote for their classes with the weight exp(similarity / 0.07), as in 1805.01978 and 2104.14294 (section 4.1).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from vit_jax import sharding
from vit_jax.errors import UserError
from vit_jax.evaluation.features import require_finite
from vit_jax.evaluation.learned import open_split
from vit_jax.evaluation.subject import Evaluate, Subject
from vit_jax.models.functional import Params

TEMPERATURE = 0.07
_TESTS, _LEARNED = 1024, 16384  # rows of the blocks that are compared at a time, over all devices


def accuracies(
    train_features: Float[np.ndarray, "train features"],
    train_labels: Int[np.ndarray, " train"],
    test_features: Float[np.ndarray, "tests features"],
    test_labels: Int[np.ndarray, " tests"],
    *,
    num_classes: int,
    k: Sequence[int],
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Returns the accuracy on the test images for each number of neighbours, float64 (numbers,).

    Args:
        train_features: of the images that vote, (images, features).
        train_labels: their classes, integers (images,) from 0 to below `num_classes`.
        test_features: (images, features), as many features as those of `train_features`.
        test_labels: their classes.
        num_classes: the number of classes.
        k: the numbers of neighbours, each from 1 to the number of images that vote.
        mesh: the devices that compute; by default one. The test images are split over `data` and `fsdp`.

    Raises:
        UserError: a feature is not finite, or there are fewer images than neighbours.
    """
    require_finite(train_features=train_features, test_features=test_features)
    if max(k) > len(train_features):
        raise UserError(f"k is {max(k)}, and there are {len(train_features)} images to be neighbours; choose a lower k")
    similarities, numbers = neighbours(train_features, test_features, max(k), mesh)
    right = np.zeros(len(k), np.int64)
    for at in range(0, len(test_labels), _TESTS):
        weights = np.exp(similarities[at : at + _TESTS].astype(np.float64) / TEMPERATURE)
        labels = train_labels[numbers[at : at + _TESTS]]
        for place, count in enumerate(k):
            votes = np.zeros((len(labels), num_classes))
            np.add.at(votes, (np.arange(len(labels))[:, None], labels[:, :count]), weights[:, :count])
            right[place] += (votes.argmax(axis=1) == test_labels[at : at + _TESTS]).sum()
    return right / len(test_labels)


def neighbours(
    train_features: Float[np.ndarray, "train features"],
    test_features: Float[np.ndarray, "tests features"],
    count: int,
    mesh: Mesh | None = None,
) -> tuple[Float[np.ndarray, "tests neighbours"], Int[np.ndarray, "tests neighbours"]]:
    """Returns the similarities of the nearest images to each test image, the nearest first, and their numbers.

    Of images that are equally similar, the one with the lower number is nearer. The features stay on the host: the
    devices have a block of each at a time.
    """
    if mesh is None:
        mesh = Mesh(np.array(jax.local_devices()[:1]).reshape((1,) * len(sharding.AXES)), sharding.AXES)
    split, whole = sharding.batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = -(-min(_TESTS, len(test_features)) // shards) * shards
    starts = range(0, len(test_features), rows)
    nearest = [
        (_put(np.full((rows, count), -np.inf, np.float32), split), _put(np.zeros((rows, count), np.int32), split))
        for _ in starts
    ]
    nearer = jax.jit(_nearer, static_argnames="count", out_shardings=(split, split))
    block = min(_LEARNED, len(train_features))
    for first in range(0, len(train_features), block):  # outside, because there are more of them to be moved
        learned = _put(_padded(train_features[first : first + block], block), whole)
        there = len(train_features) - first
        for place, at in enumerate(starts):
            tests = _put(_padded(test_features[at : at + rows], rows), split)
            nearest[place] = nearer(*nearest[place], tests, learned, first, there, count=count)
    gather = jax.jit(lambda x: x, out_shardings=whole)  # every process gets all rows
    parts = [jax.device_get(gather(pair)) for pair in nearest]
    similarities, numbers = (np.concatenate(part)[: len(test_features)] for part in zip(*parts, strict=True))
    return similarities, numbers


def _nearer(
    best: jax.Array,  # (tests, count)
    numbers: jax.Array,  # (tests, count)
    tests: jax.Array,  # (tests, features)
    learned: jax.Array,  # (block, features)
    first: jax.Array,  # the number of the block's first image
    there: jax.Array,  # so many of its rows are images
    *,
    count: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns the similarities and the numbers of the nearest images among the nearest so far and those of a block."""
    similar = jnp.einsum("tf,lf->tl", tests, learned, precision=jax.lax.Precision.HIGHEST)
    rows = jnp.arange(len(learned))
    similar = jnp.where(rows < there, similar, -jnp.inf)
    numbers = jnp.concatenate([numbers, jnp.broadcast_to(first + rows, similar.shape)], axis=1)
    best, places = jax.lax.top_k(jnp.concatenate([best, similar], axis=1), count)
    return best, jnp.take_along_axis(numbers, places, axis=1)


def _padded(features: np.ndarray, rows: int) -> np.ndarray:
    """Returns features divided by their lengths, float32, filled up with zeros to a number of rows."""
    features = features.astype(np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.pad(features / np.where(length > 0, length, 1), ((0, rows - len(features)), (0, 0)))


def _put(array: np.ndarray, placed: NamedSharding) -> jax.Array:
    """Returns an array that each process has whole as one of the mesh."""
    return jax.make_array_from_callback(array.shape, placed, lambda index: array[index])


def make(subject: Subject) -> Evaluate:
    """Returns a function from parameters to the accuracies by number of neighbours, such as `20nn`.

    All images of `train_split` that can be read vote. All images of the evaluation's split are tested that are not
    among them and can be read; `examples` is their number.

    Raises:
        UserError: an image may have several classes or none, there are fewer images than neighbours, the tests have a
            class that is not learned, or no image is left for the tests. The function raises it, too, if a feature is
            not finite, or too few images can be read.
    """
    section, split = subject.section, open_split(subject)

    def check(images: int, which: str) -> None:
        if max(section.k) > images:
            raise UserError(
                f"config.evaluations.{subject.name}.k has {max(section.k)}, and its train_split {section.train_split} "
                f"has {images} images{which}; choose lower numbers of neighbours or a larger train_split"
            )

    check(split.images, "")

    def evaluate(params: Params) -> dict[str, float]:
        learned, tested = split.known(params)
        check(len(learned.labels), " that can be read")
        found = accuracies(*learned, *tested, num_classes=split.num_classes, k=section.k, mesh=subject.mesh)
        values = {f"{count}nn": float(value) for count, value in zip(section.k, found, strict=True)}
        return {**values, "examples": float(len(tested.labels))}

    return evaluate
