"""Where the images of a split lie in a folder of own images.

DIR/SPLIT/CLASS/* is the full layout. A split with a file labels.csv has its images anywhere below DIR/SPLIT. A test
split is called test, val, valid or validation, and one stands for another.
Without a test split, the last tenth of the training images, in their shuffled order, is held out of training and serves
as one. DIR/CLASS/* alone is the split train.
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
_HELD_OUT = 0.1  # of the training images
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The base splits that a config asks of one folder, to train on and to evaluate on."""

    to_train: frozenset[str] = frozenset()
    to_evaluate: frozenset[str] = frozenset()


NOTHING = Asked()


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder of classes, and which of its images, in their shuffled order, belong to the split.

    `share` is `all`, `kept` (all but those held out of training) or `held out`.
    """

    folder: epath.Path
    share: str = "all"

    def positions(self, count: int) -> slice:
        """Which of `count` images belong to the split; says what is held out.

        Raises:
            UserError: there is no image to hold out, or none is left to train on.
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


def find(root: epath.Path, split: str, section: str, asked: Asked, *, by_class: bool = True) -> Place:
    """The place of the split `split`, which `config.SECTION.split` names, in the folder `root`.

    Only an evaluation's split may be found under another name, or be held out of training.

    Raises:
        UserError: there is no such split, or folders of splits and of classes lie side by side.
    """
    names = listing.folders(root)
    # Without classes, or with a file of labels, sub-folders of a split mean nothing.
    by_class = by_class and not (root / label_file.NAME).exists()
    if by_class:
        _check_unmixed(root, names)
    evaluates = split in _FOR_TESTING and section != "data"
    # What is trained on stands in for no test split.
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
            return Place(find(root, TRAIN, "data", asked, by_class=by_class).folder, "held out")
        except UserError as error:
            raise _missing(root, split, section) from error
    else:
        raise _missing(root, split, section)
    lacking = asked.to_evaluate.intersection(_FOR_TESTING).difference(names)
    if split == TRAIN and TRAIN in asked.to_train and lacking and not for_testing:
        return dataclasses.replace(place, share="kept")
    return place


def _check_unmixed(root: epath.Path, names: tuple[str, ...]) -> None:
    """Raises a UserError if folders of classes lie beside those of splits: either may be meant."""
    splits = [name for name in names if name in (TRAIN, *_FOR_TESTING)]
    classes = [name for name in names if name not in splits and listing.has_image(root / name)] if splits else []
    if classes:
        raise UserError(
            f"{root} has both folders of splits ({', '.join(splits)}) and folders with images beside them "
            f"({listing.shortened(classes)}), so it isn't clear which are the classes; move the latter below "
            f"{root / TRAIN}, or elsewhere"
        )


def _is_flat(root: epath.Path, names: tuple[str, ...], section: str) -> bool:
    """Whether `root` holds classes and no splits.

    Raises:
        UserError: no image lies directly in one of its folders, so that these may be splits of other names.
    """
    if not names or any(name in names for name in _FOR_TESTING):
        return False
    if any(listing.has_image(root / name) for name in names):
        return True
    if not any(listing.folders(root / name) for name in names):
        return True  # classes without images, as the listing will say
    raise UserError(
        f"there is no folder {root / TRAIN} for the split {TRAIN!r} of config.{section}.split, and no images lie "
        f"directly in the folders of {root} ({listing.shortened(names)}); if these are splits, rename them to "
        f"{TRAIN} and {_FOR_TESTING[0]}, and if they are classes, move them to {root / TRAIN}"
    )


def _missing(root: epath.Path, split: str, section: str) -> UserError:
    holds = listing.shortened(sorted(path.name for path in listing.visible(root))) or "nothing"
    whole = f"; to test on all of its images, set config.{section}.split to {TRAIN}" if section != "data" else ""
    return UserError(
        f"there is no folder {root / split} for the split {split!r} of config.{section}.split; {root} holds {holds}, "
        f"and {LAYOUT} is expected{whole}"
    )


def _say(sentence: str) -> None:
    once(sentence, lambda: _LOG.info(sentence))
