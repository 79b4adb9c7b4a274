"""Finds the image files in the files and folders that a user names, and chooses some of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from vit_jax.data import listing
from vit_jax.errors import UserError


class Chosen(NamedTuple):
    """Image files, and how many there were to choose from."""

    paths: tuple[str, ...]
    found: int


def choose(places: Sequence[str], count: int) -> Chosen:
    """Returns at most `count` image files of the given folders and files.

    If there are more, they are drawn at random, the same ones in each call, and keep their order: that of `places`, and
    by path within a folder.

    Args:
        places: folders, of which all images are taken, also those in sub-folders; and image files. A text with commas
            that is no path stands for several.
        count: the largest number of images.

    Raises:
        UserError: a place does not exist, or a folder has no images.
    """
    found = listed(_split(places))
    if len(found) <= count:
        return Chosen(tuple(found), len(found))
    drawn = np.sort(np.random.default_rng(0).permutation(len(found))[:count])
    return Chosen(tuple(found[index] for index in drawn), len(found))


def listed(places: Sequence[str]) -> list[str]:
    """Returns the image files of the given folders, with those in sub-folders, and the given files, in their order.

    Raises:
        UserError: a place does not exist, or a folder has no images.
    """
    found: list[str] = []
    for place in places:
        path = epath.Path(place)
        if path.is_dir():
            with listing.looking_at(place):
                inside = [str(path / name) for _, name in listing.read(path, listing.ANYWHERE).files]
            if not inside:
                raise UserError(f"there are no images in {place}; name a folder with images that Pillow reads")
            found += inside
        elif path.exists():
            found.append(place)
        else:
            raise UserError(f"there is no image or folder {place}; check the name")
    return found


def _split(places: Sequence[str]) -> list[str]:
    parts: list[str] = []
    for place in places:
        parts += [place] if epath.Path(place).exists() else [part for part in place.split(",") if part] or [place]
    return parts
