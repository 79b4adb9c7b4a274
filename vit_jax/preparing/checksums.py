"""The SHA-256 of the files of a data set, in a file beside them, as the program `sha256sum` writes and checks it."""

import hashlib
import os
from collections.abc import Mapping

from etils import epath

from vit_jax import progress
from vit_jax.checkpoints import files
from vit_jax.data import listing
from vit_jax.errors import UserError

FILE = "SHA256SUMS"


def sha256(path: epath.Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: epath.Path, sums: Mapping[str, str]) -> None:
    """Writes the sums of the files in a folder, by name."""
    with files.replacing(folder / FILE) as temporary:
        temporary.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def verify(place: epath.Path) -> dict[str, int]:
    """Reads the files of all prepared data sets in a folder and below it.

    Returns:
        the number of files of each data set, by its folder.

    Raises:
        UserError: there is none, or a file is missing or has another content than was written.
    """
    found = sorted(epath.Path(folder) / FILE for folder, _, names in os.walk(place) if FILE in names)
    if not found:
        raise UserError(f"there is no {FILE} in {place} or below; name the folder of a data set that prepare has made")
    checked, wrong = {}, []
    with progress.shown("verifying", unit="files") as count:
        for path in found:
            lines = [line.partition("  ") for line in path.read_text().splitlines()]
            for digest, _, name in lines:
                file = path.parent / name
                if not file.exists():
                    wrong.append(f"{file} is missing")
                elif sha256(file) != digest:
                    wrong.append(f"{file} has changed")
                count(1)
            checked[str(path.parent)] = len(lines)
    if wrong:
        raise UserError(f"{listing.shortened(wrong)}: restore them from a copy, or prepare the data set anew")
    return checked
