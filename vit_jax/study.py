"""Make the runs of a study, and draw figures and a table of their results.

    python -m vit_jax.study --config=configs/study_data_size.py --workdir=/tmp/study

The config is a Python file whose function get_study() returns the runs, followed by :ARGUMENTS if it takes any. With
the argument `tiny` each of the installed studies takes a few minutes. A flag sets a key of the config in all trainings,
--config.mesh.fsdp=4; keys to which the study itself gives several values, and that change results, can't be set so.

If a study was stopped, start the same command again. It continues with the runs that are missing, and a training that
was stopped continues from its newest checkpoint. Results that are there are never made again or thrown away.

    --list         prints each run: its name, what it varies, and whether it is done, in part or missing; trains nothing
    --only=NAME    makes only this run; may be given several times. Several machines that share the workdir, each with
                   other runs, make a study together: one run a TPU slice, say.

These files are written to the workdir: runs/RUN/STAGE/, the folder of a training; runs/RUN/result.json, what was
measured; study.json, a list of all results under `runs`, and of means over them under `means`; table.md; and the
figures, each as PNG and PDF. study.json is written after each run, the table and the figures at the end, from all runs
that are done.

On several hosts, start the same command on each, as for `python -m vit_jax.main`.

Exit codes: 0 the runs are done; 143 saved after SIGTERM, and 130 saved after Ctrl-C: start the command again to
continue; 1 an error, said in one sentence. A run that fails ends the study, and the runs before it are kept.
"""

import sys

from absl import flags

from vit_jax import command_line, config_file
from vit_jax.errors import UserError

_CONFIG = flags.DEFINE_string("config", None, "The study's file, FILE.py or FILE.py:ARGUMENTS.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The study's folder, local or gs://.")
_LIST = flags.DEFINE_bool("list", False, "Print the runs and which of them are done, and end.")
_ONLY = flags.DEFINE_multi_string("only", [], "Make this run alone; may be given several times.")
_check_processes, _join_processes = command_line.define_processes()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if args:
        raise UserError(f"what is {args[0]!r}? runs are named by --only=NAME, and --list prints their names")
    from vit_jax.studies import checks, spec

    study = checks.checked(config_file.result_of(_CONFIG.value, "get_study"), str(_CONFIG.value), overrides)
    wanted = spec.chosen(study, _ONLY.value)
    if _WORKDIR.value is None and not _LIST.value:
        raise UserError("where to? add --workdir=FOLDER")
    _check_processes()
    from etils import epath

    from vit_jax.studies import record

    workdir = None if _WORKDIR.value is None else record.absolute(epath.Path(_WORKDIR.value))
    if _LIST.value:
        states = {run.name: record.MISSING for run in wanted}
        if workdir is not None:
            states = record.states(workdir, study, record.results(workdir, study))
        width = max(len(run.name) for run in wanted)
        command_line.say(*(f"{run.name:<{width}}  {states[run.name]:<7}  {run.title}" for run in wanted))
        return
    assert workdir is not None
    from vit_jax.studies import execute  # imports JAX, which is slow: after the user's mistakes are found

    watch_seconds = _join_processes()
    execute.make(workdir, study, wanted, watch_seconds)
    execute.draw(workdir, study)


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
