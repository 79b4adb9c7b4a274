"""The models that the Vision Transformer is compared with: BiT, the baseline in its paper, and MLP-Mixer."""

from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vit_jax.models.architecture import MixerArchitecture, Preprocessing, ResNetArchitecture
from vit_jax.models.mixer import MixerBody
from vit_jax.models.model import Change, Model, head, keys_of_rows
from vit_jax.models.observe import Observed, Observer
from vit_jax.models.patchify import Patchify
from vit_jax.models.resnet import BitBody


class BiT(Model):
    """Big Transfer (1912.11370): a ResNet-v2, average pooling over its last feature map, and a linear head."""

    def __init__(
        self,
        arch: ResNetArchitecture,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] = (),
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(arch, preprocessing, class_names)
        self.resnet = BitBody(
            arch.stages, arch.stem_width, dtype=arch.dtype, scan=arch.scan, remat=arch.remat, rngs=rngs
        )
        if arch.num_classes:
            self.head = head(arch, self.resnet.features, rngs)

    def encode(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch positions width"]:
        """Returns the last feature map, flattened in raster order, after the final norm and ReLU. `key` is ignored."""
        x = self.resnet(self.preprocessing.normalize(images))
        return x.reshape(x.shape[0], -1, x.shape[-1])


class Mixer(Model):
    """MLP-Mixer (2105.01601): patch embedding, mixing blocks, average pooling over the tokens, and a linear head."""

    def __init__(
        self,
        arch: MixerArchitecture,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] = (),
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(arch, preprocessing, class_names)
        self.stem = Patchify(arch.patch_size, 3, arch.width, arch.patchify, arch.dtype, rngs=rngs)
        self.mixer = MixerBody(arch, rngs=rngs)
        if arch.num_classes:
            self.head = head(arch, arch.width, rngs)

    def encode(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Returns the tokens after the final norm.

        Raises:
            UserError: the images have another number of patches than those of `arch.image_size`.
        """
        return self._encode(images, key).tokens

    def encode_patches(
        self, images: ArrayLike, change: Change, *, key: Array | None = None
    ) -> Float[Array, "batch patches width"]:
        return self._encode(images, key, change=change).tokens

    def observe(self, images: ArrayLike, observer: Observer) -> Observed:
        return self._encode(images, None, observer)

    def _encode(
        self, images: ArrayLike, key: Array | None, observer: Observer | None = None, change: Change | None = None
    ) -> Observed:
        x = self.stem(self.preprocessing.normalize(images))
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        return self.mixer(x if change is None else change(x), keys_of_rows(key, x.shape[0]), observer)
