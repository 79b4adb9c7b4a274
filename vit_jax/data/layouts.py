"""Finds the images of a split in a folder of the user's own images.

There are three layouts:

- DIR/SPLIT/CLASS/IMAGE. The test split may be called test, val, valid or validation. If an evaluation asks for one of
  these names and only another one exists, that one is used.
- DIR/CLASS/IMAGE. All the images belong to the split "train".
- DIR/SPLIT, or DIR, with a file labels.csv (see label_file.py). The images may lie anywhere below that folder.

If there is no test split but an evaluation asks for one, the last tenth of the training images, in their shuffled
order, is not trained on and serves as the test split.
"""

import dataclasses
import logging

from etils import epath

from vit_jax.data import label_file, listing
from vit_jax.data.once import once
from vit_jax.errors import UserError

LAYOUT = "DIR/{train,test}/CLASS/*, or DIR/CLASS/*"
TRAIN = "train"
_FOR_TESTING = ("test", "val", "valid", "validation")
SPLITS = (TRAIN, *_FOR_TESTING)  # the names of splits that are recognised without being asked for
_HELD_OUT = 0.1  # the share of the training images that serves as the test split
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The names of the splits of one folder that a config uses for training and for evaluation."""

    to_train: frozenset[str] = frozenset()
    to_evaluate: frozenset[str] = frozenset()


NOTHING = Asked()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the images of a split are: a folder, and which share of its images belongs to the split.

    Attributes:
        folder: the folder. It has one sub-folder for each class, unless the images are read without classes or with a
            labels.csv.
        share: "all"; "kept", the images that are trained on; or "held out", the others, which serve as the test split.
    """

    folder: epath.Path
    share: str = "all"

    def positions(self, count: int) -> slice:
        """Returns which of the folder's `count` images, in their shuffled order, belong to the split.

        Logs how many images are held out, if any.

        Raises:
            UserError: images must be held out and there are fewer than two.
        """
        if self.share == "all":
            return slice(0, count)
        if count < 2:
            raise UserError(f"{self.folder} has {count} images, too few to hold some out of training; add images")
        kept = count - max(1, round(_HELD_OUT * count))
        _say(
            f"no split for testing ({', '.join(_FOR_TESTING)}) lies beside the training images: the last "
            f"{count - kept:,} of the {count:,} images of {self.folder} ({_HELD_OUT:.0%}), in their shuffled order, "
            "are held out of training and serve as one"
        )
        return slice(0, kept) if self.share == "kept" else slice(kept, count)


def find(
    root: epath.Path, split: str, section: str, asked: Asked, *, by_class: bool = True, by_file: bool = False
) -> Place:
    """Returns where the images of a split are.

    Args:
        root: the user's folder.
        split: the name of the split. A test split that does not exist is replaced, as the module describes, but only if
            `section` is an evaluation.
        section: the section of the config that names the split: "data", or "evaluations.NAME".
        asked: all the splits of `root` that the config uses.
        by_class: whether the sub-folders of a split are its classes; false if the images are read without labels.
        by_file: whether a labels.csv in `root` tells the classes instead, if there is one.

    Raises:
        UserError: there is no such split, or `root` holds both folders of splits and folders of classes.
    """
    names = listing.folders(root)
    # If sub-folders are not classes, any folder may lie beside any other.
    by_class = by_class and not (by_file and (root / label_file.NAME).exists())
    if by_class:
        _check_unmixed(root, names)
    evaluates = split in _FOR_TESTING and section != "data"
    # A split that is trained on must not be used in place of a missing test split.
    for_testing = [name for name in _FOR_TESTING if name in names and name not in asked.to_train]
    if split in names:
        place = Place(root / split)
    elif split == TRAIN and (_is_flat(root, names, section) if by_class else not for_testing):
        place = Place(root)
    elif evaluates and for_testing:
        _say(f"{root} has no folder {split}; {for_testing[0]} serves as the split {split!r} of config.{section}")
        return Place(root / for_testing[0])
    elif evaluates and TRAIN in asked.to_train and split in asked.to_evaluate:
        try:
            return Place(find(root, TRAIN, "data", asked, by_class=by_class, by_file=by_file).folder, "held out")
        except UserError as error:
            raise _missing(root, split, section) from error
    else:
        raise _missing(root, split, section)
    lacking = asked.to_evaluate.intersection(_FOR_TESTING).difference(names)
    if split == TRAIN and TRAIN in asked.to_train and lacking and not for_testing:
        return dataclasses.replace(place, share="kept")
    return place


def _check_unmixed(root: epath.Path, names: tuple[str, ...]) -> None:
    """Raises UserError if `root` holds both folders of splits and folders of classes, so that its layout is unclear.

    `names` are the names of the folders in `root`.
    """
    splits = [name for name in names if name in SPLITS]
    classes = [name for name in names if name not in splits and listing.has_image(root / name)] if splits else []
    if classes:
        raise UserError(
            f"{root} has both folders of splits ({', '.join(splits)}) and folders with images beside them "
            f"({listing.shortened(classes)}), so it isn't clear which are the classes; move the latter below "
            f"{root / TRAIN}, or elsewhere"
        )


def _is_flat(root: epath.Path, names: tuple[str, ...], section: str) -> bool:
    """Returns whether the folders in `root`, called `names`, are classes rather than splits.

    Raises:
        UserError: the folders hold no images but have sub-folders, so they may be splits with unknown names.
    """
    if not names or any(name in names for name in _FOR_TESTING):
        return False
    if any(listing.has_image(root / name) for name in names):
        return True
    if not any(listing.folders(root / name) for name in names):
        return True  # empty classes; `listing.read` reports them
    raise UserError(
        f"there is no folder {root / TRAIN} for the split {TRAIN!r} of config.{section}.split, and no images lie "
        f"directly in the folders of {root} ({listing.shortened(names)}); if these are splits, rename them to "
        f"{TRAIN} and {_FOR_TESTING[0]}, and if they are classes, move them to {root / TRAIN}"
    )


def _missing(root: epath.Path, split: str, section: str) -> UserError:
    """Returns the error for a split that does not exist."""
    holds = listing.shortened(sorted(path.name for path in listing.visible(root))) or "nothing"
    whole = f"; to test on all of its images, set config.{section}.split to {TRAIN}" if section != "data" else ""
    return UserError(
        f"there is no folder {root / split} for the split {split!r} of config.{section}.split; "
        f"{instead(str(root), holds)}{whole}"
    )


def instead(folder: str, holds: str) -> str:
    """Returns the end of a message about a folder that holds something else than is expected."""
    tars = "; a folder of tars is read with the name tars" if ".tar" in holds else ""
    return f"{folder} holds {holds}, and {LAYOUT} is expected{tars}"


def _say(sentence: str) -> None:
    once(sentence, lambda: _LOG.info(sentence))
