"""Plan a job before paying for it: compile the training step of any config for any TPU slice, without a TPU.

    python -m vit_jax.plan --config=configs/pretrain.py:H/14,imagenet2012 --topology=v5e:16x16 --config.mesh.fsdp=128

This prints whether the job fits into the devices' memory, how long a step and the whole run take, and how many bytes
the devices send to each other. If the job does not fit, other settings of it are compiled, and the one that fits with
the fewest chip-hours is recommended.

Files: `--json=FILE` writes the plan as JSON, with the recommended plan under `nearest` and all others that were
compiled under `tried`. The file is written after each plan, so that `--resume` can go on after an interruption.
`--hlo=FILE` writes the text of the compiled program.

Slices and GPUs: `--slices=4` plans for four slices. With `--topology=h100:64` nothing is compiled, and times are
estimated from the number of operations, the size of the gradients and the GPU's published figures.

Several plans in one command:

    --sweep=global_batch_size=1024,2048,4096 --sweep=mesh.fsdp=1,16,64    compiles each combination and ranks them
    --largest                                                             finds the largest batch that fits

A scanned model compiles in a minute or two, an unrolled one in several minutes. Needs libtpu, the TPU compiler:
pip install '.[tpu]'.

Exit codes: 0 there is a plan, whether the job fits or not; 1 an error, said in one sentence; 130 and 143 ended by
Ctrl-C and SIGTERM.
"""

import logging
import os
import pathlib
import sys

from absl import flags

from vit_jax import command_line
from vit_jax import config as config_lib
from vit_jax.errors import UserError

_CONFIG = flags.DEFINE_string("config", None, "The config file, FILE.py or FILE.py:ARGUMENTS.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "The slice, such as v5e:16x16 or v5p:8x8x8; or GPUs, such as h100:64."
)
_SLICES = flags.DEFINE_integer("slices", 1, "How many such slices.")
_JSON = flags.DEFINE_string("json", None, "Write the plan there (with --sweep and --largest a list of plans).")
_RESUME = flags.DEFINE_bool("resume", False, "Keep what --json holds of this very command, and compile the rest.")
_HLO = flags.DEFINE_string("hlo", None, "Write the compiled program's text there.")
_SWEEP = flags.DEFINE_multi_string("sweep", [], "KEY=VALUE,VALUE,… of the config; may be given several times.")
_LARGEST = flags.DEFINE_bool("largest", False, "Find the largest batch that fits.")

_LOG = logging.getLogger(__name__)


def main(args: list[str], overrides: list[command_line.Override]) -> int:
    if args:
        raise UserError(f"what is {args[0]!r}? keys of the config are set by --config.KEY=VALUE")
    axes = [_axis(text) for text in _SWEEP.value]
    if _TOPOLOGY.value is None:
        raise UserError("for which slice? add --topology=v5e:16x16, say")
    if (axes or _LARGEST.value) and _HLO.value:
        raise UserError("--hlo writes one program; leave out --sweep and --largest")
    if _RESUME.value and (_HLO.value or not _JSON.value):
        raise UserError("--resume goes on with the plans of --json=FILE, and without --hlo; set these so")
    if axes and _LARGEST.value:
        raise UserError("--sweep and --largest are two questions; ask one at a time")
    config = command_line.load_config(_CONFIG.value, overrides)
    for file in (_JSON.value, _HLO.value):
        if file and not pathlib.Path(file).absolute().parent.is_dir():
            raise UserError(f"{file} can't be written, because its folder does not exist; make it first")
    # JAX must not take this machine's own TPU, if there is one: what is compiled here is for other devices.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from vit_jax import sharding
    from vit_jax.planning import plans, records, report, search, slices, watch  # imports JAX: after the config's errors

    where = slices.parse(_TOPOLOGY.value, _SLICES.value)
    question = "sweep" if axes else "largest" if _LARGEST.value else "plan"
    made_with = records.made_with(question, config, str(where), where.slices)
    known = records.Records(_JSON.value, made_with, _RESUME.value)
    if known.count:
        _LOG.info("%s keeps %d plans; the rest is compiled", _JSON.value, known.count)
    watch.end_at_signals(known.kept, known.lock)
    texts: list[str] = []

    def compiled(changes) -> plans.Plan:
        changed = command_line.load_config(_CONFIG.value, [*overrides, *changes])
        plan, text = plans.make_plan(changed, where, search.flags(changes))
        if not changes:
            texts.append(text)
        return plan

    make = known.remembering(compiled)
    if axes:
        tried = search.sweep(make, axes)
        command_line.say(report.comparison(tried))
        known.write(tried, complete=True)
        return 0
    if _LARGEST.value:
        if not where.chip.tpu:
            raise UserError(
                f"--largest asks a compiler whether a batch fits, and there is none for {where}; name a TPU"
            )
        sizes = dict(zip(sharding.AXES, sharding.mesh_shape(config.mesh, where.devices, where.slices), strict=True))
        unit = sizes["data"] * sizes["fsdp"]
        tried = search.largest_batch(make, unit * config.accumulation_steps, config.global_batch_size)
        command_line.say(report.comparison(tried))
        known.write(tried, complete=True)
        fitting = [t.plan for t in tried if t.plan and t.plan.fits]
        if not fitting:
            raise UserError(f"on {where} not even a batch of {unit * config.accumulation_steps} images fits")
        largest = fitting[-1].global_batch_size
        command_line.say("", f"the largest batch that fits is {largest:,}, {largest / where.devices:g} a device")
        return 0

    plan = make(())
    command_line.say(report.table(plan))
    tried, nearest = [], None
    if plan.fits is False and where.chip.tpu:
        command_line.say("", "it does not fit; trying what would make it fit")
        tried = list(search.what_fits(make, plan, config))
        nearest = search.cheapest(tried)
        command_line.say(report.comparison(tried))
        if nearest and nearest.plan:
            said = f"it fits with {search.flags(nearest.overrides)}, the fewest chip-hours of what was tried:"
            command_line.say("", said, "", report.table(nearest.plan))
        else:
            command_line.say("nothing of this makes it fit; take a larger slice or a smaller model")
    known.write([search.Tried((), plan, ""), *tried], complete=True, nearest=nearest)
    if _HLO.value:
        if texts[0]:
            pathlib.Path(_HLO.value).write_text(texts[0])
        else:
            _LOG.warning("there is no program to write to %s", _HLO.value)
    return 0


def _axis(text: str) -> tuple[str, list[str]]:
    key, _, values = text.partition("=")
    if not config_lib.is_key(key):
        raise UserError(f"--sweep={text}: {config_lib.unknown_key(key)}")
    if not values:
        raise UserError(f"--sweep={text} has no values; write --sweep={key}=VALUE,VALUE")
    return key, values.split(",")


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
