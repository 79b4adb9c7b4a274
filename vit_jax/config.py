"""The typed, strict config.

A config file starts from `default()`, an `ml_collections.ConfigDict` with the keys of `schema.py`, and changes it;
`typed` turns that back into the frozen `Config` which the program works with, or says which key is wrong and which
valid one is nearest. What the rest of the package and config files use is imported from here.

Durations are given in one of four units, `_steps`, `_epochs`, `_examples`, `_percent` (of the whole run); setting one
unit clears the others, so that a flag in one unit replaces the file's in another. `durations` converts them all.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from vit_jax.checking import (
    KEYS,
    Key,
    converted,
    differences,
    flatten,
    is_key,
    is_optional,
    key_at,
    keys_of,
    kinds_of,
    not_a_section,
    typed,
    unknown_key,
)
from vit_jax.errors import UserError
from vit_jax.schema import (
    FREE_ON_RESUME,
    UNITS,
    Augmentation,
    Checkpoint,
    Config,
    Data,
    Evaluation,
    Log,
    Mesh,
    Model,
    Optimizer,
    Preprocessing,
    Schedule,
    Task,
    Wandb,
)
from vit_jax.values import MOST

__all__ = [
    "Config", "Model", "Data", "Preprocessing", "Augmentation", "Task", "Optimizer", "Schedule", "Evaluation", "Mesh",
    "Checkpoint", "Log", "Wandb", "UNITS", "MOST", "FREE_ON_RESUME",
    "Section", "default", "evaluation", "typed", "converted", "differences", "flatten",
    "KEYS", "Key", "key_at", "keys_of", "kinds_of", "is_optional", "is_key", "unknown_key",
]  # fmt: skip


class Section(ml_collections.ConfigDict):
    """A ConfigDict whose keys are typed, and in which setting a duration in one unit clears the other units."""

    def __setitem__(self, key, value):
        path = f"{self.__dict__.get('_path', '')}{key}"
        if self.is_locked and key not in self:
            raise UserError(unknown_key(path))
        inner = self._fields.get(key)
        if isinstance(inner, Section) or (path.startswith("evaluations.") and path.count(".") == 1):
            if not isinstance(value, ml_collections.ConfigDict | Mapping):
                raise not_a_section(
                    path, value, next(iter(Evaluation.__dataclass_fields__ if inner is None else inner), "NAME")
                )
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
    """Returns a ConfigDict with every key at its default; optional keys are typed placeholders."""
    section = _section(Config(), "")
    section.evaluations.unlock()
    return section


def evaluation(**changes: Any) -> Section:
    """Returns the section of one evaluation, for `config.evaluations.NAME`."""
    section = _section(Evaluation(), "evaluations.NAME.")
    for key, value in changes.items():
        section[key] = value
    return section


def _section(value: Any, path: str) -> Section:
    """Returns the fields of a dataclass as a locked section; `path` is what its keys begin with, for errors."""
    section = Section()
    object.__setattr__(section, "_path", path)
    for field in dataclasses.fields(value):
        item, key = getattr(value, field.name), path + field.name
        if dataclasses.is_dataclass(item):
            section[field.name] = _section(item, f"{key}.")
        elif isinstance(item, Mapping):
            section[field.name] = inner = Section()
            object.__setattr__(inner, "_path", f"{key}.")
        elif is_optional(key) or len(kinds_of(key)) > 1 or typing.get_origin(kinds_of(key)[0]) is tuple:
            # ConfigDict knows no unions and no tuples of tuples; `typed` checks what goes in.
            kind, *more = kinds_of(key)
            kind = object if more or typing.get_origin(kind) else kind
            section[field.name] = config_dict.FieldReference(item, field_type=kind)
        else:
            section[field.name] = item
    return section.lock()
