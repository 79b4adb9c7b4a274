"""What the catalog tells of a data set."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Label:
    """A label that is computed from a feature of each example.

    Attributes:
        feature: the name of the feature.
        of: returns the number of the class from the value of the feature, or -1 if it tells none. Workers receive it by
            pickling, so it is a function of a module.
        names: the names of the classes, by number.
    """

    feature: str
    of: Callable[[Any], int]
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """The size of one data set, and how it is read.

    Attributes:
        splits: the number of examples in each base split.
        num_classes: the number of classes.
        class_names: the names of the classes, by label; None if the catalog does not list them.
        made: the splits that users name, and for each the part of the base splits that it stands for, such as
            `train[:800]`. If there are none, users name the base splits.
        dataset: the name in TensorFlow Datasets; None if the catalog has the same name.
        label: how labels are computed; None if they are a feature.
        factor: pixels are multiplied by it, for images that are stored as 0 and 1.
    """

    splits: Mapping[str, int]
    num_classes: int
    class_names: tuple[str, ...] | None = None
    made: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dataset: str | None = None
    label: Label | None = None
    factor: int = 1

    def count(self, name: str, split: str) -> int:
        """Returns the number of examples in the base split `split`. `name` is the data set's name, for the error.

        Raises:
            UserError: there is no such split.
        """
        if split not in self.splits:
            raise no_split(name, split, self.splits)
        return self.splits[split]


def no_split(name: str, split: str, splits: Mapping[str, Any]) -> UserError:
    """Returns the error for a split that a data set does not have."""
    return UserError(f"{name} has no split {split!r}; it has {', '.join(splits)}")
