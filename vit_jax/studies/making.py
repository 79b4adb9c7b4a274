"""Makes a study of a config file in one call, as the command `study` does."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from vit_jax import config_file, logs
from vit_jax.studies import checks, execute, record, spec
from vit_jax.training.hosts import WATCH_SECONDS


def make_study(
    path: str, workdir: epath.PathLike, overrides: Mapping[str, Any] | None = None, *, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Makes the runs of a study that are missing, and writes study.json, the table and the figures to its folder.

    Args:
        path: the study's file, `FILE.py` or `FILE.py:ARGUMENTS`; installed are `configs/study_*.py`.
        workdir: the study's folder, local or `gs://`, which may hold a part of it.
        overrides: values by their dotted keys, which are set in all trainings.
        only: the names of the runs to make; all if there are none.

    Returns:
        The rows of all runs that are complete: the axes, the measures, `exaflops` and others, as study.json has them.

    Raises:
        UserError: what is wrong with the file, an override, a name, the folder or a run; the runs before it are kept.
        KeyboardInterrupt: after Ctrl-C, and a training is saved: the same call goes on.
    """
    study = checks.checked(config_file.result_of(path, "get_study"), path, tuple((overrides or {}).items()))
    wanted, folder = spec.chosen(study, only), record.absolute(epath.Path(workdir))
    with logs.shown():
        execute.make(folder, study, wanted, WATCH_SECONDS)
        execute.draw(folder, study)
    return record.rows(study, record.results(folder, study))
