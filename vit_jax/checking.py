"""Checks a config against the schema. A key of the schema is named by its dotted path, such as `model.width`."""

import dataclasses
import difflib
import functools
import operator
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from vit_jax import aliases, schema
from vit_jax.errors import UserError
from vit_jax.values import Limits, alternatives, as_hint, either, leaves, wording


class Key(NamedTuple):
    """The description of a key in the schema. See `schema.key` for the fields."""

    kinds: tuple[Any, ...]  # the types of its value; NoneType is among them if the key is optional
    default: Any
    doc: str
    unit: str
    only: tuple[str, ...]
    needs: tuple[str, ...]
    limits: Limits


def keys_of(section: type, prefix: str = "") -> dict[str, Key]:
    """Returns the keys of a dataclass of the schema and of the sections in it, by dotted name.

    Every name starts with `prefix`. Sections of evaluations are not included, because they have names of their own.
    """
    keys: dict[str, Key] = {}
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(field.default):
            keys |= keys_of(type(field.default), f"{prefix}{field.name}.")
        elif field.metadata:
            keys[prefix + field.name] = Key(alternatives(hints[field.name]), field.default, **field.metadata)
    return keys


# All the keys by dotted name. In `evaluations.NAME.split`, NAME stands for the name of any evaluation.
KEYS = {**keys_of(schema.Config), **keys_of(schema.Evaluation, "evaluations.NAME.")}


def key_at(key: str) -> Key:
    """Returns the description of a dotted key.

    Raises:
        KeyError: there is no such key.
    """
    return KEYS[_named(key)]


def kinds_of(key: str) -> tuple[Any, ...]:
    """Returns the types that the dotted `key` accepts, without NoneType."""
    return tuple(kind for kind in key_at(key).kinds if kind is not type(None))


def is_optional(key: str) -> bool:
    """Returns whether the dotted `key` accepts None."""
    return type(None) in key_at(key).kinds


def is_key(key: str) -> bool:
    """Returns whether there is a dotted key of this name."""
    return _named(key) in KEYS


def unknown_key(key: str) -> str:
    """Returns the error message for an unknown dotted key. It suggests a similar key if there is one."""
    valid = {name: known.limits.choices for name, known in KEYS.items()}
    if key.startswith("evaluations.") and key.count(".") == 2:
        valid = {name.replace("NAME", key.split(".")[1]): choices for name, choices in valid.items()}
    return aliases.unknown_key(key, valid)


def _named(key: str) -> str:
    """Returns the dotted key as it is in `KEYS`, where NAME replaces the name of an evaluation."""
    parts = key.split(".")
    if len(parts) >= 3 and parts[0] == "evaluations":  # the name of an evaluation may contain dots
        parts[1:-1] = ["NAME"]
    return ".".join(parts)


def typed(config: schema.Config | Mapping[str, Any] | ml_collections.ConfigDict) -> schema.Config:
    """Checks a ConfigDict or nested dict and returns it as a frozen `Config`.

    Keys that are missing get their defaults. An int may become a float, and a list a tuple. A `Config` is returned
    unchanged, and is not checked again.

    Raises:
        UserError: a key is unknown, a value has the wrong type or is out of range, two values contradict each other, or
            a key differs from its default although the other values leave it without effect.
    """
    if isinstance(config, schema.Config):
        return config
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    checked = _checked(schema.Config, dict(config), "")
    _check_together(checked)
    return checked


def not_a_section(key: str, value: Any, example: str) -> UserError:
    """Returns the error for a `value` that is given for a section instead of a dict; `example` is one of its keys."""
    return UserError(f"config.{key} is {value!r}; it is a section, with keys such as {key}.{example}")


def converted(key: str, value: Any) -> Any:
    """Returns `value` in the type of the dotted `key`. An int may become a float, and a list a tuple.

    Raises:
        UserError: the value has any other wrong type.
    """
    if value is None and is_optional(key):
        return None
    hint = functools.reduce(operator.or_, kinds_of(key))
    try:
        return as_hint(hint, value)
    except TypeError:
        raise UserError(f"config.{key} is {value!r} ({type(value).__name__}); it takes {wording(hint)}") from None


def _checked(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    """Returns an instance of `cls`, a dataclass of the schema, after checking each of the `values` on its own.

    Args:
        cls: the class of a section, or `Config`.
        values: the values of the section, as a nested dict.
        prefix: the dotted name of the section followed by a dot; empty for `Config`.

    Raises:
        UserError: see `typed`.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    result: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in fields:
            raise UserError(unknown_key(key))
        inner = fields[name].default
        if key == "evaluations":
            result[name] = {k: _section(schema.Evaluation, v, f"{key}.{k}") for k, v in _mapping(value, key, "NAME")}
        elif dataclasses.is_dataclass(inner):
            result[name] = _section(type(inner), value, key)
        else:
            result[name] = converted(key, value)
    section = cls(**result)
    for name in fields:
        if is_key(f"{prefix}{name}"):
            _check(section, prefix, name)
    _check_units(section, prefix)
    return section


def _section(cls: type, value: Any, key: str) -> Any:
    """Returns the section `key` as an instance of `cls`. Raises UserError if `value` is not a dict or is invalid."""
    return _checked(cls, dict(_mapping(value, key, dataclasses.fields(cls)[0].name)), f"{key}.")


def _mapping(value: Any, key: str, example: str) -> typing.ItemsView[str, Any]:
    """Returns the items of `value`, the value of the section `key`. Raises UserError if it is not a dict."""
    if not isinstance(value, Mapping):
        raise not_a_section(key, value, example)
    return value.items()


def _check(section: Any, prefix: str, name: str) -> None:
    """Raises UserError if the value of the key `prefix + name` is outside its limits, or has no effect."""
    key, value = f"{prefix}{name}", getattr(section, name)
    known = key_at(key)
    wrong = "" if value is None else known.limits.wrong(value)
    if wrong and known.limits.choices:
        hint = aliases.VALUES.get((key, str(value).lower()))
        outside = next(leaf for leaf in leaves(value) if leaf not in known.limits.choices)
        wrong += f"; {hint}" if hint else _nearest(outside, known.limits.choices)
    if wrong:
        raise UserError(f"config.{key} is {value!r}; {wrong}")
    for other in known.needs if value != known.default else ():
        if not getattr(section, other):
            raise UserError(
                f"nothing reads config.{key}={value!r}: it needs config.{prefix}{other}; set that or leave it out"
            )
    only = known.only if value != known.default else ()
    while only:
        other, allowed = only[0], only[1:]
        found = getattr(section, other)
        if found not in (None, *allowed):
            raise UserError(
                f"nothing reads config.{key}={value!r}: it needs config.{prefix}{other} to be {either(allowed)}, "
                f"and that is {found!r}; leave it out or change one of the two"
            )
        only = key_at(f"{prefix}{other}").only  # where the other key is not read, neither is this one


def _check_units(section: Any, prefix: str) -> None:
    """Raises UserError if a duration of the section is given in two units."""
    given: dict[str, str] = {}
    for field in dataclasses.fields(section):
        stem, _, unit = field.name.rpartition("_")
        if stem and unit in schema.UNITS and getattr(section, field.name) is not None:
            key = f"config.{prefix}{field.name}"
            if stem in given:
                raise UserError(f"{given[stem]} and {key} are both set; keep one")
            given[stem] = key


def _check_together(config: schema.Config) -> None:
    """Raises UserError if the values of two keys contradict each other."""
    if config.init_head == "keep" and config.init_from is None:
        raise UserError("nothing reads config.init_head='keep': it needs config.init_from; set that or leave it out")
    if config.data.subset is not None and config.data.labels_per_class is not None:
        raise UserError(
            f"config.data.subset={config.data.subset} and config.data.labels_per_class={config.data.labels_per_class} "
            "both say how many images are drawn; keep one"
        )
    if config.global_batch_size % config.accumulation_steps:
        raise UserError(
            f"config.global_batch_size={config.global_batch_size} can't be split into "
            f"config.accumulation_steps={config.accumulation_steps} equal micro-batches"
        )
    if config.global_batch_size % config.data.repeats:
        raise UserError(
            f"config.global_batch_size={config.global_batch_size} is no multiple of "
            f"config.data.repeats={config.data.repeats}, so that an image would be repeated in two batches"
        )
    erasing = config.augmentation
    if erasing.erasing_area_min > erasing.erasing_area_max:
        raise UserError(
            f"config.augmentation.erasing_area_min={erasing.erasing_area_min} is above "
            f"config.augmentation.erasing_area_max={erasing.erasing_area_max}; change one of the two"
        )


def _nearest(value: str, choices: tuple[str, ...]) -> str:
    """Returns a question that suggests the choice most similar to `value`, or "" if none is similar."""
    near = difflib.get_close_matches(str(value), choices, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a config by dotted key, such as `{"model.width": 192, …}`.

    Args:
        config: a `Config`, a section of it, or a nested dict.
        prefix: text before each key.
    """
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


def differences(old: Mapping[str, Any], new: schema.Config, free: tuple[str, ...] = schema.FREE_ON_RESUME) -> list[str]:
    """Returns a phrase for each difference between two configs that prevents a run from being resumed.

    Args:
        old: the config that the run recorded, as a nested dict from JSON.
        new: the config to resume with.
        free: keys and sections that may differ.
    """
    # A config recorded by an older version lacks newer keys, which get their defaults.
    before = {k: _plain(v) for k, v in {**flatten(schema.Config()), **flatten(old)}.items()}
    after = {k: _plain(v) for k, v in flatten(new).items()}
    prefixes = tuple(f"{key}." for key in free)
    return [
        f"config.{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not f"{key}.".startswith(prefixes)
    ]


def _plain(value: Any) -> Any:
    """Returns `value` as it would be after writing it to JSON and reading it again: tuples become lists."""
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
