"""Defines all the keys of a config: the name, type, default, meaning and limits of each.

A key is a dataclass field that `key` makes. The checks of configs and architectures, `--describe` and docs/config.md
read the field's metadata, so a key is described only here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vit_jax.values import Limits

UNITS = ("steps", "epochs", "examples", "percent")


def key(default: Any, doc: str, *, unit: str = "", only: tuple[str, ...] = (), **limits: Any) -> Any:
    """Returns the dataclass field of a key.

    Args:
        default: the value of the key if nobody sets it.
        doc: the meaning of the key, in one phrase without a full stop.
        unit: the unit of the value, such as "pixels".
        only: the name of another key in the same section, followed by those of its values with which this key has an
            effect. If empty, this key always has an effect.
        limits: the limits of the value; keywords of `Limits`.
    """
    return dataclasses.field(
        default=default, metadata={"doc": doc, "unit": unit, "only": only, "limits": Limits(**limits)}
    )


def _duration(what: str, unit: str, default: int | None = None, **limits: Any) -> Any:
    """Returns the field of a key that gives the duration `what` in `unit`, one of `UNITS`.

    `limits` are keywords of `Limits`; without any, the duration must be above 0.
    """
    return key(default, f"{what}, in {unit}{' of the run' if unit == 'percent' else ''}", **limits or {"above": 0})


@dataclasses.dataclass(frozen=True)
class Model:
    """The model: the keywords of `vit_jax.create`.

    A key that is None gets its value from the variant, or from the file of `init_from` if that is set; `num_classes`
    comes from the data set. A key that the model's family does not have can't be set.
    """

    # The upper limits are far above every real model. They stop a damaged file from requesting endless time or memory.
    name: str = key("B/16", "the variant, such as R50+B/16, Mixer-B/16 or BiT-R50x1")
    image_size: int | tuple[int, int] = key(
        224, "side of the square images, or (height, width)", least=1, most=2**20, unit="pixels"
    )
    num_classes: int | None = key(
        None, "number of classes, the width of the head; 0 for no head, which can't be trained", least=0, most=2**24
    )
    patch_size: int | tuple[int, int] | None = key(
        None,
        "side of the square patches, or (height, width); in a hybrid, in positions of the ResNet's output",
        least=1,
        unit="pixels",
    )
    width: int | None = key(None, "number of features of each token", least=1, most=2**24)
    depth: int | None = key(None, "number of blocks in the encoder", least=1, most=10_000)
    mlp_dim: int | None = key(
        None, "number of hidden features of each block's MLP; in a Mixer, of its MLP over channels", least=1, most=2**24
    )
    tokens_mlp_dim: int | None = key(
        None, "in a Mixer, number of hidden features of each block's MLP over tokens", least=1, most=2**24
    )
    num_heads: int | None = key(None, "number of heads of the attention", least=1, most=2**24)
    stages: tuple[int, ...] | None = key(
        None,
        "number of units in each stage of the ResNet: of BiT, or of a hybrid, whose ResNet precedes the patches",
        least=1,
    )
    stem_width: int | None = key(
        None, "number of channels after the first convolution of that ResNet", least=1, most=2**24
    )
    attention: str | None = key(
        None,
        "full: attention over all tokens; axial: along the rows and then along the columns, each followed by an MLP",
        choices=("full", "axial"),
    )
    mlp: str | None = key(
        None,
        "nonlinearity of the MLP: the tanh approximation of GELU (as in the original code), exact GELU, or the gated "
        "SwiGLU (2002.05202)",
        choices=("gelu", "gelu_erf", "swiglu"),
    )
    parallel: bool | None = key(
        None, "compute attention and MLP from the same normalised input and add both (2302.05442)"
    )
    qk_norm: bool | None = key(None, "apply a layer norm over each head's features to queries and keys")
    qkv_bias: bool | None = key(None, "whether queries, keys and values have biases")
    key_bias: bool | None = key(None, "whether keys have a bias, too, if `qkv_bias` is set")
    layer_scale: float | None = key(
        None, "initial value of the learned scale of each residual branch (2103.17239); 0 for no scale", least=0
    )
    norm_eps: float | None = key(None, "number added to the variance in norms", least=0)
    norm_after_pool: bool | None = key(None, "apply the final norm to the pooled features instead of to the tokens")
    pool: str | None = key(
        None,
        "what the head reads: the class token, the average of the patches, attention pooling, or the class token and "
        "the average concatenated",
        choices=("tok", "gap", "map", "tok+gap"),
    )
    class_token: bool | None = key(None, "have a class token even if `pool` does not read it")
    registers: int | None = key(
        None, "number of register tokens, which are further special tokens (2309.16588)", least=0, most=2**24
    )
    posemb: str | None = key(
        None,
        "position embeddings: a learned table; two learned tables of half the width, for rows and columns; learned "
        "offsets in the attention; fixed sines and cosines; or none",
        choices=("learned", "learned2d", "relative", "sincos2d", "none"),
    )
    posemb_at: str | None = key(
        None,
        "where position embeddings are added: before the first layer, in each layer with a table of its own, or in "
        "each layer with the same table",
        choices=("stem", "layers", "shared"),
    )
    posemb_std: float | None = key(
        None,
        "standard deviation of the initial position embeddings",
        least=0,
        only=("posemb", "learned", "learned2d", "relative"),
    )
    posemb_resample: str | None = key(
        None,
        "how position embeddings are resampled to another grid of patches",
        choices=("bilinear", "bicubic", "bicubic_antialias"),
    )
    rope: float | None = key(None, "base of 2-D rotary position embeddings, such as 100; 0 for none", least=0)
    rope_coordinates: str | None = key(
        None,
        "coordinates of the rotary positions: indices of rows and columns, or from -1 to 1 over the image",
        choices=("grid", "unit"),
    )
    patchify: str | None = key(
        None,
        "how patches are embedded: by a convolution or by a matrix product, with the same parameters and result",
        choices=("conv", "matmul"),
    )
    pre_logits: int | None = key(
        None, "width of a dense layer with tanh before the head; 0 for none", least=0, most=2**24
    )
    head_bias: float = key(0.0, "initial bias of a new head")
    dropout: float | None = key(None, "dropout rate", least=0, below=1)
    attention_dropout: float | None = key(None, "dropout rate of the attention weights", least=0, below=1)
    drop_path: float | None = key(
        None,
        "stochastic depth: rate at which the last block is dropped; the rates grow linearly from 0 at the first block",
        least=0,
        below=1,
    )
    scan: bool = key(
        True,
        "compile one block and loop over all of them; false unrolls the loop, which makes a step faster and compiling "
        "slower",
    )
    remat: str = key(
        "none",
        "what is kept for the backward pass, which recomputes the rest: everything, results of matrix products, these "
        "in the hosts' memory, or only the input of each block",
        choices=("none", "dots", "offload", "full"),
    )
    dtype: str = key(
        "float32", "type of the computation; parameters are always float32", choices=("float32", "bfloat16")
    )


@dataclasses.dataclass(frozen=True)
class Data:
    """The training images, and how the host reads and crops them."""

    name: str = key(
        "digits",
        "digits, mnist5k, folder (your own images), synthetic, or the name of a data set in TensorFlow Datasets",
    )
    split: str = key("train", "split to train on, such as train[:90%]")
    data_dir: str | None = key(
        None,
        "with folder, the folder DIR of DIR/{train,test}/CLASS/* or DIR/CLASS/*, or with a labels.csv; otherwise the "
        "folder in which TensorFlow Datasets keeps its data sets",
    )
    classes: tuple[int, ...] = key(
        (), "train and evaluate on these classes only, renumbered from 0 in this order; () for all classes", least=0
    )
    labels_per_class: int | None = key(
        None, "train on only this many images of each class, drawn at random with `seed`", above=0
    )
    max_labels: int = key(
        1, "largest number of classes that an image may have; 0 to read no labels", least=0, most=2**16
    )
    crop: str = key(
        "resize",
        "resize the whole image, or a box of random position, area and aspect ratio (1409.4842)",
        choices=("resize", "inception"),
    )
    crop_area_min: float = key(
        0.05, "smallest area of that box, as a share of the image", above=0, most=1, only=("crop", "inception")
    )
    corrupt: str = key(
        "replace",
        "what to do if an image can't be read: replace it by another in training and leave it out of evaluations, or "
        "fail",
        choices=("replace", "fail"),
    )
    exif: str = key("ignore", "whether to turn photographs as their EXIF orientation says", choices=("ignore", "apply"))
    threads: int = key(4, "number of threads that make batches if workers is 0", above=0)
    workers: int = key(0, "number of processes that make batches; with 0, threads of this process make them", least=0)
    num_examples: int = key(1024, "number of training images", above=0, most=10_000_000, only=("name", "synthetic"))
    num_classes: int = key(10, "number of classes", above=0, most=10_000_000, only=("name", "synthetic"))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of the model, in training, in evaluations and wherever the saved model is used.

    Training does not read `shorter_side` and `keep_aspect`; it crops as `data.crop` says. A key that is None gets its
    value from the file of `init_from`. Without `init_from`, the default is to resize the whole image bilinearly and to
    scale pixels to [-1, 1].
    """

    shorter_side: int | None = key(
        None,
        "resize the image so that its shorter side has this length, and crop the centre; 0 to resize the whole image "
        "and not crop",
        least=0,
        unit="pixels",
    )
    keep_aspect: bool | None = key(
        None,
        "with shorter_side, whether resizing keeps the image's aspect ratio; false stretches it to the aspect ratio of"
        " the crop",
    )
    interpolation: str | None = key(
        None, "filter of Pillow for resizing", choices=("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
    )
    mean: tuple[float, float, float] | None = key(None, "mean of each channel, with pixels from 0 to 1")
    std: tuple[float, float, float] | None = key(
        None, "standard deviation of each channel, with pixels from 0 to 1", above=0
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images, which the device makes inside the training step."""

    flip: bool = key(False, "flip each image left to right with probability 1/2")
    rotate_degrees: float = key(0.0, "largest angle of a random rotation, in either direction", least=0, unit="degrees")
    shift_pixels: float = key(0.0, "largest random shift along each side, in either direction", least=0, unit="pixels")
    mixup: float = key(0.0, "alpha of mixup's Beta distribution (1710.09412); 0 for no mixup", least=0)


@dataclasses.dataclass(frozen=True)
class Task:
    """What the model learns."""

    name: str = key("classification", "the task", choices=("classification",))
    loss: str = key(
        "softmax",
        "softmax: cross-entropy over the classes; sigmoid: binary cross-entropy of each class",
        choices=("softmax", "sigmoid"),
    )
    label_smoothing: float = key(
        0.0,
        "share of each label's weight that is spread evenly over all classes",
        least=0,
        below=1,
        only=("loss", "softmax"),
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
    average_warmup: bool = key(False, "limit the decay of the average to (1 + step) / (10 + step)")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The learning rate: a linear warm-up from 0, then a decay over the rest of the run. Steps are counted from 0."""

    name: str = key("cosine", "shape of the decay", choices=("cosine", "linear", "constant"))
    warmup_steps: int | None = _duration("length of the warm-up", "steps", 0, least=0)
    warmup_epochs: float | None = _duration("length of the warm-up", "epochs", least=0)
    warmup_examples: int | None = _duration("length of the warm-up", "examples", least=0)
    warmup_percent: float | None = _duration("length of the warm-up", "percent", least=0)
    end_learning_rate: float = key(
        0.0, "learning rate at the end of the decay", least=0, only=("name", "cosine", "linear")
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation on a split. It runs after the last step, and also at regular intervals if an interval is given."""

    kind: str = key("classification", "kind of the evaluation", choices=("classification",))
    split: str = key("test", "split to evaluate on")
    name: str | None = key(None, "name of the data set; by default that of the training")
    data_dir: str | None = key(None, "folder of the data set, see `data.data_dir`")
    max_labels: int | None = key(None, "like `data.max_labels`, whose value is the default", least=0, most=2**16)
    exclude_train: bool = key(False, "leave out the images of this split that are trained on")
    shorter_side: int | None = key(
        None, "replaces `preprocessing.shorter_side` in this evaluation", least=0, unit="pixels"
    )
    batch_size: int | None = key(
        None, "number of images in each step, over all devices; by default `global_batch_size`", above=0
    )
    every_steps: int | None = _duration("interval between two evaluations", "steps")
    every_epochs: float | None = _duration("interval between two evaluations", "epochs")
    every_examples: int | None = _duration("interval between two evaluations", "examples")
    every_percent: float | None = _duration("interval between two evaluations", "percent")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The sizes of the axes of the device mesh. One of them may be -1, which stands for all the remaining devices."""

    data: int = key(
        -1, "parts that the batch is split into; the only axis that may extend over several slices", least=-1
    )
    fsdp: int = key(1, "parts that the batch, the parameters and the optimizer state are split into", least=-1)
    tensor: int = key(1, "parts that the heads and the hidden features of the MLP are split into", least=-1)
    sequence: int = key(1, "parts that the tokens of an image are split into", least=-1)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are saved. One is always saved at the last step, on SIGTERM and on Ctrl-C."""

    every_steps: int | None = _duration("interval between two checkpoints", "steps", 1000)
    every_epochs: float | None = _duration("interval between two checkpoints", "epochs")
    every_examples: int | None = _duration("interval between two checkpoints", "examples")
    every_percent: float | None = _duration("interval between two checkpoints", "percent")
    keep: int = key(2, "number of newest checkpoints that are kept", above=0)


@dataclasses.dataclass(frozen=True)
class Log:
    """What is logged in addition to metrics.jsonl, which is always written."""

    tensorboard: bool = key(True, "also write event files for TensorBoard")
    parameters: str = key(
        "short",
        "table of parameters at the start: with one line for each group of parameters, or for each parameter",
        choices=("short", "all"),
    )


@dataclasses.dataclass(frozen=True)
class Wandb:
    """Logging to Weights & Biases (W&B), in addition to other logs; needs `pip install 'vit_jax[wandb]'`."""

    project: str | None = key(None, "W&B project that receives the metrics and the config; None to not use W&B")
    entity: str | None = key(None, "user or team that owns the project; by default W&B's own default")
    name: str | None = key(None, "name of the run in W&B; by default the last part of the workdir")
    mode: str = key(
        "online",
        "online sends data during the run; offline keeps them in WORKDIR/wandb for `wandb sync`",
        choices=("online", "offline"),
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """The run. Exactly one of `total_steps`, `total_epochs` and `total_examples` gives its length."""

    seed: int = key(
        0,
        "seed of all random numbers, such as initial weights, order of the images and augmentation",
        least=0,
        most=2**32 - 1,
    )
    total_steps: int | None = _duration("the run", "steps")
    total_epochs: float | None = _duration("the run", "epochs")
    total_examples: int | None = _duration("the run", "examples")
    global_batch_size: int = key(512, "number of images in each step, over all devices and processes", above=0)
    accumulation_steps: int = key(
        1, "number of equal micro-batches whose gradients are added up in a step, which saves memory", above=0
    )
    init_from: str | None = key(
        None,
        "weights to start from: a run's folder, a checkpoint file, or a published AugReg model, such as augreg:B/16",
    )
    init_head: str = key(
        "new",
        "with init_from: start with a new head of zeros, or keep the head of the file, whose classes must be the same",
        choices=("new", "keep"),
    )
    log_steps: int = key(50, "number of steps between two log lines; at most a tenth of the run", above=0)
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
    wandb: Wandb = Wandb()


# Keys, and sections, that may be changed when a run is resumed, because they do not change what is computed.
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
    "wandb",
)
