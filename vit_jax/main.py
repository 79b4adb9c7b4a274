"""Train a model, or continue to train it.

    python -m vit_jax.main --config=configs/digits.py --workdir=/tmp/vit_digits

The config is a Python file, followed by :ARGUMENTS if it takes any. A flag can set any key of the config:

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar10 --workdir=gs://bucket/run \\
        --config.init_from=ViT-B_16.npz --config.optimizer.learning_rate=0.01 --config.mesh.fsdp=4

Durations are in steps, epochs, examples or percent: --config.total_epochs=30, --config.checkpoint.every_percent=5.
With --describe nothing is trained. Instead, every key is printed with its value, the value's origin, and its meaning.

If a run was stopped, start the same command again. It continues from the newest checkpoint in the workdir, and the
final weights are the same as without the interruption. These files are written to the workdir: config.json,
metrics.jsonl, TensorBoard events, checkpoints/STEP/ and, at the end, model.npz with model.json, which
`python -m vit_jax.predict --model=WORKDIR IMAGE…` takes.

On several hosts, start the same command on each. TPU pods, GKE, SLURM and Open MPI are detected. Elsewhere, add
--coordinator=HOST:PORT (of process 0) --processes=N --process_id=I to each command; launch/local.py does this for
several processes on one machine. The results do not depend on the number of processes, except for rounding. If one
process fails, all end with its error. If one is silent for --watch_seconds, all end with an error that names it. If one
receives SIGTERM, all save and end.

Exit codes: 0 the training is complete; 143 saved after SIGTERM, and 130 saved after Ctrl-C: start the command again to
continue; 1 an error, said in one sentence. A second Ctrl-C ends the run at once, without saving.
"""

import sys

from absl import flags

from vit_jax import command_line, config_file, describe
from vit_jax.errors import UserError

_CONFIG = flags.DEFINE_string("config", None, "The config file, FILE.py or FILE.py:ARGUMENTS.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, local or gs://.")
_DESCRIBE = flags.DEFINE_bool("describe", False, "Print the config with every key's meaning, and end.")
_check_processes, _join_processes = command_line.define_processes()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if args:
        raise UserError(f"what is {args[0]!r}? keys of the config are set by --config.KEY=VALUE")
    config, origins = config_file.with_origins(_CONFIG.value, overrides)
    if _DESCRIBE.value:
        command_line.say(describe.description(config, origins))
        return
    if _WORKDIR.value is None:
        raise UserError("where to? add --workdir=FOLDER")
    _check_processes()
    from vit_jax.training import loop  # imports JAX, which is slow: after the config is checked

    watch_seconds = _join_processes()
    loop.train(config, _WORKDIR.value, watch_seconds=watch_seconds)


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
