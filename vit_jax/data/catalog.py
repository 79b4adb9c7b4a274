"""The sizes of well-known data sets.

They are needed to convert epochs to steps and to plan a run before, or without, downloading the data set.
"""

import dataclasses
from collections.abc import Mapping

from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Entry:
    """The size of one data set.

    Attributes:
        splits: the number of examples in each base split.
        num_classes: the number of classes.
        class_names: the names of the classes, by label; None if the list would be long.
    """

    splits: Mapping[str, int]
    num_classes: int
    class_names: tuple[str, ...] | None = None

    def count(self, name: str, split: str) -> int:
        """Returns the number of examples in the base split `split`. `name` is the data set's name, for the error.

        Raises:
            UserError: there is no such split.
        """
        if split not in self.splits:
            raise UserError(f"{name} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.splits[split]


DIGITS = tuple("0123456789")

ENTRIES: Mapping[str, Entry] = {
    "digits": Entry({"train": 1500, "test": 297}, 10, DIGITS),
    "mnist5k": Entry({"train": 4500, "test": 500}, 10, DIGITS),
    "imagenet2012": Entry({"train": 1281167, "validation": 50000}, 1000),
    # ImageNet-21k has one split, which some users call "full" and others "train".
    "imagenet21k": Entry({"full": 14197122, "train": 14197122}, 21843),
    # JFT-300M is not public. With its size, `plan` can plan the paper's own runs.
    "jft300m": Entry({"train": 303_000_000}, 18291),
    "cifar10": Entry({"train": 50000, "test": 10000}, 10),
    "cifar100": Entry({"train": 50000, "test": 10000}, 100),
    "oxford_iiit_pet": Entry({"train": 3680, "test": 3669}, 37),
    "oxford_flowers102": Entry({"train": 1020, "validation": 1020, "test": 6149}, 102),
}


def find(name: str) -> Entry | None:
    """Returns the entry of the data set `name`, or None. A version in the name (`cifar10:3.0.2`) is ignored."""
    return ENTRIES.get(name.partition(":")[0])
