"""Reads a model's file or a run's folder: its format, its architecture and, when they are needed, its parameters."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from vit_jax.checkpoints import containers, fetch, files, hints, names, store
from vit_jax.checkpoints.formats import FORMATS, About, Description
from vit_jax.checkpoints.groups import Group, Parameters, check
from vit_jax.errors import UserError
from vit_jax.models.architecture import FAMILIES, Architecture, Preprocessing

FORMAT_VERSION = 1
KEY = "vit_jax"  # the entry in the metadata of a .safetensors that describes the model
# Prefixes of all names in a file: by PyTorch's DataParallel, by trainers, by torch.compile, or because the model was a
# part of a larger one.
_WRAPPERS = ("module.", "model.", "_orig_mod.", "backbone.")
_LOG = logging.getLogger(__name__)


class ModelFile(NamedTuple):
    """A model's file: its parameters by published name, each read when it is asked for, and their description."""

    name: str  # the file, as the user named it
    parameters: Mapping[str, np.ndarray]
    architecture: Architecture
    preprocessing: Preprocessing | None  # None where the file does not say
    class_names: tuple[str, ...]
    format: str  # one of `FORMATS`, or `run` for the checkpoint in a run's folder
    size: int | None = None  # bytes of the file or of all its shards; None for the checkpoint of a run
    files: tuple[epath.Path, ...] = ()  # the files that parameters are read from; empty for the checkpoint of a run


def read(path: epath.PathLike, **keywords: Any) -> ModelFile:
    """Returns the model in a file or a run's folder. Only the headers are read at once, not the parameters.

    Args:
        path: as for `model_file.load`. In a folder, the first of these that exists is read: `model.npz`,
            `model.safetensors`, `model.safetensors.index.json` with its shards, the newest complete checkpoint of the
            run, whose parameters are read at once.
        keywords: fields of the architecture that a file may not tell, such as `num_heads`.

    Raises:
        UserError: there is no checkpoint, its format is not known, or its arrays do not fit the model.
    """
    given = {key: value for key, value in keywords.items() if value is not None}
    local, subtree = fetch.local(path)
    if local.is_dir():
        candidates = (local / f"model{end}" for end in (".npz", ".safetensors", containers.INDEX))
        found = next((file for file in candidates if file.exists()), None)
        if found is None:
            return _read_run(local)
        local = found
    container = containers.open_file(local)
    shapes = container.shapes
    if subtree:
        shapes = {n: s for n, s in shapes.items() if n.startswith((f"{subtree}/", f"params/{subtree}/"))}
        if not shapes:
            raise UserError(f"{local} has no subtree {subtree}")
    if empty := [name for name, shape in shapes.items() if 0 in shape]:
        raise UserError(f"{local} holds {len(empty)} empty arrays, such as {empty[0][:80]}; fetch or convert it again")
    description, groups, file_names, format = _understood(container, shapes, subtree, given)
    parameters = Parameters(container, groups, file_names)
    return ModelFile(str(path), parameters, *description, format, container.size, container.files)


def _understood(
    container: containers.Container, shapes: Mapping[str, containers.Shape], subtree: str, keywords: Mapping[str, Any]
) -> tuple[Description, list[Group], dict[str, str], str]:
    """Finds the format of an open file.

    Args:
        container: the file.
        shapes: the shapes of the arrays to read, by name.
        subtree: a prefix of their names to leave out, or "".
        keywords: what the file can't tell.

    Returns:
        The description of the model; the format's groups; the name in the file of each array that the groups name; and
        the name of the format.

    Raises:
        UserError: no format fits, or the arrays do not fit the model.
    """
    path = container.path
    cut = [f"params/{subtree}/", f"{subtree}/"] if subtree else []
    inner = {next((n[len(c) :] for c in cut if n.startswith(c)), n): n for n in shapes}
    inner = _unwrapped(inner, path)
    for format in FORMATS.values():
        if (renamed := format.rename(inner)) is None:
            continue
        file_names = {name: inner[n] for name, n in renamed.items()}
        found = {name: shapes[file] for name, file in file_names.items()}
        own = path.with_suffix(".json")
        if KEY in container.metadata:
            description = described(path, files.parsed_json(path, container.metadata[KEY]))
        elif path.suffix == ".npz" and own.exists():
            description = described(own, files.read_json(own))
        else:
            about = About(str(path), _beside(path, "config.json"), _beside(path, "preprocessor_config.json"), keywords)
            try:
                description = format.describe(found, about)
            except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
                raise UserError(
                    f"the shapes in {path}, or the config.json beside it, are none of a known model "
                    f"({files.line(error)}); fetch both again"
                ) from error
        _check_class_names(str(path), description)
        groups = format.groups(description.architecture, found)
        check(container, groups, file_names)
        return description, groups, file_names, format.name
    some = ", ".join(name[:80] for name in sorted(shapes)[:3])
    raise UserError(f"{path} is no model of a known format; it has {some or 'no arrays'} …")


def _unwrapped(names: dict[str, str], path: epath.Path) -> dict[str, str]:
    """Returns `names` ({name: name in the file}) with those of `_WRAPPERS` removed that all names begin with."""
    prefix = ""
    while names and (found := next((w for w in _WRAPPERS if all(n.startswith(w) for n in names)), "")):
        names, prefix = {name.removeprefix(found): file for name, file in names.items()}, prefix + found
    if prefix:
        _LOG.info("all names in %s begin with %s, which is left out", path, prefix)
    return names


def _beside(path: epath.Path, name: str) -> dict[str, Any]:
    """Returns the JSON object in the file `name` beside a `.safetensors`.

    It is empty if there is no such file, and for a `.npz`. Raises UserError if the file holds no JSON object.
    """
    found = path.parent / name
    value = {} if path.suffix == ".npz" or not found.exists() else files.read_json(found)
    if not isinstance(value, dict):
        raise UserError(f"{found} is no JSON object; restore it or move it away")
    return value


def _check_class_names(path: str, description: Description) -> None:
    names, count = description.class_names, description.architecture.num_classes
    if not all(isinstance(name, str) for name in names) or len(names) not in (0, count):
        raise UserError(
            f"{path} comes with {len(names)} names of classes where {count} are needed, each a text; mend the list in "
            "the JSON beside it or take it out"
        )


def described(path: epath.PathLike, value: Any) -> Description:
    """Returns the description of a model from the JSON that `write.describe` made.

    Args:
        path: the file that the JSON comes from, for messages.
        value: the JSON.

    Raises:
        UserError: `value` does not describe a model, or a newer vit_jax wrote it.
    """
    try:
        if value["format_version"] > FORMAT_VERSION:
            raise UserError(f"{path} is of format {value['format_version']}, made by a newer vit_jax; update this one")
        arch, class_names = value["architecture"], value["class_names"]
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in value["preprocessing"].items()
        }
        known = {field.name for field in dataclasses.fields(Preprocessing)}
        if value["family"] not in FAMILIES or not settings.keys() <= known or not isinstance(class_names, list):
            raise ValueError("an unknown family or key of the preprocessing, or class_names that are no list")
        return Description(
            FAMILIES[value["family"]].of(**arch),
            Preprocessing(**settings),
            tuple(class_names),
        )
    except UserError as error:
        raise UserError(f"{path} does not describe a model: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} does not describe a model ({files.line(error)}); restore it or move it away"
        ) from error


def _read_run(folder: epath.Path) -> ModelFile:
    params = store.newest_params(folder / store.FOLDER) if (folder / store.FOLDER).exists() else None
    if params is None or not (folder / "model.json").exists():
        raise UserError(hints.no_model_in(folder))
    path = folder / "model.json"
    return ModelFile(str(folder), names.Published(params), *described(path, files.read_json(path)), "run")
