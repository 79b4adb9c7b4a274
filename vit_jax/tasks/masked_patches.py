"""Masked patch prediction, the self-supervision of the Vision Transformer's paper (2010.11929, section 4.6 and B.1.2).

A share of each image's embedded patches is corrupted: most become a learned embedding, some become another patch of the
same image, and some stay. A linear decoder predicts at these places what the patches look like, from the tokens that
the model's encoder returns for them. Labels are not read.

The embedding and the decoder are the task's own. The model that a run leaves has neither them nor a head; other runs
start from it by `config.init_from`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.models.architecture import Architecture, MixerArchitecture, VitArchitecture
from vit_jax.models.build import abstract
from vit_jax.models.linear import linear
from vit_jax.models.model import Model
from vit_jax.randomness import Keys, fold_in
from vit_jax.tasks.task import Batch, Measure, Task, masked_mean

# What becomes of a corrupted patch: the probabilities of the learned embedding and of another patch. The rest stay.
MASKED, REPLACED = 0.8, 0.1
LEVELS = 8  # of each channel in a colour of 3 bits a channel
COLOURS = LEVELS**3
# The targets that are colours: into how many cells along each side a patch is cut, each with a colour of its own.
CELLS = {"mean_colour": 1, "downsized": 4}
Patched = VitArchitecture | MixerArchitecture


class Corruption(NamedTuple):
    """What is corrupted of the patches of each image, which are numbered in raster order."""

    at: Int[Array, "batch corrupted"]  # the corrupted patches, in random order
    source: Int[Array, "batch patches"]  # the patch that each one is replaced by; its own number for most
    masked: Bool[Array, "batch patches"]  # which ones become the learned embedding


def corruption(keys: Keys, patches: int, count: int) -> Corruption:
    """Returns what is corrupted of images with `patches` patches, of which `count` are drawn by each image's key."""

    def of_one(key: Array) -> tuple[Array, Array, Array]:
        for_rank, for_kind, for_source = jax.random.split(key, 3)
        rank = jax.random.permutation(for_rank, patches)
        kind = jnp.where(rank < count, jax.random.uniform(for_kind, (patches,)), 1.0)
        replaced = (kind >= MASKED) & (kind < MASKED + REPLACED)
        steps = jax.random.randint(for_source, (patches,), 1, patches)  # to any other patch, each as probable
        return jnp.argsort(rank)[:count], (jnp.arange(patches) + steps * replaced) % patches, kind < MASKED

    return Corruption(*jax.vmap(of_one)(keys))


def taken(
    x: Float[Array, "batch patches width"], numbers: Int[Array, "batch chosen"]
) -> Float[Array, "batch chosen width"]:
    """Returns the rows of each image with some numbers, exactly.

    It is a product with ones and zeros, because the gradient of indexing adds to indexed rows, which a TPU does slowly.
    """
    chosen = jax.nn.one_hot(numbers, x.shape[1], dtype=x.dtype)
    return jnp.einsum("bcp,bpw->bcw", chosen, x, precision="highest")


def patches_of(
    images: Num[Array, "batch height width_px 3"], grid: tuple[int, int]
) -> Num[Array, "batch patches values"]:
    """Returns the values of each patch: its pixels in raster order, each with its three channels."""
    batch, height, width_px, channels = images.shape
    rows, columns = grid
    x = images.reshape(batch, rows, height // rows, columns, width_px // columns, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def colours(
    pixels: Float[Array, "batch height width_px 3"], grid: tuple[int, int], cells: int
) -> Int[Array, "batch patches cells_of_a_patch"]:
    """Returns the mean colour of each cell of each patch as a class, 64 red + 8 green + blue, with levels of 0 to 7.

    A level is the mean of a channel divided by 32, rounded down. Pixels are rounded to integers first, and sums of
    integers are exact, so that an image has the same classes on every device.

    Args:
        pixels: the images, 0 to 255.
        grid: the number of patches along (height, width).
        cells: the number of cells along each side of a patch, which has `cells` times `cells` of them, in raster order.
            The number of pixels along a side of the image is a multiple of `grid` times `cells`.
    """
    rounded = jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.int32)
    each = patches_of(rounded, (grid[0] * cells, grid[1] * cells))  # (batch, cells of the image, values)
    each = each.reshape(*each.shape[:2], -1, 3)
    levels = each.sum(axis=2) // (each.shape[2] * 256 // LEVELS)
    classes = (levels * jnp.array([LEVELS**2, LEVELS, 1])).sum(axis=-1)
    batch, (rows, columns) = len(classes), grid
    return classes.reshape(batch, rows, cells, columns, cells).transpose(0, 1, 3, 2, 4).reshape(batch, -1, cells**2)


class MaskedPatches(Task):
    """Learns to predict patches that it does not see, or not where they are."""

    def check(self, config: config_lib.Config) -> None:
        """Raises UserError if the config asks for a head."""
        if config.model.num_classes:
            raise UserError(
                f"nothing reads config.model.num_classes={config.model.num_classes}: the task masked_patches trains no "
                "head; leave it out"
            )

    def modules(self, arch: Architecture, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the learned embedding, (width,), and the decoder, a linear layer with float32 results.

        Raises:
            UserError: the model has no patches, or too few for the share that is masked, or they can't be cut into the
                cells of the target.
        """
        arch = _with_patches(arch)
        self._count(arch)
        return nnx.Dict(
            mask=nnx.Param(0.02 * jax.random.normal(rngs.params(), (arch.width,))),
            head=linear(arch.width, self._outputs(arch), "float32", rngs),
        )

    def further_flops(self, arch: Architecture) -> int:
        """Returns the FLOPs for one image of the tokens that a head would not read, and of the decoder."""
        arch, model = _with_patches(arch), abstract(arch)
        every = flops.forward(model, 1, lambda model, images: model.encode_patches(images, lambda x: x))
        decoder = 2 * self._count(arch) * arch.width * self._outputs(arch)
        return 3 * (every - flops.forward(model, 1) + decoder)

    def loss(self, model: Model, own: Any, batch: Batch, key: Keys) -> tuple[Array, dict[str, Array]]:
        """Returns the mean loss over the corrupted patches and, if colours are predicted, the accuracy."""
        found = self._rows(model, own, batch, key, key)
        means = {name: masked_mean(rows, batch["mask"]) for name, rows in found.items()}
        return means.pop("loss"), means

    def measures(self, model: Model, own: Any, batch: Batch, key: Keys) -> dict[str, Measure]:
        """Returns each row's `loss` and, if colours are predicted, `accuracy`: means over its corrupted patches."""
        return dict(self._rows(model, own, batch, key, None))

    def _rows(
        self, model: Model, own: Any, batch: Batch, key: Keys, dropout: Keys | None
    ) -> dict[str, Float[Array, " batch"]]:
        """Returns the measures of each row. `key` draws what is corrupted, and `dropout` is the model's key."""
        arch, images = model.arch, batch["image"]
        patches = arch.grid[0] * arch.grid[1]
        drawn = corruption(fold_in(key, "masked_patches"), patches, self._count(arch))

        def corrupted(x: Float[Array, "batch patches width"]) -> Float[Array, "batch patches width"]:
            return jnp.where(drawn.masked[:, :, None], own.mask[...].astype(x.dtype), taken(x, drawn.source))

        tokens = model.encode_patches(images, corrupted, key=dropout)
        tokens = taken(tokens, drawn.at)  # (batch, corrupted, width)
        predicted = own.head(tokens.astype(jnp.float32))
        if self.settings.target == "pixels":
            values = patches_of(model.preprocessing.normalize(images), arch.grid)
            values = jnp.take_along_axis(values, drawn.at[:, :, None], axis=1)
            return {"loss": ((predicted - values) ** 2).mean(axis=(1, 2))}
        classes = colours(model.preprocessing.to_pixels(images), arch.grid, CELLS[self.settings.target])
        classes = jnp.take_along_axis(classes, drawn.at[:, :, None], axis=1)  # (batch, corrupted, cells)
        logits = predicted.reshape(*classes.shape, COLOURS)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
        right = (logits.argmax(axis=-1) == classes).astype(jnp.float32)
        return {"loss": losses.mean(axis=(1, 2)), "accuracy": right.mean(axis=(1, 2))}

    def _outputs(self, arch: Patched) -> int:
        """Returns the width of the decoder's result. Raises UserError if patches can't be cut as the target asks."""
        height, width_px = (pixels // patches for pixels, patches in zip(arch.image_size, arch.grid, strict=True))
        cells = CELLS.get(self.settings.target)
        if cells is None:
            return height * width_px * 3
        if height % cells or width_px % cells:
            raise UserError(
                f"config.task.target={self.settings.target} cuts a patch into {cells}x{cells} parts, and the model's "
                f"have {height}x{width_px} pixels; choose another target or patch size"
            )
        return cells**2 * COLOURS

    def _count(self, arch: Patched) -> int:
        """Returns how many patches of an image are corrupted. Raises UserError if there is none, or no other patch."""
        rows, columns = arch.grid
        count = round(self.settings.masked_share * rows * columns)
        if not count or rows * columns < 2:
            raise UserError(
                f"config.task.masked_share={self.settings.masked_share} of {rows}x{columns} patches is {count}, and at "
                "least one must be predicted from another; raise it, or choose smaller patches or larger images"
            )
        return count


def _with_patches(arch: Architecture) -> Patched:
    """Returns the architecture. Raises UserError if its models have no patches."""
    if not isinstance(arch, Patched):
        raise UserError(
            f"the task masked_patches needs a model with patches, and the family {arch.family} has none; take a ViT, a "
            "hybrid or a Mixer"
        )
    return arch
