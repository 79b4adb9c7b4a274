"""What a run starts from: the model that its config asks for, and the weights of `config.init_from`."""

import dataclasses
import logging
from typing import Any

from etils import epath

from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.checkpoints import fetch, files, model_file, read
from vit_jax.checkpoints.adapt import adapt, resulting
from vit_jax.errors import UserError
from vit_jax.models import variants
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.class_names import padded
from vit_jax.models.functional import Params
from vit_jax.models.model import Model
from vit_jax.values import first_difference

_LOG = logging.getLogger(__name__)
# What must be the same in the weights and in the config's variant. All else that the config leaves open is the file's.
_STRUCTURE = (
    "patch_size", "width", "depth", "mlp_dim", "tokens_mlp_dim", "num_heads", "stages", "stem_width", "pool", "posemb",
)  # fmt: skip
# What belongs to a training and not to its weights.
_TRAINING = ("dropout", "attention_dropout", "drop_path", "head_bias", "posemb_std", "scan", "remat", "dtype")


def model_of(config: Any, folder: epath.Path | None = None, class_names: tuple[str, ...] | None = None) -> Model:
    """Returns the config's model without its parameters, which `create_state` draws.

    It is that of the run in `folder` where there is one. `class_names` are the data set's unless given.

    Raises:
        UserError: what is wrong with `config.model`, or `config.init_from` has another architecture.
    """
    config = config_lib.typed(config)
    recorded = folder / "model.json" if folder else None
    if recorded and recorded.exists():
        arch, preprocessing, names = read.described(recorded, files.read_json(recorded))
        return abstract(arch.replace(scan=config.model.scan, remat=config.model.remat), preprocessing, names)
    arch, keywords = _variant(config)
    file = None if config.init_from is None else _file(config, arch)
    names = data.class_names(config) if class_names is None else class_names
    keywords = {"num_classes": len(names), **keywords}
    names = padded(names, keywords["num_classes"])
    arch = arch.replace(**keywords)
    preprocessing = None
    if file is not None:
        if config.init_head == "keep":
            _check_classes(file, names, keywords["num_classes"])
        arch, preprocessing = _fine_tuned(file, arch, keywords, config), file.preprocessing
    return abstract(arch, _preprocessing(config.preprocessing, preprocessing, arch.image_size), names)


def check(config: config_lib.Config) -> None:
    """Raises UserError for what is wrong with the model's name and keys, or with `init_from`; no data is opened."""
    _variant(config)
    if config.init_from is not None:
        fetch.local(config.init_from)


def _variant(config: config_lib.Config) -> tuple[Architecture, dict[str, Any]]:
    """Returns the architecture that the config's model section says, and its keys that are set."""
    keywords = {key: value for key, value in dataclasses.asdict(config.model).items() if value is not None}
    name = keywords.pop("name")
    keywords = _read_by(name, keywords)
    return variants.named(name, **keywords), keywords


def _check_classes(file: read.ModelFile, names: tuple[str, ...], count: int) -> None:
    """Raises UserError where the head of a file is not one of the classes trained on."""
    there = file.architecture.num_classes
    if there != count:
        raise UserError(
            f"config.init_head=keep: {file.name} has a head of {there} classes, and {count} are trained on; leave "
            "init_head out for a new head"
        )
    if not file.class_names:
        _LOG.info("%s does not say the names of its classes; its head is kept, since their number agrees", file.name)
    elif differs := first_difference(file.class_names, names):
        label, theirs, ours = differs
        raise UserError(
            f"config.init_head=keep: {file.name} has a head of other classes, such as {theirs!r} "
            f"where {ours!r} is trained on (label {label}); leave init_head out for a new head"
        )


def _preprocessing(
    section: config_lib.Preprocessing, found: Preprocessing | None, size: tuple[int, int]
) -> Preprocessing:
    """At `size` what the config says, else what was found in the file, else the default.

    Raises:
        UserError: a value that can't be, such as a `shorter_side` below the size.
    """
    said = {key: value for key, value in dataclasses.asdict(section).items() if value is not None}
    if "shorter_side" in said:
        said["shorter_side"] = said["shorter_side"] or None
    try:
        result = dataclasses.replace(model_file.at_size(found or Preprocessing(size), size), **said)
    except UserError as error:
        raise UserError(f"config.preprocessing can't be used: {error}") from error
    if said.get("keep_aspect") is not None and result.shorter_side is None:
        raise UserError(
            f"nothing reads config.preprocessing.keep_aspect={said['keep_aspect']}: it needs a shorter_side, and the "
            "whole image is resized here; set config.preprocessing.shorter_side or leave it out"
        )
    return result


def initial_params(config: config_lib.Config, model: Model) -> Params | None:
    """Returns those of `config.init_from`, with positions at the new grid, or None to start from scratch.

    The head is new, or with `config.init_head=keep` the file's.
    """
    if config.init_from is None:
        return None
    file = _file(config, model.arch)
    new_head = config.init_head == "new"
    _LOG.info("starting from %s, with %s head", file.name, "a new" if new_head else "its own")
    if new_head and file.class_names and file.class_names == model.class_names:
        _LOG.info("its head is of the same classes; --config.init_head=keep would keep it")
    return adapt(file.parameters, file.architecture, model.arch, new_head=new_head, name=file.name)


def _file(config: config_lib.Config, arch: Architecture) -> read.ModelFile:
    """What `init_from` holds; the config says what the file can't tell."""
    assert config.init_from is not None
    hints = {"posemb": config.model.posemb, "num_heads": getattr(arch, "num_heads", None)}
    return read.read(config.init_from, image_size=arch.image_size, **hints)


def _read_by(name: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords that the variant's family reads. Raises UserError for another that is not at its default."""
    fields = variants.family(name).fields()
    for key, value in keywords.items():
        if key not in fields and value != getattr(config_lib.Model(), key):
            raise UserError(f"nothing reads config.model.{key}={value!r}: {name} has no {key}; leave it out")
    return {key: value for key, value in keywords.items() if key in fields}


def _fine_tuned(
    file: read.ModelFile, arch: Architecture, keywords: dict[str, Any], config: config_lib.Config
) -> Architecture:
    """The file's architecture with what the config says. Raises UserError where it is another one than `arch`."""
    source = file.architecture
    if source.family != arch.family:
        raise UserError(
            f"config.init_from={config.init_from} holds a model of the family {source.family}, and config.model.name "
            f"is of the family {arch.family}; change config.model.name"
        )
    fixed = [key for key in _STRUCTURE if key in arch.fields() and (key in keywords or key not in ("pool", "posemb"))]
    if keywords.get("patch_size"):
        fixed.remove("patch_size")  # said outright: the patches are resized
    if different := [key for key in fixed if getattr(source, key) != getattr(arch, key)]:
        listed = "; ".join(f"{k} is {getattr(source, k)} there and {getattr(arch, k)} here" for k in different)
        raise UserError(f"config.init_from={config.init_from} has another architecture: {listed}; change config.model")
    training = {key: getattr(arch, key) for key in _TRAINING if key in arch.fields()}
    return resulting(source, {**training, **keywords}, new_head=config.init_head == "new")
