"""The style of all figures, and how they are saved: as PNG to look at, and as PDF for a paper."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # fonts are embedded as text that can be selected and edited
    "savefig.dpi": 160,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Returns a context in which figures are drawn and saved in the style of this package."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, path: pathlib.Path) -> list[pathlib.Path]:
    """Writes a figure to PATH.png and PATH.pdf, and returns the two files. Both are the same bytes for the same figure.

    Args:
        figure: the figure, drawn in the context `style`.
        path: a local file without a suffix.
    """
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in ("png", "pdf")]
    figure.savefig(paths[0], metadata={"Software": None})
    figure.savefig(paths[1], metadata={"CreationDate": None})
    return paths
