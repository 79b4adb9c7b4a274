"""Runs notebooks, and keeps the pictures of their outputs and nothing else.

    python notebooks/refresh.py                      all notebooks of this folder
    python notebooks/refresh.py see_inside.ipynb     one of them

Run this after each change of a notebook. The pictures are what readers see on the page before they run anything; text,
tables and widgets are left out, so that the files stay small and their differences readable. A notebook that fails is
left as it is. The kernel is the Python that runs this file.
"""

import base64
import contextlib
import io
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Mapping

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
CELL_SECONDS = 600
LARGEST_PICTURE = 150_000  # bytes
PICTURE = "image/png"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Failed(Exception):
    """A cell of a notebook failed; says which cell, its code and the error."""


class ThisPython(KernelSpecManager):
    """Gives the Python that runs this file as the only kernel, whichever kernels are installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python", metadata={"debugger": False})


class _Kernel(AsyncKernelManager):
    """A kernel of this Python, which is spoken to by sockets in a folder and not by ports of the machine."""

    def __init__(self, **options: object) -> None:
        super().__init__(kernel_spec_manager=ThisPython(), transport="ipc", **options)


def executed(
    path: pathlib.Path, folder: pathlib.Path, env: Mapping[str, str] = os.environ, seconds: float = CELL_SECONDS
) -> nbformat.NotebookNode:
    """Returns a notebook with the outputs of all its cells, which are run from top to bottom in a kernel of their own.

    Args:
        path: the notebook; the file is not changed.
        folder: the working directory of the kernel.
        env: the environment variables of the kernel.
        seconds: how long a cell may take.

    Raises:
        Failed: a cell failed, took too long, or ended the kernel.
    """
    notebook = nbformat.read(path, as_version=4)
    with contextlib.chdir(folder):  # the kernel's process starts here
        client = NotebookClient(notebook, kernel_manager_class=_Kernel, timeout=seconds, record_timing=False)
        with client.setup_kernel(env=dict(env)):
            for index, cell in enumerate(notebook.cells):
                try:
                    client.execute_cell(cell, index)
                except (CellControlSignal, CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                    said = _COLOURS.sub("", str(error)).strip()
                    raise Failed(
                        f"{path.name}, cell {index + 1} of {len(notebook.cells)} failed:\n\n{cell.source}\n\n{said}"
                    ) from error
    return notebook


def pictures(cell: nbformat.NotebookNode) -> list[bytes]:
    """Returns the pictures among the outputs of a cell, as PNG."""
    found = [output.get("data", {}).get(PICTURE) for output in cell.get("outputs", [])]
    return [base64.b64decode(picture) for picture in found if picture]


def cleared(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Returns a copy of a notebook as it is kept: its outputs are pictures alone, and cells have no numbers."""
    kept = nbformat.from_dict(notebook)
    kept.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in kept.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [
                nbformat.v4.new_output("display_data", {PICTURE: base64.b64encode(_small(picture)).decode()})
                for picture in pictures(cell)
            ]
    return kept


def _small(picture: bytes) -> bytes:
    """Returns a PNG with at most 256 colours, which is a third as large; a PNG that has a palette already, as it is."""
    image = Image.open(io.BytesIO(picture))
    if image.mode == "P":
        return picture
    made = io.BytesIO()
    image.convert("RGB").quantize(256).save(made, "PNG", optimize=True)
    return made.getvalue()


def main(names: list[str]) -> None:
    """Runs the notebooks of these names, or all, and writes each again when it has passed."""
    for path in [HERE / name for name in names] or sorted(HERE.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = cleared(executed(path, pathlib.Path(folder)))
        sizes = [len(picture) for cell in notebook.cells for picture in pictures(cell)]
        if sizes and max(sizes) > LARGEST_PICTURE:
            sys.exit(f"error: a picture of {path.name} has {max(sizes):,} bytes; make it less than {LARGEST_PICTURE:,}")
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {len(sizes)} pictures, {sum(sizes):,} bytes")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failed as error:
        sys.exit(f"error: {error}")
