"""The typed, strict config.

The dataclasses below are the whole vocabulary of a config: names, types, defaults and what reads them. A config file
starts from `default()`, an `ml_collections.ConfigDict` with the same keys, and changes it; `typed` turns that back into
the frozen `Config` which the program works with, or says which key is wrong and which valid one is nearest.

Durations are given in one of four units, `_steps`, `_epochs`, `_examples`, `_percent` (of the whole run); setting one
unit clears the others, so that a flag in one unit replaces the file's in another. `durations` converts them all.
"""

import dataclasses
import difflib
import functools
import math
import operator
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from vit_jax import aliases
from vit_jax.errors import UserError
from vit_jax.values import alternatives, as_hint, wording

UNITS = ("steps", "epochs", "examples", "percent")


def _only(key: str, *values: str, default: Any) -> Any:
    """A field that is read only where `key`, in the same section, has one of `values`."""
    return dataclasses.field(default=default, metadata={"only": (key, values)})


def _choice(*values: str, default: str | None = None) -> Any:
    """A string field with one of `values`, the first by default."""
    return dataclasses.field(default=default or values[0], metadata={"choices": values})


def _maybe(*values: str) -> Any:
    """A string field with one of `values`, or None, which leaves it to the variant."""
    return dataclasses.field(default=None, metadata={"choices": values})


@dataclasses.dataclass(frozen=True)
class Model:
    """The keywords of `vit_jax.create`.

    What is None comes from the variant (with `init_from` from that file), and `num_classes` from the data set. A key
    that the model's family does not read can't be set.
    """

    name: str = "B/16"  # or R50+B/16, Mixer-B/16, BiT-R50x1
    image_size: int | tuple[int, int] = 224  # pixels, (height, width) when not square
    num_classes: int | None = None
    patch_size: int | tuple[int, int] | None = None
    width: int | None = None
    depth: int | None = None
    mlp_dim: int | None = None
    tokens_mlp_dim: int | None = None  # of Mixers
    num_heads: int | None = None
    stages: tuple[int, ...] | None = None  # units of each stage of a ResNet: BiT, or before a hybrid's patches
    stem_width: int | None = None  # channels after that ResNet's first convolution
    attention: str | None = _maybe("full", "axial")
    mlp: str | None = _maybe("gelu", "gelu_erf", "swiglu")
    parallel: bool | None = None  # attention and MLP side by side
    qk_norm: bool | None = None
    qkv_bias: bool | None = None
    layer_scale: float | None = None  # initial scale of each branch; 0 for none
    norm_eps: float | None = None
    norm_after_pool: bool | None = None  # the final norm on the pooled features
    pool: str | None = _maybe("tok", "gap", "map", "tok+gap")
    class_token: bool | None = None
    registers: int | None = None  # further special tokens
    posemb: str | None = _maybe("learned", "learned2d", "relative", "sincos2d", "none")
    posemb_at: str | None = _maybe("stem", "layers", "shared")
    posemb_std: float | None = _only("posemb", "learned", "learned2d", "relative", default=None)
    posemb_resample: str | None = _maybe("bilinear", "bicubic", "bicubic_antialias")
    rope: float | None = None  # base of 2-D rotary positions; 0 for none
    patchify: str | None = _maybe("conv", "matmul")
    pre_logits: int | None = None  # width of a dense layer and tanh before the head; 0 for none
    head_bias: float = 0.0
    dropout: float | None = None
    attention_dropout: float | None = None
    drop_path: float | None = None  # stochastic depth: the rate of the last block, growing linearly from 0
    scan: bool = True
    remat: str = _choice("none", "dots", "offload", "full")
    dtype: str = _choice("float32", "bfloat16")  # of the computation; parameters are float32


@dataclasses.dataclass(frozen=True)
class Data:
    """The training images, and what the host does to them."""

    name: str = "digits"  # digits, mnist5k, folder, synthetic, or any name in TensorFlow Datasets
    split: str = "train"
    data_dir: str | None = None  # of `folder`: DIR/{train,test}/CLASS/* or DIR/CLASS/*; else where TFDS keeps its sets
    classes: tuple[int, ...] = ()  # these classes only, renumbered from 0 in this order, in evaluations too; () for all
    labels_per_class: int | None = None  # train on so many images of each class, drawn with `seed`
    crop: str = _choice("resize", "inception")  # plain resize, or a random box of random area and aspect
    crop_area_min: float = _only("crop", "inception", default=0.05)  # share of the image
    corrupt: str = _choice("replace", "fail")
    exif: str = _choice("ignore", "apply")  # apply turns photographs as their EXIF orientation says
    threads: int = 4  # that make batches where workers is 0
    workers: int = 0  # processes that make batches; 0 makes them in threads of this one
    num_examples: int = _only("name", "synthetic", default=1024)
    num_classes: int = _only("name", "synthetic", default=10)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How the model's images are made: in evaluations, in training crops, and by whoever loads the saved model.

    What is None comes from the file of `init_from`; without one the whole image is resized, bilinearly, to [-1, 1].
    """

    shorter_side: int | None = None  # resize it to so many pixels and crop the centre; 0 resizes the whole image
    keep_aspect: bool | None = None  # with shorter_side; false squashes the image to a larger one, then crops
    interpolation: str | None = _maybe("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # as Pillow's
    mean: tuple[float, float, float] | None = None  # of the channels, where pixels are 0 to 1
    std: tuple[float, float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What the device does to training images inside the step."""

    flip: bool = False  # left-right, half of the images
    rotate_degrees: float = 0.0  # up to so much either way
    shift_pixels: float = 0.0  # up to so much either way, along each side
    mixup: float = 0.0  # alpha of the Beta distribution; 0 for none


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned."""

    name: str = _choice("classification")
    loss: str = _choice("softmax", "sigmoid")
    label_smoothing: float = _only("loss", "softmax", default=0.0)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Patterns are regular expressions, searched in the published names, such as `Transformer/encoderblock_3/…`."""

    name: str = _choice("adam", "sgd", "lamb", "lion", "adafactor")
    learning_rate: float = 1e-3  # the peak
    weight_decay: float = 0.0  # decoupled, multiplied by the learning rate (the paper's convention), on kernels only
    b1: float = _only("name", "adam", "lamb", "lion", "adafactor", default=0.9)
    b2: float = _only("name", "adam", "lamb", "lion", "adafactor", default=0.999)  # Lion's paper has 0.99
    eps: float = _only("name", "adam", "lamb", default=1e-8)
    momentum: float = _only("name", "sgd", default=0.9)
    moment_dtype: str = _choice("float32", "bfloat16")  # of the first moment, or of the momentum
    offload: bool = False  # its state stays in the hosts' memory between the updates
    grad_clip_norm: float = 0.0  # of the global norm; 0 for none
    freeze: tuple[str, ...] = ()  # patterns of parameters that stay as they are
    learning_rate_scale: tuple[tuple[str, float], ...] = ()  # (pattern, factor); the first that matches counts
    average: float = 0.0  # decay of the Polyak average; 0 for none
    average_warmup: bool = False  # that decay is at most (1 + step) / (10 + step)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The learning rate: linear warm-up from 0, then a decay over the rest of the run. The first step counts as 0."""

    name: str = _choice("cosine", "linear", "constant")
    warmup_steps: int | None = 0
    warmup_epochs: float | None = None
    warmup_examples: int | None = None
    warmup_percent: float | None = None
    end_learning_rate: float = _only("name", "cosine", "linear", default=0.0)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Accuracy and loss on a split; always after the last step, and every so often where a duration is given."""

    split: str = "test"
    name: str | None = None  # the data set; the training one by default
    data_dir: str | None = None
    exclude_train: bool = False  # leave out the images that training takes from this split
    shorter_side: int | None = None  # in place of the model's, see `preprocessing`
    batch_size: int | None = None  # the training one by default
    every_steps: int | None = None
    every_epochs: float | None = None
    every_examples: int | None = None
    every_percent: float | None = None


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The sizes of the mesh's axes; -1 takes all remaining devices."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is also saved at the last step, on SIGTERM and on Ctrl-C."""

    every_steps: int | None = 1000
    every_epochs: float | None = None
    every_examples: int | None = None
    every_percent: float | None = None
    keep: int = 2  # the newest so many stay


@dataclasses.dataclass(frozen=True)
class Log:
    """What is told beside metrics.jsonl, which is always written."""

    tensorboard: bool = True
    parameters: str = _choice("short", "all")  # the table at the start: a line for each group, or for each parameter


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    total_steps: int | None = None
    total_epochs: float | None = None
    total_examples: int | None = None
    global_batch_size: int = 512  # images a step, over all devices and processes
    accumulation_steps: int = 1  # micro-batches that a step adds up
    init_from: str | None = None  # a run's folder or a checkpoint file to fine-tune
    init_head: str = _choice(
        "new", "keep"
    )  # of init_from: a new head of zeros, or its own, where the classes are equal
    log_steps: int = 50  # a short run is logged at every tenth of it at least
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


class Section(ml_collections.ConfigDict):
    """A ConfigDict whose keys are typed, and in which setting a duration in one unit clears the other units."""

    def __setitem__(self, key, value):
        path = f"{self.__dict__.get('_path', '')}{key}"
        if self.is_locked and key not in self:
            raise UserError(unknown_key(path))
        inner = self._fields.get(key)
        if isinstance(inner, Section) or (path.startswith("evaluations.") and path.count(".") == 1):
            if not isinstance(value, ml_collections.ConfigDict | Mapping):
                example = "split" if inner is None else next(iter(inner), "NAME")
                raise UserError(f"config.{path} is {value!r}; it is a section, with keys such as {path}.{example}")
        elif self.is_locked and not isinstance(value, config_dict.FieldReference):
            value = converted(path, value)
        super().__setitem__(key, value)
        stem, _, unit = key.rpartition("_")
        given = value.get() if isinstance(value, config_dict.FieldReference) else value
        if stem and unit in UNITS and given is not None:
            for other in UNITS:
                sibling = f"{stem}_{other}"
                if other != unit and sibling in self._fields:
                    super().__setitem__(sibling, None)


def default() -> Section:
    """A ConfigDict with every key at its default; optional keys are typed placeholders."""
    section = _section(Config(), "")
    section.evaluations.unlock()
    return section


def evaluation(**changes: Any) -> Section:
    """The section of one evaluation, for `config.evaluations.NAME`."""
    section = _section(Evaluation(), "evaluations.NAME.")
    for key, value in changes.items():
        section[key] = value
    return section


def _section(value: Any, path: str) -> Section:
    """Returns the fields of a dataclass as a locked section; `path` is what its keys begin with, for errors."""
    section = Section()
    object.__setattr__(section, "_path", path)
    for field in dataclasses.fields(value):
        item, kinds = getattr(value, field.name), _kinds(type(value), field.name)
        if dataclasses.is_dataclass(item):
            section[field.name] = _section(item, f"{path}{field.name}.")
        elif isinstance(item, Mapping):
            section[field.name] = inner = Section()
            object.__setattr__(inner, "_path", f"{path}{field.name}.")
        elif type(None) in kinds or len(kinds) > 1 or typing.get_origin(kinds[0]) is tuple:
            # ConfigDict knows no unions and no tuples of tuples; `typed` checks what goes in.
            kind, *more = [k for k in kinds if k is not type(None)]
            kind = object if more or typing.get_origin(kind) else kind
            section[field.name] = config_dict.FieldReference(item, field_type=kind)
        else:
            section[field.name] = item
    return section.lock()


def _kinds(cls: type, name: str) -> tuple[Any, ...]:
    """The types that field `name` of `cls` accepts."""
    return alternatives(typing.get_type_hints(cls)[name])


def _kinds_at(key: str) -> tuple[Any, ...]:
    cls: type = Config
    *parents, name = key.split(".")
    if parents[:1] == ["evaluations"]:
        cls = Evaluation
    elif parents:
        cls = type(getattr(Config(), parents[0]))
    return _kinds(cls, name)


def kinds_of(key: str) -> tuple[Any, ...]:
    """The types that the dotted `key` accepts, None left out."""
    return tuple(kind for kind in _kinds_at(key) if kind is not type(None))


def is_optional(key: str) -> bool:
    return type(None) in _kinds_at(key)


def typed(config: Config | Mapping[str, Any] | ml_collections.ConfigDict) -> Config:
    """Checks a ConfigDict (or a nested dict) and returns it as the frozen `Config`; a `Config` is returned as it is.

    Raises:
        UserError: an unknown key, a wrong type, a value out of range, or a key that the chosen parts do not read.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    checked = _checked(Config, dict(config), "")
    _check_ranges(checked)
    return checked


def _checked(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise UserError(unknown_key(prefix + key))
    result: dict[str, Any] = {}
    for name, value in values.items():
        key, default_value = prefix + name, _default_of(fields[name])
        if name == "evaluations" and cls is Config:
            result[name] = {k: _checked(Evaluation, v, f"{key}.{k}.") for k, v in value.items()}
        elif dataclasses.is_dataclass(default_value):
            if not isinstance(value, Mapping):
                raise UserError(f"config.{key} is a section, with keys such as {_example_key(default_value, key)}")
            result[name] = _checked(type(default_value), value, key + ".")
        else:
            result[name] = converted(key, value)
    section = cls(**result)
    for stem in {name.rpartition("_")[0] for name in fields if name.rpartition("_")[2] in UNITS[1:]}:
        given = [f"{prefix}{stem}_{u}" for u in UNITS if getattr(section, f"{stem}_{u}", None) is not None]
        if len(given) > 1:
            raise UserError(f"config.{given[0]} and config.{given[1]} are both set; keep one")
    for field in fields.values():
        value = getattr(section, field.name)
        choices = field.metadata.get("choices")
        if choices and value not in choices and not (value is None and field.default is None):
            hint = aliases.VALUES.get((f"{prefix}{field.name}", str(value).lower()))
            mend = f"; {hint}" if hint else _nearest(value, choices)
            raise UserError(f"config.{prefix}{field.name} is {value!r}; it can be {_or(choices)}{mend}")
        if "only" in field.metadata and value != _default_of(field):
            other, allowed = field.metadata["only"]
            if getattr(section, other) not in (None, *allowed):
                raise UserError(
                    f"nothing reads config.{prefix}{field.name}={value!r}: it needs config.{prefix}{other} to be "
                    f"{_or(allowed)}, and that is {getattr(section, other)!r}; leave it out or change one of the two"
                )
    return section


def _default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _example_key(section: Any, key: str) -> str:
    return f"config.{key}.{dataclasses.fields(section)[0].name}"


def converted(key: str, value: Any) -> Any:
    """`value` as the type of the dotted `key`: int to float and list to tuple, nothing else.

    Raises:
        UserError: another type.
    """
    if value is None and is_optional(key):
        return None
    hint = functools.reduce(operator.or_, kinds_of(key))
    try:
        return as_hint(hint, value)
    except TypeError:
        raise UserError(f"config.{key} is {value!r} ({type(value).__name__}); it takes {wording(hint)}") from None


_POSITIVE = (
    "data.labels_per_class",
    "data.num_examples",
    "data.num_classes",
    "model.num_classes",
    "global_batch_size",
    "accumulation_steps",
    "log_steps",
    "checkpoint.keep",
    "data.threads",
)
_RATES = ("model.dropout", "model.attention_dropout", "model.drop_path", "optimizer.average", "task.label_smoothing")


MOST = 2**31 - 1  # devices count steps, rows and sizes in int32


def _check_ranges(config: Config) -> None:
    flat = flatten(config)
    for key, value in flat.items():
        for number in _leaves(value):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"config.{key} is {value}; it must be a finite number")
            if isinstance(number, int) and abs(number) > MOST and key != "seed":
                raise UserError(f"config.{key} is {value}; it must be below 2**31")
        unit = key.rpartition("_")[2]
        if key.startswith("total_") or ".every_" in key or key in _POSITIVE:
            if value is not None and value <= 0:
                raise UserError(f"config.{key} is {value}; it must be above 0")
        elif unit in (*UNITS[1:], "degrees", "pixels", "decay", "norm", "rate") and isinstance(value, (int, float)):
            if value < 0:
                raise UserError(f"config.{key} is {value}; it can't be below 0")
        if key.endswith("shorter_side") and value is not None and value < 0:
            raise UserError(f"config.{key} is {value}; it can't be below 0")
        if key in _RATES and value is not None and not 0 <= value < 1:
            raise UserError(f"config.{key} is {value}; it must be at least 0 and below 1")
    if config.optimizer.average_warmup and not config.optimizer.average:
        raise UserError("nothing reads config.optimizer.average_warmup=True: it needs config.optimizer.average above 0")
    if config.init_head == "keep" and config.init_from is None:
        raise UserError("nothing reads config.init_head='keep': it needs config.init_from; set that or leave it out")
    if not 0 <= config.seed < 2**32:
        raise UserError(f"config.seed is {config.seed}; it must be at least 0 and below 2**32")
    if config.global_batch_size % config.accumulation_steps:
        raise UserError(
            f"config.global_batch_size={config.global_batch_size} can't be split into "
            f"config.accumulation_steps={config.accumulation_steps} equal micro-batches"
        )


def _leaves(value: Any) -> list[Any]:
    """Returns what stands in nested tuples, or the value alone."""
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, tuple) else [value]


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"model.width": 192, …}`: the leaves of a config by their dotted keys."""
    items = (
        config.items()
        if isinstance(config, Mapping)
        else ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))
    )
    flat: dict[str, Any] = {}
    for name, value in items:
        if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def valid_keys() -> list[str]:
    """Every dotted key; `NAME` stands for that of an evaluation."""
    keys = list(flatten(Config()))
    return keys + list(flatten(Evaluation(), "evaluations.NAME."))


def is_key(key: str) -> bool:
    parts = key.split(".")
    if len(parts) == 3 and parts[0] == "evaluations":
        parts[1] = "NAME"
    return ".".join(parts) in valid_keys()


def unknown_key(key: str) -> str:
    """Returns the sentence for an unknown key."""
    valid = valid_keys()
    if key.startswith("evaluations.") and key.count(".") == 2:
        valid = [k.replace("NAME", key.split(".")[1]) for k in valid]
    return aliases.unknown_key(key, valid)


def _or(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " or " + values[-1]


def _nearest(value: str, choices: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(value), choices, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def differences(old: Mapping[str, Any], new: Config) -> list[str]:
    """What differs between a run's recorded config (nested, from JSON) and a new one, where that forbids going on."""
    before = {k: _plain(v) for k, v in {**flatten(Config()), **flatten(old)}.items()}  # an older one lacks newer keys
    after = {k: _plain(v) for k, v in flatten(new).items()}
    free = tuple(f"{key}." for key in FREE_ON_RESUME)
    return [
        f"config.{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not f"{key}.".startswith(free)
    ]


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
