"""Builds the model that a config describes, and reads the weights of `config.init_from` to start from."""

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
from vit_jax.models.class_names import check_same, padded
from vit_jax.models.functional import Params
from vit_jax.models.model import Model
from vit_jax.tasks import make_task

_LOG = logging.getLogger(__name__)
# Fields of the architecture that must be equal in the file of `init_from` and in the config's variant (`pool` and
# `posemb` only if the config sets them). Other fields are taken from the file unless the config sets them.
_STRUCTURE = (
    "patch_size", "width", "depth", "mlp_dim", "tokens_mlp_dim", "num_heads", "stages", "stem_width", "pool", "posemb",
)  # fmt: skip
# Fields of the architecture that describe the training rather than the weights. They are never taken from the file.
_TRAINING = ("dropout", "attention_dropout", "drop_path", "head_bias", "posemb_std", "scan", "remat", "dtype")


def model_of(config: Any, folder: epath.Path | None = None, class_names: tuple[str, ...] | None = None) -> Model:
    """Returns the model that `config` describes, without values for its parameters (`create_state` makes them).

    Args:
        config: a config in any form that `config.typed` accepts.
        folder: a run's folder. If it holds a model.json, the model is built from that, and only `scan` and `remat` are
            taken from `config`.
        class_names: the names of the classes, by label; by default those of the data set.

    Raises:
        UserError: `config.model` is invalid, or the file of `config.init_from` has another architecture or, with
            `init_head=keep`, other classes.
    """
    config = config_lib.typed(config)
    recorded = folder / "model.json" if folder else None
    if recorded and recorded.exists():
        arch, preprocessing, names = read.described(recorded, files.read_json(recorded))
        return abstract(arch.replace(scan=config.model.scan, remat=config.model.remat), preprocessing, names)
    arch, keywords = _variant(config)
    file = None if config.init_from is None else _file(config, arch)
    names = data.class_names(config) if class_names is None else class_names
    keywords = {"num_classes": len(names) if make_task(config.task).classifies else 0, **keywords}
    names = padded(names, keywords["num_classes"]) if keywords["num_classes"] else ()
    arch = arch.replace(**keywords)
    preprocessing = None
    if file is not None:
        if config.init_head == "keep":
            name, count = f"config.init_head=keep: {file.name}", file.architecture.num_classes
            check_same(name, count, file.class_names, names, "leave init_head out for a new head")
        arch, preprocessing = _fine_tuned(file, arch, keywords, config), file.preprocessing
    return abstract(arch, _preprocessing(config.preprocessing, preprocessing, arch.image_size), names)


def check(config: config_lib.Config) -> None:
    """Checks the name and the keys of the model, and `init_from`, without opening the data set.

    Raises:
        UserError: the name of the model or one of its keys is wrong, or `config.init_from` can't be found or fetched.
    """
    _variant(config)
    if config.init_from is not None:
        fetch.local(config.init_from)


def _variant(config: config_lib.Config) -> tuple[Architecture, dict[str, Any]]:
    """Returns the architecture that `config.model` describes, and the keys of that section that are not None."""
    keywords = {key: value for key, value in dataclasses.asdict(config.model).items() if value is not None}
    name = keywords.pop("name")
    keywords = _read_by(name, keywords)
    return variants.named(name, **keywords), keywords


def _preprocessing(
    section: config_lib.Preprocessing, found: Preprocessing | None, size: tuple[int, int]
) -> Preprocessing:
    """Returns the preprocessing for images of `size` (height, width).

    Each value comes from the config's `section` if that sets it, else from `found`, the preprocessing in the file of
    `init_from`, else from the defaults.

    Raises:
        UserError: a value is impossible, such as a `shorter_side` below `size`, or has no effect.
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
    """Returns the parameters in `config.init_from`, adapted to `model`; None if `init_from` is not set.

    Position embeddings are resampled to the model's grid of patches. The head is new, except that
    `config.init_head=keep` takes the head from the file.
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
    """Returns the contents of `config.init_from`.

    Some formats do not store the image size, the kind of position embeddings and the number of heads. For these the
    config's values are used.
    """
    assert config.init_from is not None
    hints = {"posemb": config.model.posemb, "num_heads": getattr(arch, "num_heads", None)}
    return read.read(config.init_from, image_size=arch.image_size, **hints)


def _read_by(name: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Returns those `keywords` that the family of the variant `name` has.

    Raises:
        UserError: the family does not have one of the other keywords, and that keyword is not at its default.
    """
    fields = variants.family(name).fields()
    for key, value in keywords.items():
        if key not in fields and value != getattr(config_lib.Model(), key):
            raise UserError(f"nothing reads config.model.{key}={value!r}: {name} has no {key}; leave it out")
    return {key: value for key, value in keywords.items() if key in fields}


def _fine_tuned(
    file: read.ModelFile, arch: Architecture, keywords: dict[str, Any], config: config_lib.Config
) -> Architecture:
    """Returns the architecture for fine-tuning: the file's, changed by the keys that the config sets.

    Args:
        file: the file of `init_from`.
        arch: the architecture that `config.model` describes.
        keywords: the keys of `config.model` that are set.
        config: the whole config.

    Raises:
        UserError: the file has another family than `arch`, or differs from it in a field of `_STRUCTURE`.
    """
    source = file.architecture
    if source.family != arch.family:
        raise UserError(
            f"config.init_from={config.init_from} holds a model of the family {source.family}, and config.model.name "
            f"is of the family {arch.family}; change config.model.name"
        )
    fixed = [key for key in _STRUCTURE if key in arch.fields() and (key in keywords or key not in ("pool", "posemb"))]
    if keywords.get("patch_size"):
        fixed.remove("patch_size")  # the user asks for another size, so the patch embedding is resized
    if different := [key for key in fixed if getattr(source, key) != getattr(arch, key)]:
        listed = "; ".join(f"{k} is {getattr(source, k)} there and {getattr(arch, k)} here" for k in different)
        raise UserError(f"config.init_from={config.init_from} has another architecture: {listed}; change config.model")
    training = {key: getattr(arch, key) for key in _TRAINING if key in arch.fields()}
    return resulting(source, {**training, **keywords}, new_head=config.init_head == "new")
