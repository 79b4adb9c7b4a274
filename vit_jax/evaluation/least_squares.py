"""Classes from features by regularised least squares, in closed form, on the host.

The features are standardised: the mean of each over the images learned from is subtracted, and the result is divided by
the standard deviation. A constant column is added, whose weights are the bias. The targets of an image are 1 for its
class and -1 for the others, {-1, 1}^K in the few-shot evaluation of 2010.11929, section 4.1. With the features X and
the targets Y, the weights are one of two equal expressions,

    (X^T X + l2)^-1 X^T Y = X^T (X X^T + l2)^-1 Y

of which the one with the smaller matrix is computed. Its eigenvectors and eigenvalues serve for all strengths l2.

Everything is computed in float32, and the eigenvectors by JAX on the CPU, as in the few-shot evaluator that published
numbers come from. Because of the large constant column, rounding moves the eigenvalues by about 1e-3 for each image, so
smaller strengths than that hardly differ.
"""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

_BIAS = 100.0  # the constant column: the larger it is, the less l2 holds the bias back
_SMALLEST_STD = np.float32(1e-5)  # is added, so that a feature that never changes divides by more than 0
_ROWS = 4096  # so many images are scored at a time, because scores of all can need much memory
Features = Float[np.ndarray, "images features"]
Labels = Int[np.ndarray, " images"]


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """What some images with known classes tell of the weights for every strength of l2.

    The smaller matrix is Q diag(eigenvalues) Q^T. The weights are `left` @ diag(1 / (eigenvalues + l2)) @ `right`.
    """

    mean: Float[np.ndarray, " features"]
    std: Float[np.ndarray, " features"]
    eigenvalues: Float[np.ndarray, " rank"]
    left: Float[np.ndarray, "columns rank"]  # columns: the features and the constant one
    right: Float[np.ndarray, "rank classes"]
    projected: Float[np.ndarray, "images rank"]  # the images learned from: Q, or X Q if there are more images
    labels: Labels  # their classes

    @classmethod
    def of(cls, features: Features, labels: Labels, num_classes: int) -> Self:
        """Returns the least squares of some images. `labels` are their classes, from 0 to below `num_classes`."""
        mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        std = features.std(axis=0, dtype=np.float64).astype(np.float32) + _SMALLEST_STD
        x = _columns(features, mean, std)
        targets = _targets(labels, num_classes)
        if x.shape[0] >= x.shape[1]:
            eigenvalues, q = _eigh(x.T @ x)
            return cls(mean, std, eigenvalues, q, q.T @ (x.T @ targets), x @ q, labels)
        eigenvalues, q = _eigh(x @ x.T)
        return cls(mean, std, eigenvalues, x.T @ q, q.T @ targets, q, labels)

    def weights(self, l2: float) -> Float[np.ndarray, "columns classes"]:
        """Returns the weights of the standardised features, and in the last row those of the constant column."""
        return (self.left / (self.eigenvalues + np.float32(l2))) @ self.right

    def predicted(self, features: Features, l2: float) -> Labels:
        """Returns the class with the highest score of each image."""
        weights = self.weights(l2)
        parts = (features[at : at + _ROWS] for at in range(0, len(features), _ROWS))
        return np.concatenate([(_columns(x, self.mean, self.std) @ weights).argmax(axis=1) for x in parts])

    def left_one_out(self, l2: float) -> tuple[float, float]:
        """Returns how well each image that was learned from is predicted if it alone is left out, in closed form.

        The mean and the standard deviation of the features, which no label enters, stay those of all images.

        Returns:
            The share of the images whose class is right, and the mean of the squared differences from the targets.
        """
        images, columns = len(self.labels), len(self.left)
        scale = 1 / (self.eigenvalues + np.float32(l2))
        right, error = 0, 0.0
        for at in range(0, images, _ROWS):
            rows, labels = self.projected[at : at + _ROWS], self.labels[at : at + _ROWS]
            targets = _targets(labels, self.right.shape[1])
            # The residual without an image is its residual with it, divided by 1 - h, where h is the weight of its own
            # target in its score. With fewer images than columns, both are computed without a difference of two
            # numbers that are almost equal.
            if images >= columns:
                residuals = targets - (rows * scale) @ self.right
                rest = np.maximum(1 - (rows**2 @ scale), np.finfo(np.float32).eps)
            else:
                residuals = np.float32(l2) * ((rows * scale) @ self.right)
                rest = np.float32(l2) * (rows**2 @ scale)
            residuals = residuals / rest[:, None]
            right += int(((targets - residuals).argmax(axis=1) == labels).sum())
            error += float(np.square(residuals, dtype=np.float64).sum())
        return right / images, error / (images * self.right.shape[1])


def _columns(features: Features, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Returns the standardised features and the constant column (images, features + 1), float32."""
    return np.pad((features.astype(np.float32) - mean) / std, ((0, 0), (0, 1)), constant_values=_BIAS)


def _targets(labels: Labels, num_classes: int) -> np.ndarray:
    """Returns 1 for the class of each image and -1 for the others, float32 (images, classes)."""
    return np.where(np.asarray(labels)[:, None] == np.arange(num_classes), np.float32(1), np.float32(-1))


def _eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the eigenvalues of a symmetric matrix without negative ones, and its eigenvectors as columns, float32."""
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX was told to use accelerators alone
        device = None
    with jax.default_device(device):
        eigenvalues, vectors = jax.device_get(jnp.linalg.eigh(jnp.asarray(matrix, jnp.float32)))
    return np.maximum(eigenvalues, 0), vectors  # below 0 by rounding alone
