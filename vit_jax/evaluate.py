"""Evaluate models on the data and with the evaluations of a config.

    python -m vit_jax.evaluate --model=RUN_FOLDER --config=configs/digits.py
    python -m vit_jax.evaluate --model=ViT-B_16.npz --model=augreg:B/16 --json=result.json \\
        --config=configs/transfer.py:B/16,cifar10 --config.global_batch_size=64

--model is a run's folder or the file of a model, or a pattern in quotes, such as 'runs/*/model.npz', that stands for
what it matches. It may be given several times. A model whose head has other classes than the data is refused before any
image is read. The config says the data and the evaluations. Its model, its preprocessing and its settings of the
training are not read, because each model is evaluated at its own image size and with its own preprocessing; flags that
set them are refused. Every example counts once. Examples that an evaluation learns from do not count. At the end, a
table with a row for each model is printed.

--json writes {MODEL: {EVALUATION: {MEASURE: …, "examples": n}}} to a file. The measures are "accuracy", "loss" and the
evaluation's more_measures; "5shot" and "5shot_std" of a few-shot evaluation; "20nn" of nearest neighbours; "accuracy"
of a linear probe.

--predictions writes a line of JSON for each image of each evaluation that reads the head: "model", "evaluation",
"index", "image" (its path or number), "labels" (the numbers of its classes) and "classes", the five most probable ones,
each with its "name", "label" and "probability"; or "error" for an image that can't be read. A program that is killed
leaves whole lines. The images are read once more for it.

On several hosts, start the same command on each, as for `python -m vit_jax.main`. The first one prints and writes.
"""

import contextlib
import logging
import sys
from collections.abc import Mapping

from absl import flags

from vit_jax import command_line, logs
from vit_jax.errors import UserError

_MODEL = flags.DEFINE_multi_string(
    "model", [], "A run's folder, a checkpoint or a pattern; may be given several times."
)
_CONFIG = flags.DEFINE_string("config", None, "The config file, FILE.py or FILE.py:ARGUMENTS.")
_JSON = flags.DEFINE_string("json", None, "Write the measures to this file, too.")
_PREDICTIONS = flags.DEFINE_string("predictions", None, "Write the classes of every image to this file, too.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the files of --json and --predictions if they are there.")
_READ = ("data", "evaluations", "task", "mesh", "seed", "global_batch_size")  # keys and sections of the config
_LOG = logging.getLogger(logs.PACKAGE)
_check_processes, _join_processes = command_line.define_processes()
_FILE_KEYWORDS = command_line.define_file_keywords()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if args:
        raise UserError(f"what is {args[0]!r}? models are named by --model=MODEL")
    if not _MODEL.value:
        raise UserError("which model? add --model=FOLDER_OR_FILE")
    models = [match for name in _MODEL.value for match in command_line.matches(name)]
    if again := [name for name in models if models.count(name) > 1]:
        raise UserError(f"--model={again[0]} is given more than once; name each model once")
    if unread := [key for key, _ in overrides if key.partition(".")[0] not in _READ]:
        raise UserError(f"nothing reads config.{unread[0]}: evaluate takes keys of {', '.join(_READ)}; leave it out")
    config = command_line.load_config(_CONFIG.value, overrides)
    from vit_jax.checkpoints import files

    files.check_places({"--json": _JSON.value, "--predictions": _PREDICTIONS.value}, _OVERWRITE.value)
    _check_processes()
    from vit_jax.evaluation.judge import judge  # imports JAX, which is slow: after the user's mistakes are found
    from vit_jax.evaluation.predictions import Write
    from vit_jax.training.hosts import Hosts

    found = {}
    with Hosts(_join_processes()) as hosts, contextlib.ExitStack() as closing:
        write: Write | None = None
        if _PREDICTIONS.value:  # all processes compute them, and the first one writes
            first = hosts.index == 0
            write = closing.enter_context(files.Lines(_PREDICTIONS.value)).write_json if first else _nothing
        for name, measures in judge(models, config, write, **_FILE_KEYWORDS()):
            found[name] = measures
            for evaluation, values in measures.items():
                _LOG.info("%s: %s: %s", name, evaluation, ", ".join(f"{key} {_text(v)}" for key, v in values.items()))
        if hosts.index == 0:
            command_line.say(*_table(found))
            if _JSON.value:
                files.write_json(_JSON.value, found)


def _nothing(prediction: object) -> None:
    """Takes a prediction, in the processes that write none."""


def _table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Returns the lines of a table with a row for each model, from its measures by evaluation.

    A column is a measure. The name of an evaluation stands above the first of its measures.
    """
    names = list(dict.fromkeys((e, key) for of in found.values() for e, values in of.items() for key in values))
    firsts = [e if number == 0 or names[number - 1][0] != e else "" for number, (e, _) in enumerate(names)]
    rows = [["", *firsts], ["model", *(key for _, key in names)]]
    rows += [
        [model, *(_text(of[e][key]) if key in of.get(e, ()) else "" for e, key in names)] for model, of in found.items()
    ]
    columns = [
        [f"{text:{'>' if number else '<'}{max(map(len, column))}}" for text in column]
        for number, column in enumerate(zip(*rows, strict=True))
    ]
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
