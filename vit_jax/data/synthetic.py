"""Synthetic images, generated when they are read: the pattern of a class plus noise. No data set is needed."""

import dataclasses
import functools
from typing import Any

import numpy as np
from PIL import Image

from vit_jax.data.resize import Size
from vit_jax.errors import UserError

_SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class SyntheticSource:
    """A split of synthetic images. An index always gives the same image; its label is index modulo `num_classes`.

    Attributes:
        split: "train" or "test".
        size: (height, width) of the images, in pixels.
        num_examples: the number of images in the training split; the test split has a quarter of it, at least 1.
        num_classes: the number of classes.

    Raises:
        UserError: there is no such split.
    """

    split: str
    size: Size
    num_examples: int
    num_classes: int

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise UserError(f"synthetic images have no split {self.split!r}; they have {' and '.join(_SPLITS)}")

    @property
    def identity(self) -> str:
        return f"synthetic/{self.split}"

    def record(self) -> dict[str, Any]:
        return {"dataset": "synthetic", "split": self.split, "num_examples": len(self), "size": list(self.size)}

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(str(label) for label in range(self.num_classes))

    def __len__(self) -> int:
        return self.num_examples if self.split == "train" else max(1, self.num_examples // 4)

    def __getitem__(self, index: int) -> dict:
        noise = np.random.default_rng((_SPLITS.index(self.split), index)).integers(0, 128, (*self.size, 3), np.uint8)
        (label,) = self.labels(index)
        return {"image": _pattern(label, self.size) + noise, "labels": (label,)}

    def labels(self, index: int) -> tuple[int, ...]:
        return (index % self.num_classes,)

    def describe(self, index: int) -> str:
        return f"synthetic image {self.split}[{index}]"


@functools.lru_cache(maxsize=1024)
def _pattern(label: int, size: Size) -> np.ndarray:
    """Returns the pattern of a class, smooth patches of colour, as uint8 (height, width_px, 3) below 128."""
    coarse = np.random.default_rng((len(_SPLITS), label)).integers(0, 128, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR))
