"""The labels of a folder's images in a file `labels.csv`, for images that have several classes or none.

The first line is `image,labels`. Each further line has the path of an image below the file's folder, and the names of
its classes with `;` between them; nothing for an image of no class.
"""

import csv
import io

from etils import epath

from vit_jax.errors import UserError

NAME = "labels.csv"
_HEADER = ["image", "labels"]


def is_one(path: epath.Path) -> bool:
    """Returns whether a file is a table of labels, by its first line; other programs have files of this name, too."""
    with path.open("rb") as file:
        first = file.readline(100).decode("utf-8-sig", errors="replace")
    return [name.strip() for name in first.split(",")] == _HEADER


def read(path: epath.Path) -> dict[str, tuple[str, ...]]:
    """Returns the names of the classes of each image, by the image's path below the folder.

    Raises:
        UserError: the file is no such table, or names an image twice.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read as a table in UTF-8 ({error}); write it anew") from error
    if not rows or [name.strip() for name in rows[0]] != _HEADER:
        found = ",".join(rows[0]) if rows else "nothing"
        raise UserError(f"the first line of {path} is {found!r}; it must be {','.join(_HEADER)!r}")
    labels: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(_HEADER) or not row[0].strip():
            raise UserError(f"line {number} of {path} is {','.join(row)!r}; it takes an image and its labels")
        image = row[0].strip().removeprefix("./")
        if image in labels:
            raise UserError(f"line {number} of {path} names the image {image} a second time; keep one line")
        names = [name.strip() for name in row[1].split(";")]
        labels[image] = tuple(dict.fromkeys(name for name in names if name))
    if not labels:
        raise UserError(f"{path} has no images; add a line for each, or remove the file")
    return labels
