"""What is common to all data sets that are prepared."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol


class Example(NamedTuple):
    """An example that has been read and is not written yet.

    Attributes:
        image: the bytes of its image file, or the error that reading it raised; empty if images are not re-encoded.
        record: `record(image)` returns the serialized `tf.train.Example` of the example with another image. If images
            are not re-encoded, it ignores `image` and returns the record as it was read.
    """

    image: bytes | Exception
    record: Callable[[bytes], bytes]


class Origin(Protocol):
    """A data set to prepare. It is sent to worker processes, so it can be pickled."""

    @property
    def folder(self) -> str:
        """The folder that it is read from."""
        ...

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of files of that folder that the result has, too."""
        ...

    @property
    def reencodes(self) -> bool:
        """Whether images are re-encoded; if not, the records are copied as they are."""
        ...

    @property
    def splits(self) -> dict[str, int]:
        """The number of examples of each split to prepare."""
        ...

    def record(self, split: str) -> dict[str, Any]:
        """Returns what tells the examples of a split from others, as JSON values."""
        ...

    def info(self, name: str | None) -> Any:
        """Returns TFDS's `DatasetInfo` proto of the result, under another name if one is given, without its splits."""
        ...

    def features(self) -> Any:
        """Returns the `FeaturesDict` of the result."""
        ...

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Yields the examples of some numbers, in order; always all of them."""
        ...

    def describe(self, split: str, index: int) -> str:
        """Returns the name of an example for messages: a path, or `split[index]`."""
        ...
