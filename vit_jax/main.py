"""Train a model, or continue to train it.

    python -m vit_jax.main --config=configs/digits.py --workdir=/tmp/vit_digits

The config is a Python file, with :ARGUMENTS where it takes some. Any key of it can be set by a flag:

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar10 --workdir=gs://bucket/run \\
        --config.init_from=ViT-B_16.npz --config.optimizer.learning_rate=0.01 --config.mesh.fsdp=4

Durations are in steps, epochs, examples or percent: --config.total_epochs=30, --config.checkpoint.every_percent=5.
With --describe nothing is trained: every key is printed with its value, where that comes from, and its meaning.

The same command goes on where the last one stopped, from the newest checkpoint in the workdir, to the same weights.
The workdir receives config.json, metrics.jsonl, TensorBoard events, checkpoints/STEP/ and, at the end, model.npz with
model.json, which `python -m vit_jax.predict --model=WORKDIR IMAGE…` takes.

On several hosts each runs the same command. TPU pods, GKE, SLURM and Open MPI are detected; elsewhere each adds
--coordinator=HOST:PORT (of process 0) --processes=N --process_id=I; launch/local.py does so for processes on one
machine. Nothing that the run computes or writes depends on their number, but for rounding. If one fails, all end with
its error; one that gives no sign of life for --watch_seconds is named and ends them too; SIGTERM to one saves on all.

Exit codes: 0 the training is complete; 143 saved after SIGTERM and 130 saved after Ctrl-C, to be started again; 1 an
error, said in one sentence. A second Ctrl-C ends at once.
"""

import logging
import sys

from absl import flags

from vit_jax import command_line, config_file, describe, distributed
from vit_jax.errors import UserError

_CONFIG = flags.DEFINE_string("config", None, "The config file, FILE.py or FILE.py:ARGUMENTS.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, local or gs://.")
_DESCRIBE = flags.DEFINE_bool("describe", False, "Print the config with every key's meaning, and end.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, with any free port, for all to meet.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are; 1 is never joined.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "The number of this one, from 0.", lower_bound=0)
_WAIT = flags.DEFINE_float("wait_seconds", 300, "How long the first waits for the last process.", lower_bound=1)
_WATCH = flags.DEFINE_float("watch_seconds", 30, "A process silent for so long ends the job.", lower_bound=1)


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if args:
        raise UserError(f"what is {args[0]!r}? keys of the config are set by --config.KEY=VALUE")
    config, origins = config_file.with_origins(_CONFIG.value, overrides)
    if _DESCRIBE.value:
        command_line.say(describe.description(config, origins))
        return
    if _WORKDIR.value is None:
        raise UserError("where to? add --workdir=FOLDER")
    together = _COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value
    distributed.check(*together)
    from vit_jax.training import loop  # imports JAX: after the config is known to be right

    if distributed.join(*together, _WAIT.value, _WATCH.value) > 0:
        logging.getLogger("vit_jax").setLevel(logging.WARNING)  # the first process says how it goes
    loop.train(config, _WORKDIR.value, watch_seconds=_WATCH.value)


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
