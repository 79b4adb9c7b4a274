"""Describes the keys of a config, from the schema: those of one config for `--describe`, and all for docs/config.md.

python -m vit_jax.describe > docs/config.md
"""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from vit_jax import command_line
from vit_jax import config as config_lib
from vit_jax.config import Config, Key
from vit_jax.errors import UserError
from vit_jax.values import either, wording

_HEAD = """# The keys of a config

Made from `vit_jax/schema/` by `python -m vit_jax.describe > docs/config.md`.

Any key is set by a flag, `--config.KEY=VALUE`, or in a config file, `config.KEY = VALUE`. Flags say `None` as `none`.
`python -m vit_jax.main --config=FILE --describe` prints the keys as that config has them, and which of them file and
flags have changed. Of a duration's units one is set, and setting one clears the others.
"""


def description(config: Config, origins: Mapping[str, str]) -> str:
    """Returns a text with each key of a config: its value, where the value comes from, its default and its meaning.

    Args:
        config: the config.
        origins: where the value of each dotted key comes from, as `config_file.with_origins` returns it.
    """
    parts = []
    for name, value in config_lib.flatten(config).items():
        key = config_lib.key_at(name)
        origin = origins[name] if origins[name] == "default" else f"{origins[name]}; default {_text(key.default)}"
        parts.append(f"config.{name} = {_text(value)}  ({origin})\n    {_meaning(key)} [{_takes(key)}]")
    return "\n".join(parts)


def document() -> str:
    """Returns the text of docs/config.md, which has a table of the keys for each section of the config."""
    return "\n".join([_HEAD, *(line for title, cls, prefix in _sections() for line in _table(title, cls, prefix))])


def _sections() -> Iterator[tuple[str, type, str]]:
    """Yields the title, the dataclass and the prefix of the keys (such as `model.`) of each section."""
    yield "The run", Config, ""
    for field in dataclasses.fields(Config):
        if field.name == "evaluations":
            yield "evaluations.NAME", config_lib.Evaluation, "evaluations.NAME."
        elif dataclasses.is_dataclass(field.default):
            yield field.name, type(field.default), f"{field.name}."


def _table(title: str, cls: type, prefix: str) -> Iterator[str]:
    yield from (
        f"## {title}",
        "",
        inspect.getdoc(cls) or "",
        "",
        "| key | default | takes | meaning |",
        "| --- | --- | --- | --- |",
    )
    for field in dataclasses.fields(cls):
        name = f"{prefix}{field.name}"
        if config_lib.is_key(name):
            key = config_lib.key_at(name)
            yield f"| `{name}` | `{_text(key.default)}` | {_takes(key)} | {_meaning(key)} |"
    yield ""


def _takes(key: Key) -> str:
    """Returns which values a key takes: its choices, or its types, bounds and unit."""
    if key.limits.choices:
        return str(key.limits)
    kinds = " or ".join(filter(None, map(wording, key.kinds)))
    return ", ".join(filter(None, [kinds, str(key.limits), f"in {key.unit}" if key.unit else ""]))


def _meaning(key: Key) -> str:
    """Returns what a key means, and under which condition it is read."""
    conditions = [f"{key.only[0]} is {either(key.only[1:])}"] if key.only else []
    conditions += [f"{other} is set" for other in key.needs]
    return key.doc + (f"; read where {' and '.join(conditions)}" if conditions else "")


def _text(value: Any) -> str:
    """Returns a value as a flag takes it; only None is written as in Python."""
    return value if isinstance(value, str) else repr(value)


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if args or overrides:
        raise UserError("describe takes no arguments; it prints the keys of all configs")
    command_line.say(document())


if __name__ == "__main__":
    command_line.run(main, __doc__)
