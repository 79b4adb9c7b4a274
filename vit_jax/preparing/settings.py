"""What a preparation makes of which data set."""

import dataclasses

from etils import epath


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How images are re-encoded.

    Attributes:
        shorter_side: the most pixels of an image's shorter side; None leaves the sizes as they are.
        quality: of the JPEG files, 1 to 100.
    """

    shorter_side: int | None
    quality: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to prepare.

    Attributes:
        dataset: "folder", "tars", or the name of a data set of TFDS.
        data_dir: the folder of the images, or that in which TFDS keeps data sets; None for the default of the latter.
        out: the folder below which the data set is written, as NAME/VERSION.
        name: of the result; None for that of the data set, or of its folder.
        splits: names of splits; () for all.
        encoding: how images are re-encoded.
        labelled: whether labels are kept. Without, images of a folder may lie anywhere below that of their split.
        shards: the number of files of each split; None for one that suits its size.
        corrupt: "fail" or "skip", what becomes of a data set with images that can't be read.
        workers: the number of processes.
    """

    dataset: str
    data_dir: str | None
    out: epath.Path
    name: str | None = None
    splits: tuple[str, ...] = ()
    encoding: Encoding = Encoding(None, 90)
    labelled: bool = True
    shards: int | None = None
    corrupt: str = "fail"
    workers: int = 1
