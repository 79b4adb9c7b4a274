"""The vocabulary of a config: each key's name, type, default, meaning and range, said here and nowhere else.

A key is a field made by `key`, whose metadata the checks, the models, `--describe` and docs/config.md read.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vit_jax.values import Limits

UNITS = ("steps", "epochs", "examples", "percent")


def key(default: Any, doc: str, *, unit: str = "", only: tuple[str, ...] = (), **limits: Any) -> Any:
    """Returns the field of a key.

    Args:
        default: its value where nobody sets it.
        doc: what it means, in one sentence without a full stop.
        unit: of its number.
        only: a key of the same section and the values of that with which this one is read; it is always read if empty.
        limits: of its value, as `Limits` names them.
    """
    return dataclasses.field(
        default=default, metadata={"doc": doc, "unit": unit, "only": only, "limits": Limits(**limits)}
    )


def _duration(what: str, unit: str, default: int | None = None, **limits: Any) -> Any:
    """Returns the field of a duration in one of the units; by default it is above 0."""
    return key(default, f"{what}, in {unit}{' of the run' if unit == 'percent' else ''}", **limits or {"above": 0})


@dataclasses.dataclass(frozen=True)
class Model:
    """The keywords of `vit_jax.create`.

    What is None comes from the variant (with `init_from` from that file), and `num_classes` from the data set. A key
    that the model's family does not read can't be set.
    """

    # The upper limits are far beyond every model, so that a damaged file asks for no time and no memory.
    name: str = key("B/16", "the variant, such as R50+B/16, Mixer-B/16 or BiT-R50x1")
    image_size: int | tuple[int, int] = key(
        224, "a side of the images, or (height, width)", least=1, most=2**20, unit="pixels"
    )
    num_classes: int | None = key(None, "width of the head; 0 for none, which can't be trained", least=0, most=2**24)
    patch_size: int | tuple[int, int] | None = key(
        None, "a side of the patches, or (height, width); of a hybrid on the stem's output", least=1, unit="pixels"
    )
    width: int | None = key(None, "features of a token", least=1, most=2**24)
    depth: int | None = key(None, "blocks of the encoder", least=1, most=10_000)
    mlp_dim: int | None = key(
        None, "hidden features of a block's MLP, of a Mixer that over channels", least=1, most=2**24
    )
    tokens_mlp_dim: int | None = key(None, "of a Mixer, hidden features of the MLP over tokens", least=1, most=2**24)
    num_heads: int | None = key(None, "heads of the attention", least=1, most=2**24)
    stages: tuple[int, ...] | None = key(
        None, "units of each stage of a ResNet: of BiT, or before a hybrid's patches", least=1
    )
    stem_width: int | None = key(None, "channels after that ResNet's first convolution", least=1, most=2**24)
    attention: str | None = key(
        None, "over all tokens, or along rows, then along columns, an MLP after each", choices=("full", "axial")
    )
    mlp: str | None = key(
        None,
        "GELU by its tanh approximation, as published, or exact; or gated (2002.05202)",
        choices=("gelu", "gelu_erf", "swiglu"),
    )
    parallel: bool | None = key(None, "attention and MLP side by side on one norm (2302.05442)")
    qk_norm: bool | None = key(None, "a norm over each head's features on queries and keys")
    qkv_bias: bool | None = key(None, "biases of queries, keys and values")
    key_bias: bool | None = key(None, "with `qkv_bias` that of keys, too")
    layer_scale: float | None = key(None, "initial scale of each branch (2103.17239); 0 for none", least=0)
    norm_eps: float | None = key(None, "added to the variance in norms", least=0)
    norm_after_pool: bool | None = key(None, "the final norm on the pooled features instead of the tokens")
    pool: str | None = key(
        None,
        "what the head reads: class token, average, attention pooling, or the first two side by side",
        choices=("tok", "gap", "map", "tok+gap"),
    )
    class_token: bool | None = key(None, "a class token, also where `pool` does not read it")
    registers: int | None = key(None, "further special tokens (2309.16588)", least=0, most=2**24)
    posemb: str | None = key(
        None,
        "position embeddings: 1-D, two tables of half the width, offsets in the attention, or fixed waves",
        choices=("learned", "learned2d", "relative", "sincos2d", "none"),
    )
    posemb_at: str | None = key(
        None,
        "where they are added: before the first layer, in each layer its own, in each the same",
        choices=("stem", "layers", "shared"),
    )
    posemb_std: float | None = key(
        None, "deviation of their initial values", least=0, only=("posemb", "learned", "learned2d", "relative")
    )
    posemb_resample: str | None = key(
        None, "how they are resampled to another grid", choices=("bilinear", "bicubic", "bicubic_antialias")
    )
    rope: float | None = key(None, "base of 2-D rotary positions, such as 100; 0 for none", least=0)
    rope_coordinates: str | None = key(
        None, "their coordinates: rows and columns, or from -1 to 1 over any image", choices=("grid", "unit")
    )
    patchify: str | None = key(None, "how patches are embedded, with the same numbers", choices=("conv", "matmul"))
    pre_logits: int | None = key(
        None, "width of a dense layer and tanh before the head; 0 for none", least=0, most=2**24
    )
    head_bias: float = key(0.0, "bias of a new head")
    dropout: float | None = key(None, "rate of dropout", least=0, below=1)
    attention_dropout: float | None = key(None, "rate of dropout on the attention's weights", least=0, below=1)
    drop_path: float | None = key(
        None, "stochastic depth: the rate of the last block, growing linearly from 0", least=0, below=1
    )
    scan: bool = key(True, "one compiled block for all; unrolled a step is faster and compiles longer")
    remat: str = key(
        "none",
        "what the backward pass computes again (all but matrix products, or all) or keeps in the hosts' memory",
        choices=("none", "dots", "offload", "full"),
    )
    dtype: str = key("float32", "type of the computation; parameters are float32", choices=("float32", "bfloat16"))


@dataclasses.dataclass(frozen=True)
class Data:
    """The training images, and what the host does to them."""

    name: str = key("digits", "digits, mnist5k, folder, synthetic, or any name in TensorFlow Datasets")
    split: str = key("train", "the images to train on, such as train[:90%]")
    data_dir: str | None = key(
        None, "of folder: DIR/{train,test}/CLASS/* or DIR/CLASS/*; else where TFDS keeps its sets"
    )
    classes: tuple[int, ...] = key(
        (), "these classes only, renumbered from 0 in this order, in evaluations too; () for all", least=0
    )
    labels_per_class: int | None = key(None, "train on so many images of each class, drawn with `seed`", above=0)
    crop: str = key(
        "resize", "plain resize, or a random box of random area and aspect", choices=("resize", "inception")
    )
    crop_area_min: float = key(
        0.05, "least area of that box, as a share of the image", above=0, most=1, only=("crop", "inception")
    )
    corrupt: str = key("replace", "what becomes of an image that can't be read", choices=("replace", "fail"))
    exif: str = key(
        "ignore", "whether photographs are turned as their EXIF orientation says", choices=("ignore", "apply")
    )
    threads: int = key(4, "threads that make batches where workers is 0", above=0)
    workers: int = key(0, "processes that make batches; 0 makes them in threads of this one", least=0)
    num_examples: int = key(1024, "how many images", above=0, most=10_000_000, only=("name", "synthetic"))
    num_classes: int = key(10, "how many classes", above=0, most=10_000_000, only=("name", "synthetic"))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How the model's images are made: in evaluations, in training crops, and by whoever loads the saved model.

    What is None comes from the file of `init_from`; without one the whole image is resized, bilinearly, to [-1, 1].
    """

    shorter_side: int | None = key(
        None, "resize it to this and crop the centre; 0 resizes the whole image", least=0, unit="pixels"
    )
    keep_aspect: bool | None = key(None, "with shorter_side; false squashes the image to a larger one, then crops")
    interpolation: str | None = key(
        None, "Pillow's filter", choices=("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
    )
    mean: tuple[float, float, float] | None = key(None, "of the channels, where pixels are 0 to 1")
    std: tuple[float, float, float] | None = key(None, "their deviation, likewise", above=0)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What the device does to training images inside the step."""

    flip: bool = key(False, "left-right, half of the images")
    rotate_degrees: float = key(0.0, "by up to so much either way", least=0, unit="degrees")
    shift_pixels: float = key(0.0, "by up to so much either way, along each side", least=0, unit="pixels")
    mixup: float = key(0.0, "alpha of the Beta distribution; 0 for none", least=0)


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned."""

    name: str = key("classification", "the task", choices=("classification",))
    loss: str = key("softmax", "cross entropy over the classes, or of each class", choices=("softmax", "sigmoid"))
    label_smoothing: float = key(
        0.0, "share of a label that is spread over all classes", least=0, below=1, only=("loss", "softmax")
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Patterns are regular expressions, searched in the published names, such as `Transformer/encoderblock_3/…`."""

    name: str = key("adam", "the rule of the update", choices=("adam", "sgd", "lamb", "lion", "adafactor"))
    learning_rate: float = key(1e-3, "its peak", least=0)
    weight_decay: float = key(
        0.0, "decoupled, multiplied by the learning rate (the paper's convention), on kernels only", least=0
    )
    b1: float = key(
        0.9, "decay of the mean of gradients", least=0, below=1, only=("name", "adam", "lamb", "lion", "adafactor")
    )
    b2: float = key(
        0.999,
        "decay of the mean of their squares, in adafactor its most; in lion that of the mean of gradients (0.99 in its "
        "paper)",
        least=0,
        below=1,
        only=("name", "adam", "lamb", "lion", "adafactor"),
    )
    eps: float = key(1e-8, "added to the root of that mean", least=0, only=("name", "adam", "lamb"))
    momentum: float = key(0.9, "decay of the sum of gradients", least=0, below=1, only=("name", "sgd"))
    moment_dtype: str = key("float32", "of the first moment, or of the momentum", choices=("float32", "bfloat16"))
    offload: bool = key(False, "its state stays in the hosts' memory between the updates")
    grad_clip_norm: float = key(0.0, "most of the gradient's global norm; 0 for none", least=0)
    freeze: tuple[str, ...] = key((), "patterns of parameters that stay as they are")
    learning_rate_scale: tuple[tuple[str, float], ...] = key(
        (), "pairs (pattern, factor); the first that matches counts", least=0
    )
    average: float = key(0.0, "decay of the Polyak average; 0 for none", least=0, below=1)
    average_warmup: bool = key(False, "whether that decay is at most (1 + step) / (10 + step)")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The learning rate: linear warm-up from 0, then a decay over the rest of the run. The first step counts as 0."""

    name: str = key("cosine", "the decay", choices=("cosine", "linear", "constant"))
    warmup_steps: int | None = _duration("the warm-up", "steps", 0, least=0)
    warmup_epochs: float | None = _duration("the warm-up", "epochs", least=0)
    warmup_examples: int | None = _duration("the warm-up", "examples", least=0)
    warmup_percent: float | None = _duration("the warm-up", "percent", least=0)
    end_learning_rate: float = key(0.0, "what the decay ends at", least=0, only=("name", "cosine", "linear"))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Accuracy and loss on a split; always after the last step, and every so often where a duration is given."""

    kind: str = key("classification", "what is judged, and how", choices=("classification",))
    split: str = key("test", "the images")
    name: str | None = key(None, "the data set; the training one by default")
    data_dir: str | None = key(None, "where it lies, see `data.data_dir`")
    exclude_train: bool = key(False, "leave out the images that training takes from this split")
    shorter_side: int | None = key(None, "in place of the model's, see `preprocessing`", least=0, unit="pixels")
    batch_size: int | None = key(None, "images a step, over all devices; the training one by default", above=0)
    every_steps: int | None = _duration("from one to the next", "steps")
    every_epochs: float | None = _duration("from one to the next", "epochs")
    every_examples: int | None = _duration("from one to the next", "examples")
    every_percent: float | None = _duration("from one to the next", "percent")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The sizes of the mesh's axes; -1, at one of them, takes all remaining devices."""

    data: int = key(-1, "parts of the batch; goes across slices", least=-1)
    fsdp: int = key(1, "parts of the batch, and of parameters and optimizer state", least=-1)
    tensor: int = key(1, "parts of the heads and of the MLP", least=-1)
    sequence: int = key(1, "parts of an image's tokens", least=-1)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is also saved at the last step, on SIGTERM and on Ctrl-C."""

    every_steps: int | None = _duration("from one to the next", "steps", 1000)
    every_epochs: float | None = _duration("from one to the next", "epochs")
    every_examples: int | None = _duration("from one to the next", "examples")
    every_percent: float | None = _duration("from one to the next", "percent")
    keep: int = key(2, "the newest so many stay", above=0)


@dataclasses.dataclass(frozen=True)
class Log:
    """What is told beside metrics.jsonl, which is always written."""

    tensorboard: bool = key(True, "TensorBoard's events, too")
    parameters: str = key(
        "short", "the table at the start: a line for each group, or for each parameter", choices=("short", "all")
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """The run. Its length is given in one unit."""

    seed: int = key(0, "decides all that is drawn: weights, order, augmentation", least=0, most=2**32 - 1)
    total_steps: int | None = _duration("the run", "steps")
    total_epochs: float | None = _duration("the run", "epochs")
    total_examples: int | None = _duration("the run", "examples")
    global_batch_size: int = key(512, "images a step, over all devices and processes", above=0)
    accumulation_steps: int = key(1, "micro-batches that a step adds up", above=0)
    init_from: str | None = key(None, "a run's folder or a checkpoint file to fine-tune, or augreg:B/16")
    init_head: str = key(
        "new", "of init_from: a new head of zeros, or its own, where the classes are equal", choices=("new", "keep")
    )
    log_steps: int = key(50, "steps between log lines; a short run is logged at every tenth of it at least", above=0)
    model: Model = Model()
    data: Data = Data()
    preprocessing: Preprocessing = Preprocessing()
    augmentation: Augmentation = Augmentation()
    task: Task = Task()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    evaluations: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)
    mesh: Mesh = Mesh()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()


# What may differ when a run goes on: nothing here changes the mathematics.
FREE_ON_RESUME = (
    "accumulation_steps",
    "checkpoint",
    "data.threads",
    "data.workers",
    "evaluations",
    "log",
    "log_steps",
    "mesh",
    "model.remat",
    "model.scan",
    "optimizer.offload",
)
