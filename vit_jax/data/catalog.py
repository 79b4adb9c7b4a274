"""Sizes of well-known data sets, ours to know before a download: epochs resolve and `plan` runs offline."""

import dataclasses
from collections.abc import Mapping

from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Entry:
    """Examples of each base split, the number of classes, and the classes' names where they are short."""

    splits: Mapping[str, int]
    num_classes: int
    class_names: tuple[str, ...] | None = None

    def count(self, name: str, split: str) -> int:
        """The number of examples of the base split `split` of the data set `name`.

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
    # The whole of ImageNet-21k under either name that its users give to the only split.
    "imagenet21k": Entry({"full": 14197122, "train": 14197122}, 21843),
    # Not public: its size makes the paper's own runs plannable.
    "jft300m": Entry({"train": 303_000_000}, 18291),
    "cifar10": Entry({"train": 50000, "test": 10000}, 10),
    "cifar100": Entry({"train": 50000, "test": 10000}, 100),
    "oxford_iiit_pet": Entry({"train": 3680, "test": 3669}, 37),
    "oxford_flowers102": Entry({"train": 1020, "validation": 1020, "test": 6149}, 102),
}


def find(name: str) -> Entry | None:
    """The entry of the data set `name`, of any version (`cifar10:3.0.2`), or None."""
    return ENTRIES.get(name.partition(":")[0])
