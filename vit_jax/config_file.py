"""Loads config files, `FILE.py` or `FILE.py:ARGUMENTS`, and applies overrides of their values.

Values that are given as text have the syntax of `ml_collections.config_flags`. That module is not used, because it
reports a user's mistakes by tracebacks.
"""

import ast
import pathlib
import runpy
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.errors import UserError

# What a file of each kind defines, and the sentence for a command that wants a file of the other kind.
_KINDS = {
    "get_config": "it is the config of one run, which python -m vit_jax.main trains",
    "get_study": "it is a study of several runs, which python -m vit_jax.study makes",
}
_PACKAGE = pathlib.Path(__file__).resolve().parent


def load_config(
    path: str | None, overrides: Mapping[str, Any] | Iterable[str | tuple[str, Any]] = ()
) -> config_lib.Config:
    """Returns the checked config of a file with overrides, as the flags `--config` and `--config.KEY=VALUE` make it.

    Args:
        path: `FILE.py` or `FILE.py:ARGUMENTS`, such as `configs/digits.py:bit`. The file is looked up in the working
            directory first, then in the installed copy.
        overrides: the values that replace the file's. Either a dict such as `{"optimizer.learning_rate": 0.01}`, or a
            list whose items are pairs of a key and a value, or texts such as `"optimizer.learning_rate=0.01"`, with or
            without `--config.` before the key. A value that is a text is converted to the type of its key.

    Raises:
        UserError: there is no such file, the file does not take the arguments, a key does not exist, or a value has the
            wrong type.
    """
    return with_origins(path, overrides)[0]


def with_origins(
    path: str | None, overrides: Mapping[str, Any] | Iterable[str | tuple[str, Any]] = ()
) -> tuple[config_lib.Config, dict[str, str]]:
    """Returns what `load_config` returns, and a dict that says where the value of each dotted key comes from.

    The origin of a value is one of

    - `command line`: an override sets the key, or clears it by setting the same duration in another unit;
    - `file`: the file sets the key to a value other than the default;
    - `default`: neither.
    """
    return overridden(section(path), overrides)


def overridden(
    config: config_lib.Section, overrides: Mapping[str, Any] | Iterable[str | tuple[str, Any]]
) -> tuple[config_lib.Config, dict[str, str]]:
    """Returns what `with_origins` returns, for the config that a file gives; `config` is changed by the overrides."""
    before = config_lib.flatten(config.to_dict())
    pairs = [_pair(override) for override in (overrides.items() if isinstance(overrides, Mapping) else overrides)]
    for key, value in pairs:
        _set(config, key, value)
    after, given = config_lib.flatten(config.to_dict()), {key for key, _ in pairs}

    def origin(key: str) -> str:
        if key in given or after[key] != before.get(key):
            return "command line"
        return "default" if after[key] == config_lib.key_at(key).default else "file"

    checked = config_lib.typed(config)
    return checked, {key: origin(key) if key in after else "default" for key in config_lib.flatten(checked)}


def section(path: str | None) -> config_lib.Section:
    """Returns the unchecked config that `get_config` of a file returns, which another file may change.

    Args:
        path: as in `load_config`.

    Raises:
        UserError: there is no such file, it fails, or `get_config` is missing or returns no config.
    """
    config = result_of(path, "get_config")
    if not isinstance(config, config_lib.Section):
        raise UserError(f"get_config() of {path} gives no config; let it change and return vit_jax.config.default()")
    return config


def result_of(path: str | None, function: str) -> Any:
    """Returns what a function of a config file returns.

    Args:
        path: as in `load_config`.
        function: such as `get_config` or `get_study`. It is called with the text of the arguments, if there are any.

    Raises:
        UserError: there is no such file, it fails, or it does not define the function.
    """
    if path is None:
        raise UserError(f"which config? add --config=FILE.py; installed are {_installed()}")
    found, argument = _find(path), path.partition(":")[2]
    try:
        names = runpy.run_path(str(found))
        if function not in names:
            other = next((what for name, what in _KINDS.items() if name in names), "")
            raise UserError(f"the config file {found} defines no {function}()" + (f"; {other}" if other else ""))
        return names[function](*([argument] if argument else []))
    except UserError:
        raise
    except Exception as error:  # the file is a program of the user's, which may raise any error
        raise UserError(f"the config file {path} failed with {type(error).__name__}: {_one_line(error)}") from error


def check_options(file: str, arguments: str, options: Sequence[str], allowed: Sequence[str], of: str) -> None:
    """Raises UserError if one of the options of a recipe is unknown or given twice.

    Args:
        file: the recipe, such as transfer.py.
        arguments: its arguments, as the user gives them after the colon.
        options: those of the arguments that are options.
        allowed: the options that there are.
        of: what has these options, such as the data set that the arguments name.
    """
    for option in options:
        if option not in allowed or options.count(option) > 1:
            takes = f"each of {', '.join(allowed)} once at most" if allowed else "none"
            raise UserError(f"{file} can't read the option {option!r} of {arguments!r}; {of} takes {takes}")


def _find(path: str) -> pathlib.Path:
    """Returns the place of a config file, from the working directory or else from the installed copy.

    `path` may end with arguments, which do not count. In a clone, the configs lie beside the package and not inside it.
    Raises UserError if there is no such file.
    """
    file = path.partition(":")[0]
    for place in (pathlib.Path(), _PACKAGE, _PACKAGE.parent):
        if (place / file).is_file():
            return place / file
    raise UserError(
        f"no config file {file}, neither in {pathlib.Path.cwd()} nor installed; installed are {_installed()}"
    )


def _installed() -> str:
    folders = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
    return ", ".join(sorted({f"configs/{file.name}" for folder in folders for file in folder.glob("[!_]*.py")}))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _pair(override: str | tuple[str, Any]) -> tuple[str, Any]:
    if not isinstance(override, str):
        return override
    key, given, text = override.removeprefix("--").removeprefix("config.").partition("=")
    if not given:
        raise UserError(f"the override {override!r} has no value; write KEY=VALUE")
    return key, text


def _set(config: Any, key: str, value: Any) -> None:
    if not config_lib.is_key(key):
        raise UserError(config_lib.unknown_key(key))
    *parents, name = key.split(".")
    section = config
    for parent in parents:
        if parent not in section:
            raise UserError(f"there is no config.{key}: the config's evaluations are {', '.join(section) or 'none'}")
        section = section[parent]
    section[name] = _parsed(key, value) if isinstance(value, str) else value


def _parsed(key: str, text: str) -> Any:
    """Returns the value that `text` means for `key`.

    `none` in any case is None for an optional key. A string needs no quotes. A boolean is true, false, 1 or 0, in any
    case. Other values are written as in Python. Raises UserError if the value has the wrong type.
    """
    kinds, optional = config_lib.kinds_of(key), config_lib.is_optional(key)
    if optional and text.lower() == "none":
        return None
    if kinds == (str,):
        return text
    if kinds == (bool,) and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if typing.get_origin(kinds[0]) is tuple and isinstance(value, str):
        value = (value,)  # a single pattern
    return config_lib.converted(key, value)
