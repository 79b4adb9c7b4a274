"""A picture of what a config's augmentation does to its own training images."""

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from etils import epath

from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.checkpoints import files
from vit_jax.data import augment
from vit_jax.errors import UserError
from vit_jax.randomness import row_keys, stream_key

_GAP = 2  # white pixels between two images


def write(config: Any, path: epath.PathLike, rows: int = 8, columns: int = 8, *, overwrite: bool = False) -> None:
    """Writes the picture that `grid` makes of the first training images as PNG.

    Args:
        config: a `Config` or a ConfigDict. `config.preprocessing` is taken as in `open_training`.
        path: the file, local or gs://.
        rows: the number of images.
        columns: how often each image is augmented.
        overwrite: whether an existing file is replaced.

    Raises:
        UserError: the file can't be written or is there already, or the training set is missing or does not fit the
            config.
    """
    config, path = config_lib.typed(config), epath.Path(path)
    if rows < 1 or columns < 1:
        raise UserError(f"a preview of {rows} rows and {columns} columns has no images; give at least 1 of each")
    if path.suffix.lower() != ".png":
        raise UserError(f"{path} is to be a PNG file; give it a name that ends in .png")
    files.check_place(path, overwrite)
    with data.open_training(config) as dataset:
        images = next(dataset.batches(rows, rows=range(rows)))["image"]
    content = io.BytesIO()
    PIL.Image.fromarray(grid(images, config, columns)).save(content, format="PNG")
    try:
        with files.replacing(path) as temporary:
            temporary.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror or error}); name another file") from error


def grid(images: np.ndarray, config: config_lib.Config, columns: int) -> np.ndarray:
    """Returns one picture: a row for each image, with the image itself and then `columns` augmented ones.

    Column k has what step k would make of the image if it were in this row of its batch. Mixing has no other rows than
    these.

    Args:
        images: uint8 (rows, height, width_px, 3).
        config: its `seed`, `augmentation` and `data.repeats` are read.
        columns: the number of steps.

    Returns:
        uint8 (height, width_px, 3).
    """

    @jax.jit
    def augmented(step: jax.Array) -> jax.Array:
        keys = row_keys(jax.random.fold_in(stream_key(config.seed, "augmentation"), step), len(images))
        pixels = augment.augment_pixels(jnp.asarray(images, jnp.float32), keys, config.augmentation)
        batch = {"image": pixels, "label": jnp.zeros((len(images), 1))}
        return augment.mix(batch, keys, config.augmentation, config.data.repeats)["image"]

    made = [np.clip(np.round(augmented(step)), 0, 255).astype(np.uint8) for step in range(columns)]
    cells = np.stack([images, *made], axis=1)  # (rows, 1 + columns, height, width_px, 3)
    cells = np.pad(cells, ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    height = cells.shape[0] * cells.shape[2]
    return cells.transpose(0, 2, 1, 3, 4).reshape(height, -1, 3)[:-_GAP, :-_GAP]
