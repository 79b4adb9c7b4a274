"""Parses command lines as the verbs do, without running a verb. Used by test_commands.py.

Standard input has JSON, `{MODULE: [[ARGUMENT, …], …], …}`. Standard output gets JSON, too, `{MODULE: {"flags": [NAME,
…], "errors": [SENTENCE, …]}, …}`. This is a program of its own, because absl keeps all flags of a process in one place.
"""

import importlib
import json
import sys

from absl import flags

from vit_jax import command_line
from vit_jax.errors import UserError


def main() -> None:
    found = {}
    shared = set(flags.FLAGS)
    for module, lines in json.load(sys.stdin).items():
        importlib.import_module(f"vit_jax.{module}")
        errors = []
        for line in lines:
            try:
                rest, _ = command_line._split(line)
                flags.FLAGS([module, *rest])
            except (flags.Error, UserError) as error:
                errors.append(f"{module} {' '.join(line)}: {error}")
            flags.FLAGS.unparse_flags()
        own = set(flags.FLAGS) - shared
        found[module] = {"flags": sorted(own), "errors": errors}
        for name in own:
            delattr(flags.FLAGS, name)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
