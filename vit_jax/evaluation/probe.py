"""Linear probe: the classes of test images by logistic regression on frozen features.

The features are standardised by the mean and the standard deviation of those learned from. The weights minimise the sum
of the cross-entropies plus l2 / 2 times the squared weights; the bias is not held back. A tenth of the images of each
class is held out and chooses l2, and with it the weights are fitted again to all images.

scikit-learn fits up to `MOST_VALUES` features, by L-BFGS. It needs all of them at once several times over, so that more
are fitted by mini-batches, in JAX on one device; the log says which.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from vit_jax import streams
from vit_jax.errors import UserError
from vit_jax.evaluation.features import require_finite
from vit_jax.evaluation.learned import open_split
from vit_jax.evaluation.subject import Evaluate, Subject
from vit_jax.models.functional import Params

_LOG = logging.getLogger(__name__)
MOST_VALUES = 2**26  # images times features; 87,381 images of a ViT-B, and 256 MiB in float32
HELD_OUT = 0.1  # share of each class's images, at least one
_MOST_ITERATIONS = 1000  # of L-BFGS
_BATCH, _EPOCHS, _FEWEST_STEPS, _LEARNING_RATE = 1024, 10, 2000, 0.01  # of the fit by mini-batches, with Adam
_ROWS = 16384  # so many images are scored at a time
Features = Float[np.ndarray, "images features"]
Labels = Int[np.ndarray, " images"]


class Scale(NamedTuple):
    """The mean and the standard deviation of features; the latter is 1 where a feature never changes."""

    mean: Float[np.ndarray, " features"]
    std: Float[np.ndarray, " features"]

    @classmethod
    def of(cls, features: Features) -> "Scale":
        mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
        std = np.where(std > 1e-6 * np.abs(mean), std, 1)  # below that, rounding alone tells the images apart
        return cls(mean.astype(np.float32), std.astype(np.float32))

    def __call__(self, features: Features) -> Features:
        return (features.astype(np.float32) - self.mean) / self.std


class Linear(NamedTuple):
    """Fitted weights of standardised features."""

    scale: Scale
    weights: Float[np.ndarray, "features classes"]
    bias: Float[np.ndarray, " classes"]

    def predicted(self, features: Features) -> Labels:
        """Returns the class with the highest score of each image."""
        parts = (features[at : at + _ROWS] for at in range(0, len(features), _ROWS))
        return np.concatenate([(self.scale(x) @ self.weights + self.bias).argmax(axis=1) for x in parts])


Fit = Callable[[Features, Labels, Sequence[float]], list[Linear]]  # features, labels, strengths


def accuracy(
    train_features: Features,
    train_labels: Labels,
    test_features: Features,
    test_labels: Labels,
    *,
    l2: Sequence[float],
    seed: int = 0,
    most_values: int = MOST_VALUES,
) -> float:
    """Returns the accuracy of the probe on the test images.

    Args:
        train_features: of the images learned from, (images, features).
        train_labels: their classes, integers (images,), two or more different ones.
        test_features: (images, features), as many features as those of `train_features`.
        test_labels: their classes.
        l2: the strengths of the regularisation, each above 0, of which the held-out images choose one.
        seed: decides which images are held out, and the order of mini-batches.
        most_values: the largest number of features, of all images learned from, that scikit-learn fits.

    Raises:
        UserError: a feature is not finite, there are fewer than two classes, or no class has a second image to be held
            out and there are several strengths.
    """
    require_finite(train_features=train_features, test_features=test_features)
    classes, labels = np.unique(train_labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"a linear probe tells classes apart, and all images learned from have the one class {classes[0]}; learn "
            "from more images"
        )
    whole = train_features.size <= most_values
    _LOG.info(
        "the probe is fitted %s: %d images of %d features",
        "as a whole, by scikit-learn" if whole else "by mini-batches, in JAX",
        *train_features.shape,
    )
    fit: Fit = fit_whole if whole else lambda *args: fit_by_batches(*args, seed=seed)
    strength = chosen_l2(train_features, labels, l2, fit, seed)
    (linear,) = fit(train_features, labels, [strength])
    return float(np.mean(classes[linear.predicted(test_features)] == test_labels))


def chosen_l2(features: Features, labels: Labels, l2: Sequence[float], fit: Fit, seed: int) -> float:
    """Returns the strength with which most held-out images are right, and of equally good ones the largest.

    `labels` are numbers from 0 without a gap. Raises UserError as `accuracy`.
    """
    if len(l2) == 1:
        return l2[0]
    held = held_out(labels, seed)
    if not held.any():
        raise UserError(
            "no class has a second image, so that none can be held out to choose l2; give one value, or more images"
        )
    strengths, found = sorted(l2, reverse=True), []
    for strength, linear in zip(strengths, fit(features[~held], labels[~held], strengths), strict=True):
        found.append(float(np.mean(linear.predicted(features[held]) == labels[held])))
        _LOG.info("l2 %g: %.4f of %d held-out images are right", strength, found[-1], held.sum())
    return strengths[int(np.argmax(found))]


def held_out(labels: Labels, seed: int) -> np.ndarray:
    """Returns which images are held out, a mask (images,): a tenth of each class drawn at random, but not its last."""
    order = streams.generator(seed, "probe", 0).permutation(len(labels))
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        held[of_class[: min(max(1, round(HELD_OUT * len(of_class))), len(of_class) - 1)]] = True
    return held


def fit_whole(features: Features, labels: Labels, l2: Sequence[float]) -> list[Linear]:
    """Returns the weights for each strength by scikit-learn's LogisticRegression; each fit starts from the one before.

    `labels` are numbers from 0 without a gap.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scale = Scale.of(features)
    x, found = scale(features), []
    model = LogisticRegression(solver="lbfgs", max_iter=_MOST_ITERATIONS, warm_start=True)
    for strength in l2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the log says it
            model.set_params(C=1 / strength).fit(x, labels)
        if max(model.n_iter_) >= _MOST_ITERATIONS:
            _LOG.warning("the probe has not converged in %d iterations with l2 %g", _MOST_ITERATIONS, strength)
        weights, bias = model.coef_.T, model.intercept_
        if weights.shape[1] == 1:  # of two classes it fits the scores of the second alone
            weights, bias = np.pad(weights, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
        found.append(Linear(scale, weights, bias))
    return found


def fit_by_batches(features: Features, labels: Labels, l2: Sequence[float], *, seed: int) -> list[Linear]:
    """Returns the weights for each strength by mini-batches and Adam; one pass over the images serves all strengths.

    `labels` are numbers from 0 without a gap. The order of the images is a function of the seed and the epoch.
    """
    scale, size = Scale.of(features), min(_BATCH, len(features))
    per_epoch = len(features) // size
    steps = max(_EPOCHS * per_epoch, _FEWEST_STEPS)
    decay = jnp.array(l2, jnp.float32) / len(features)  # the loss is a mean over the images
    weights = np.zeros((len(l2), features.shape[1], int(labels.max()) + 1), np.float32)
    params = {"weights": jnp.asarray(weights), "bias": jnp.asarray(weights[:, 0])}
    optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))

    def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        scores = jnp.einsum("bf,sfc->sbc", x, params["weights"]) + params["bias"][:, None]
        entropies = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.broadcast_to(y, scores.shape[:2]))
        return (entropies.mean(axis=1) + decay / 2 * (params["weights"] ** 2).sum(axis=(1, 2))).sum()

    @jax.jit
    def step(params: dict[str, jax.Array], state: optax.OptState, x: jax.Array, y: jax.Array) -> tuple:
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for number in range(steps):
        epoch, batch = divmod(number, per_epoch)
        if batch == 0:
            order = streams.generator(seed, "probe", 1, epoch).permutation(len(features))
        rows = order[batch * size : (batch + 1) * size]
        params, state = step(params, state, scale(features[rows]), labels[rows])
    fitted = jax.device_get(params)
    return [Linear(scale, *pair) for pair in zip(fitted["weights"], fitted["bias"], strict=True)]


def make(subject: Subject) -> Evaluate:
    """Returns a function from parameters to the `accuracy` of the probe.

    It learns from all images of `train_split` that can be read. All images of the evaluation's split are tested that
    are not among them and can be read; `examples` is their number.

    Raises:
        UserError: an image may have several classes or none, the tests have a class that is not learned, or no image is
            left for the tests. The function raises it, too, if a feature is not finite, no test image can be read, or
            the images to learn from are too few.
    """
    split = open_split(subject)

    def evaluate(params: Params) -> dict[str, float]:
        learned, tested = split.known(params)
        try:
            found = accuracy(*learned, *tested, l2=subject.section.l2, seed=subject.seed)
        except UserError as error:
            raise UserError(f"config.evaluations.{subject.name}: {error}") from error
        return {"accuracy": found, "examples": float(len(tested.labels))}

    return evaluate
