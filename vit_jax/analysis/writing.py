"""Writes an analysis to a folder: the figures, the numbers behind them, and the report."""

import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping

import numpy as np
from etils import epath

from vit_jax import figures
from vit_jax.analysis.measuring import Analysis
from vit_jax.analysis.photographs import DPI
from vit_jax.analysis.report import report
from vit_jax.analysis.sections import NAMES, sections
from vit_jax.analysis.sections import figures as figures_of
from vit_jax.checkpoints import files
from vit_jax.errors import UserError

NUMBERS, REPORT = "analysis.npz", "report.html"
_OURS = re.compile(rf"({'|'.join(NAMES)}|attention_\d+_(\d+|mean))(_\d+)?\.(png|pdf)")


def write(
    analysis: Analysis,
    folder: epath.PathLike,
    about: Mapping[str, str],
    *,
    overwrite: bool = False,
    progress: Callable[[str], object] = lambda name: None,
) -> None:
    """Writes the figures as PNG and PDF, `analysis.npz` and `report.html` to a folder, which is made if it is missing.

    Nothing is written before everything is drawn. The report is written last, and then figures of an earlier analysis
    that this one does not have are removed. Other files in the folder are left as they are.

    Args:
        analysis: what `measure` returns.
        folder: a folder, local or in a bucket.
        about: lines for the head of the report, by their headings, such as `{"model": …}`.
        overwrite: whether an earlier analysis in the folder is replaced.
        progress: is called with the name of each figure before it is drawn.

    Raises:
        UserError: as `check_folder`, or the folder can't be written.
    """
    folder = epath.Path(folder)
    check_folder(folder, overwrite)
    try:
        with tempfile.TemporaryDirectory() as temporary, figures.style():
            made = _drawn(analysis, about, pathlib.Path(temporary), progress)
            folder.mkdir(parents=True, exist_ok=True)
            for path in made:
                with files.replacing(folder / path.name) as partial:
                    partial.write_bytes(path.read_bytes())
        for stale in _earlier(folder):
            if stale.name not in [path.name for path in made]:
                stale.unlink()
    except OSError as error:
        raise UserError(f"{folder} can't be written ({error}); mend that or name another folder") from error


def _drawn(
    analysis: Analysis, about: Mapping[str, str], place: pathlib.Path, progress: Callable[[str], object]
) -> list[pathlib.Path]:
    """Writes all files to a local folder, and returns them, the report last."""
    drawn: list[pathlib.Path] = []
    for section in sections(analysis.maps):
        if section.name not in analysis.arrays:
            continue
        for name, figure in figures_of(section, analysis):
            progress(name)
            drawn += map(pathlib.Path, figures.save(figure, place / name, dpi=None if section.draw else DPI))
    np.savez_compressed(place / NUMBERS, **analysis.arrays)  # type: ignore[arg-type]
    (place / REPORT).write_text(report(analysis, about, place), encoding="utf-8")
    return [*drawn, place / NUMBERS, place / REPORT]


def check_folder(folder: epath.Path, overwrite: bool) -> None:
    """Raises UserError if `folder` can't be written, or holds an earlier analysis that must not be replaced."""
    files.check_folder(folder if "://" in str(folder) else folder.absolute(), "the folder")
    if not overwrite and folder.exists() and (earlier := _earlier(folder)):
        raise UserError(f"{earlier[0]} is there already; add --overwrite, or name another folder")


def _earlier(folder: epath.Path) -> list[epath.Path]:
    """Returns the files in a folder that have a name that analyses give: the report first, the others by name."""
    ours = [path for path in folder.iterdir() if path.name in (NUMBERS, REPORT) or _OURS.fullmatch(path.name)]
    return sorted(ours, key=lambda path: (path.name != REPORT, path.name))
