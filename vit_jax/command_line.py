"""What the verbs share: absl's flags, `--config=FILE.py[:ARGUMENTS] --config.KEY=VALUE …`, and how a verb ends.

The config's keys are taken from the command line here and not by `ml_collections.config_flags`, whose errors are
tracebacks; the syntax is the same.
"""

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags

from vit_jax import config as config_lib
from vit_jax import logs
from vit_jax.config_file import load_config
from vit_jax.errors import UserError

__all__ = ["Override", "define_file_keywords", "load_config", "run", "say"]

flags.disclaim_key_flags()  # what is defined here for a verb counts as the verb's, so that its --help shows it
_OVERRIDE = re.compile(r"--?(no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)

Override = tuple[str, str]  # (dotted key, text of the value)


def say(*lines: str) -> None:
    """Prints a verb's result. Where the reader has had enough, as `head` has, that is the end."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        sys.exit(128 + signal.SIGPIPE)


def define_file_keywords() -> Callable[[], dict[str, Any]]:
    """Flags for what a checkpoint file may not tell; returns a function that gives those that are set, for `load`."""
    heads = flags.DEFINE_integer("num_heads", None, "Heads, where the file does not tell.", lower_bound=1)
    posemb = flags.DEFINE_string("posemb", None, "Position embeddings of a file without any: sincos2d or none.")
    size = flags.DEFINE_list("image_size", None, "HEIGHT,WIDTH or one number, where the file does not tell.")

    def given() -> dict[str, Any]:
        keywords: dict[str, Any] = {"num_heads": heads.value, "posemb": posemb.value}
        if size.value:
            try:
                height, width_px = map(int, size.value * 2 if len(size.value) == 1 else size.value)
            except ValueError:
                raise UserError(f"--image_size takes a number or HEIGHT,WIDTH, not {','.join(size.value)}") from None
            keywords["image_size"] = height, width_px
        return {key: value for key, value in keywords.items() if value is not None}

    return given


def run(main: Callable[[list[str], list[Override]], int | None], doc: str) -> None:
    """Parses the command line, calls `main(positional arguments, overrides)` and exits with its code.

    A `UserError` becomes one sentence on stderr and exit code 1; `--help` prints `doc` and the verb's flags.
    """

    def parse(argv: list[str]) -> list[str]:
        if any(re.fullmatch(r"--?help(full|short)?", arg) for arg in argv):
            print(doc.strip(), flags.FLAGS.main_module_help(), sep="\n\nFlags:\n")
            sys.exit(0)
        try:
            rest, found = _split(argv)
            overrides.extend(found)
            return flags.FLAGS(rest)
        except flags.Error as error:
            _end(UserError(f"{error}; --help lists the flags"))
            raise

    def guarded(argv: list[str]) -> None:
        logs.show()
        try:
            sys.exit(main(argv[1:], overrides))
        except UserError as error:
            _end(error)
        except KeyboardInterrupt as interrupt:
            if not interrupt.args:  # else the verb has said what it has kept
                print("error: interrupted", file=sys.stderr)
            sys.exit(130)

    overrides: list[Override] = []
    try:
        app.run(guarded, flags_parser=parse)
    except UserError as error:
        _end(error)


def _end(error: UserError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def _split(argv: list[str]) -> tuple[list[str], list[Override]]:
    """Takes `--config.KEY=VALUE`, `--config.KEY VALUE`, `--config.KEY` and `--noconfig.KEY` out of `argv`."""
    rest, overrides = [], []
    args = iter(argv)
    for arg in args:
        match = _OVERRIDE.fullmatch(arg)
        if not match:
            rest.append(arg)
            continue
        negated, key, text = match.groups()
        if not config_lib.is_key(key):
            raise UserError(config_lib.unknown_key(key))
        if text is None:
            boolean = config_lib.kinds_of(key)[0] is bool
            text = str(not negated) if boolean else next(args, None)
            if text is None:
                raise UserError(f"--config.{key} needs a value: --config.{key}=VALUE")
        overrides.append((key, text))
    return rest, overrides
