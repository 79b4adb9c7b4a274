"""The command line that all verbs share: absl's flags, `--config.KEY=VALUE`, and how errors and signals end a verb.

Flags that set keys of the config have the syntax of `ml_collections.config_flags`. That module is not used, because it
reports a user's mistakes by tracebacks.
"""

import glob
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags

from vit_jax import config as config_lib
from vit_jax import distributed, logs
from vit_jax.config_file import load_config
from vit_jax.errors import UserError

__all__ = [
    "Override",
    "define_file_keywords",
    "define_model",
    "define_processes",
    "load_config",
    "matches",
    "refuse_config",
    "run",
    "say",
]

flags.disclaim_key_flags()  # flags that this module defines for a verb then appear in the verb's --help
_OVERRIDE = re.compile(r"--?(no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)

Override = tuple[str, str]  # (dotted key, text of the value)


def say(*lines: str) -> None:
    """Prints lines of a verb's result to stdout. Exits quietly, with code 141, if stdout is a pipe that was closed.

    A program such as `head` closes the pipe when it has read enough.
    """
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        # Python flushes stdout once more when it exits, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def matches(text: str) -> list[str]:
    """Returns what a text from the user stands for: the sorted paths that match if it is a pattern, else itself.

    Patterns have `*`, `?` or `[…]`, as in a shell, and `**` for folders at any depth. A path that exists is no pattern,
    and neither is a URL. Raises UserError if nothing matches.
    """
    if "://" in text or not glob.has_magic(text) or os.path.exists(text):
        return [text]
    if not (found := sorted(glob.glob(text, recursive=True))):
        raise UserError(f"nothing matches the pattern {text}; check its spelling and the folder it starts from")
    return found


def refuse_config(verb: str, overrides: list[Override]) -> None:
    """Raises UserError if a verb that takes no config got a flag that sets a key."""
    if overrides:
        raise UserError(f"{verb} takes no config; leave out --config.{overrides[0][0]}")


def define_model() -> Callable[[], str]:
    """Defines the flag --model. Returns a function that returns its value; it raises UserError if there is none."""
    flag = flags.DEFINE_string("model", None, "A run's folder or a checkpoint file.")

    def given() -> str:
        if flag.value is None:
            raise UserError("which model? add --model=FOLDER_OR_FILE")
        return flag.value

    return given


def define_file_keywords() -> Callable[[], dict[str, Any]]:
    """Defines the flags --num_heads, --posemb and --image_size, for what a checkpoint file may not tell.

    Returns a function that is called after the flags are parsed. It returns the flags that are set, as keywords for
    `vit_jax.load`.
    """
    heads = flags.DEFINE_integer("num_heads", None, "Heads, where the file does not tell.", lower_bound=1)
    posemb = flags.DEFINE_string("posemb", None, "Position embeddings of a file without any: sincos2d or none.")
    size = flags.DEFINE_list(
        "image_size", None, "HEIGHT,WIDTH (or HEIGHTxWIDTH) or one number, where the file does not tell."
    )

    def given() -> dict[str, Any]:
        keywords: dict[str, Any] = {"num_heads": heads.value, "posemb": posemb.value}
        if size.value:
            sides = ",".join(size.value).replace("x", ",").split(",")
            try:
                height, width_px = map(int, sides * 2 if len(sides) == 1 else sides)
            except ValueError:
                raise UserError(f"--image_size takes a number or HEIGHT,WIDTH, not {','.join(size.value)}") from None
            keywords["image_size"] = height, width_px
        return {key: value for key, value in keywords.items() if value is not None}

    return given


def define_processes() -> tuple[Callable[[], None], Callable[[], float]]:
    """Defines the flags of a job of several processes, --coordinator and the others.

    Returns two functions that are called after the flags are parsed. The first raises UserError if the flags can't be
    right, and does not import JAX. The second joins this process to the others (see `distributed.join`), hides the
    progress in all processes but the first, and returns --watch_seconds.
    """
    coordinator = flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0, with any free port, for all to meet."
    )
    processes = flags.DEFINE_integer(
        "processes", None, "How many processes there are; 1 is never joined.", lower_bound=1
    )
    process_id = flags.DEFINE_integer("process_id", None, "The number of this one, from 0.", lower_bound=0)
    wait = flags.DEFINE_float("wait_seconds", 300, "How long the first waits for the last process.", lower_bound=1)
    watch = flags.DEFINE_float("watch_seconds", 30, "A process silent for so long ends the job.", lower_bound=1)

    def check() -> None:
        distributed.check(coordinator.value, processes.value, process_id.value)

    def join() -> float:
        together = coordinator.value, processes.value, process_id.value
        if distributed.join(*together, wait.value, watch.value) > 0:
            logging.getLogger(logs.PACKAGE).setLevel(logging.WARNING)
        return watch.value

    return check, join


def run(main: Callable[[list[str], list[Override]], int | None], doc: str) -> None:
    """Runs a verb: parses the command line, calls `main`, and exits with the code that `main` returns.

    A `UserError` is printed to stderr as one sentence, and the exit code is 1. Ctrl-C exits with code 130.

    Args:
        main: takes the positional arguments and the config's overrides, and returns an exit code (None is 0).
        doc: what `--help` prints before the verb's flags.
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
            if not interrupt.args:  # with arguments, the verb has printed already what it has kept
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
    """Splits `argv` into the arguments that set no key of the config, and the overrides of keys.

    An override is `--config.KEY=VALUE` or `--config.KEY VALUE`; for a boolean also `--config.KEY` or `--noconfig.KEY`.
    Raises UserError if a key does not exist or has no value.
    """
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
