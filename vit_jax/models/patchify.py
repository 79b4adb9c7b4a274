"""Embeds the patches of images by a strided convolution, or by an equal reshape and matrix product."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from vit_jax.errors import UserError


class Patchify(nnx.Module):
    """Cuts images into patches and projects each patch to the model's width (2010.11929, equation 1).

    The kernel is (patch height, patch width, channels, width), as in published files.

    Args:
        patch_size: (height, width) of a patch in pixels.
        channels: the number of channels of the images.
        width: the number of features of an embedded patch.
        how: `conv` computes a convolution and `matmul` a matrix product. Both give the same numbers.
        dtype: the dtype of the computation; parameters are float32.
        rngs: the random streams for the initial parameters.
    """

    def __init__(self, patch_size: tuple[int, int], channels: int, width: int, how: str, dtype: str, *, rngs: nnx.Rngs):
        self.patch_size, self.how, self.dtype = patch_size, how, dtype
        fan_in = channels * patch_size[0] * patch_size[1]
        draw = nnx.initializers.truncated_normal(fan_in**-0.5 / 0.87962566)  # LeCun-normal, as in the original
        self.kernel = nnx.Param(draw(rngs.params(), (*patch_size, channels, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(
        self, images: Float[Array, "batch height width_px channels"]
    ) -> Float[Array, "batch rows columns width"]:
        """Returns the embedded patches. Raises UserError if the patch size does not divide the size of the images."""
        (ph, pw), (height, width_px) = self.patch_size, images.shape[1:3]
        if height % ph or width_px % pw:
            raise UserError(
                f"patches of {ph}x{pw} pixels do not divide images of {height}x{width_px}; resize the images"
            )
        dtype = jnp.dtype(self.dtype)
        kernel, images = self.kernel[...].astype(dtype), images.astype(dtype)
        if self.how == "conv":
            x = lax.conv_general_dilated(images, kernel, (ph, pw), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        else:
            rows, columns = height // ph, width_px // pw
            x = images.reshape(-1, rows, ph, columns, pw, images.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
            x = x.reshape(-1, ph * pw * images.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
            x = x.reshape(-1, rows, columns, kernel.shape[-1])
        return x + self.bias[...].astype(dtype)
