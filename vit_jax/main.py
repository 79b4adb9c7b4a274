"""Train a model, or continue to train it.

    python -m vit_jax.main --config=configs/digits.py --workdir=/tmp/vit_digits

The config is a Python file, with :ARGUMENTS where it takes some. Any key of it can be set by a flag:

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar10 --workdir=gs://bucket/run \\
        --config.init_from=ViT-B_16.npz --config.optimizer.learning_rate=0.01 --config.mesh.fsdp=4

Durations are in steps, epochs, examples or percent: --config.total_epochs=30, --config.checkpoint.every_percent=5.

The same command goes on where the last one stopped, from the newest checkpoint in the workdir, to the same weights.
The workdir receives config.json, metrics.jsonl, TensorBoard events, checkpoints/STEP/ and, at the end, model.npz with
model.json, which `python -m vit_jax.predict --model=WORKDIR IMAGE…` takes.

Exit codes: 0 the training is complete; 143 saved after SIGTERM, to be started again; 1 an error, said in one sentence.
"""

import sys

from absl import flags

from vit_jax import command_line
from vit_jax.errors import UserError

_CONFIG = flags.DEFINE_string("config", None, "The config file, FILE.py or FILE.py:ARGUMENTS.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, local or gs://.")


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if args:
        raise UserError(f"what is {args[0]!r}? keys of the config are set by --config.KEY=VALUE")
    config = command_line.load_config(_CONFIG.value, overrides)
    if _WORKDIR.value is None:
        raise UserError("where to? add --workdir=FOLDER")
    from vit_jax import training  # imports JAX: after the config is known to be right

    training.train(config, _WORKDIR.value)


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
