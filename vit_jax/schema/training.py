"""The sections about what is learned and how."""

import dataclasses

from vit_jax.schema.key import duration, key


@dataclasses.dataclass(frozen=True)
class Task:
    """What the model learns."""

    name: str = key("classification", "the task", choices=("classification", "distillation", "masked_patches"))
    loss: str = key(
        "softmax",
        "softmax: cross-entropy over the classes; sigmoid: binary cross-entropy of each class",
        choices=("softmax", "sigmoid"),
        only=("name", "classification", "distillation"),
    )
    teacher: str | None = key(
        None,
        "model that teaches the classes that it predicts: whatever init_from takes, with the classes of the data",
        only=("name", "distillation"),
    )
    label_smoothing: float = key(
        0.0,
        "share of each label's weight that is spread evenly over all classes",
        least=0,
        below=1,
        only=("loss", "softmax"),
    )
    target: str = key(
        "mean_colour",
        "what is predicted of a masked patch; mean_colour: its mean colour, of 512; downsized: these colours of 4x4 "
        "parts of it; pixels: its values in the model's range, with a squared error",
        choices=("mean_colour", "downsized", "pixels"),
        only=("name", "masked_patches"),
    )
    masked_share: float = key(
        0.5,
        "share of each image's patches that are corrupted and predicted",
        above=0,
        most=1,
        only=("name", "masked_patches"),
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The optimizer.

    Patterns are regular expressions. They are searched in the published names of the parameters, such as
    `Transformer/encoderblock_3/MlpBlock_3/Dense_0/kernel`.
    """

    name: str = key(
        "adam", "algorithm that turns gradients into updates", choices=("adam", "sgd", "lamb", "lion", "adafactor")
    )
    learning_rate: float = key(1e-3, "largest learning rate, after the warm-up", least=0)
    weight_decay: float = key(
        0.0,
        "decoupled weight decay, multiplied by the learning rate (the paper's convention), of kernels only",
        least=0,
    )
    b1: float = key(
        0.9,
        "decay of the mean of gradients; in lion, the share of that mean in an update",
        least=0,
        below=1,
        only=("name", "adam", "lamb", "lion", "adafactor"),
    )
    b2: float = key(
        0.999,
        "decay of the mean of squared gradients; in adafactor, the largest value of that decay; in lion, the decay of "
        "the mean of gradients (0.99 in the paper)",
        least=0,
        below=1,
        only=("name", "adam", "lamb", "lion", "adafactor"),
    )
    eps: float = key(
        1e-8, "number added to the square root of the mean of squared gradients", least=0, only=("name", "adam", "lamb")
    )
    momentum: float = key(0.9, "decay of the accumulated gradients", least=0, below=1, only=("name", "sgd"))
    moment_dtype: str = key(
        "float32",
        "type in which the mean of gradients is stored; in sgd, the accumulated gradients",
        choices=("float32", "bfloat16"),
    )
    offload: bool = key(False, "keep the optimizer's state in the hosts' memory between updates")
    grad_clip_norm: float = key(
        0.0, "gradients with a larger global norm are scaled down to this norm; 0 for no clipping", least=0
    )
    freeze: tuple[str, ...] = key((), "patterns of parameters that are not trained")
    learning_rate_scale: tuple[tuple[str, float], ...] = key(
        (),
        "pairs (pattern, factor): the learning rate of a parameter is multiplied by the factor of the first pattern "
        "found in its name",
        least=0,
    )
    average: float = key(
        0.0,
        "decay of the moving (Polyak) average of the parameters, which is evaluated and written to model.npz; 0 for no"
        " average",
        least=0,
        below=1,
    )
    average_warmup: bool = key(False, "limit the decay of the average to (1 + step) / (10 + step)", needs=("average",))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The learning rate: a linear warm-up from 0, then a decay over the rest of the run. Steps are counted from 0."""

    name: str = key("cosine", "shape of the decay", choices=("cosine", "linear", "constant"))
    warmup_steps: int | None = duration("length of the warm-up", "steps", 0, least=0)
    warmup_epochs: float | None = duration("length of the warm-up", "epochs", least=0)
    warmup_examples: int | None = duration("length of the warm-up", "examples", least=0)
    warmup_percent: float | None = duration("length of the warm-up", "percent", least=0)
    end_learning_rate: float = key(
        0.0, "learning rate at the end of the decay", least=0, only=("name", "cosine", "linear")
    )
