"""How figures look and how they are written: as PNG and as PDF, without the global state of `matplotlib.pyplot`."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import matplotlib
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vit_jax.checkpoints import files

# Colours that colour-blind readers can tell apart (Okabe and Ito, 2008), without the yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMN_INCHES = 3.4  # the width of a column of a paper
_SCREEN_DPI = 144  # of figures in a notebook, whose pixels a screen of high resolution shows one to one

_STYLE: Any = {
    "font.size": 8.0,
    "font.family": "sans-serif",
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "savefig.dpi": 300.0,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
    "pdf.fonttype": 42,  # fonts are embedded as TrueType, which publishers ask for
    "ps.fonttype": 42,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Applies the style of a paper's figures to everything that is drawn and saved during the block."""
    with matplotlib.rc_context(_STYLE):
        yield


class NotebookFigure(Figure):
    """A figure that a notebook shows. It shows others only once `matplotlib.pyplot` is imported."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        with style():
            self.savefig(content, format="png", dpi=_SCREEN_DPI)
        return content.getvalue()


def new(width: float = COLUMN_INCHES, height: float = 2.5) -> Figure:
    """Returns an empty figure of a size in inches.

    It belongs to no window and is not kept by pyplot. In a notebook, the last value of a cell is shown if it is one.
    """
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: epath.PathLike, dpi: float | None = None) -> list[epath.Path]:
    """Writes a figure as PATH.png and PATH.pdf, each whole or not at all, and returns the two paths.

    Args:
        figure: the figure.
        path: the file without its suffix, local or gs://. Existing files are replaced.
        dpi: pixels per inch of images; by default those of the style.
    """
    path = epath.Path(path)
    written = []
    with style():
        for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix, metadata=metadata, dpi=dpi or _STYLE["savefig.dpi"])
            target = path.parent / f"{path.name}.{suffix}"
            with files.replacing(target, shared=True) as temporary:
                temporary.write_bytes(content.getvalue())
            written.append(target)
    return written
