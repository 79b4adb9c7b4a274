"""The config of a run, in two forms: one that config files change, and a typed, frozen one that the program reads.

`default()` returns the first form, an `ml_collections.ConfigDict` with the keys of `schema/`. A config file changes
its values. `typed` checks them and returns the second form, a `Config`. A key that does not exist is an error that
names the nearest valid key. The package and config files import all of this from here.

A duration is given in one of four units: `_steps`, `_epochs`, `_examples` or `_percent` (of the whole run). Setting one
unit clears the others, so that a flag in one unit replaces the file's value in another. `durations.in_steps` converts
all durations to steps.
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
    """A ConfigDict with typed keys. Setting a duration in one unit clears the same duration in the other units."""

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
    """Returns a ConfigDict in which every key has its default value. Optional keys are None, but typed."""
    section = _section(Config(), "")
    section.evaluations.unlock()
    return section


def evaluation(**changes: Any) -> Section:
    """Returns the section of one evaluation, to be set as `config.evaluations.NAME`.

    `changes` are keys of `schema.Evaluation` with the values that they have instead of the defaults. Raises UserError
    if a key does not exist or a value has the wrong type.
    """
    section = _section(Evaluation(), "evaluations.NAME.")
    for key, value in changes.items():
        section[key] = value
    return section


def _section(value: Any, path: str) -> Section:
    """Returns the fields of a dataclass as a locked section.

    `path` is the prefix of its dotted keys, such as `model.`, which error messages need.
    """
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
            # ConfigDict can't check unions and tuples of tuples, so these are of type object; `typed` checks them.
            kind, *more = kinds_of(key)
            kind = object if more or typing.get_origin(kind) else kind
            section[field.name] = config_dict.FieldReference(item, field_type=kind)
        else:
            section[field.name] = item
    return section.lock()
