"""ResNets with group norm and weight standardisation: the stem of the hybrids, and the body of BiT.

Both are stages of bottleneck units, but the units differ. The stem of a hybrid (2010.11929, section 3.1) has its norms
after the convolutions, as ResNet v1 does; BiT (1912.11370) has them before, as ResNet v2 does. Padding and epsilons
differ too, and published weights need exactly their own.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.models.stack import REMAT, run, stacked

GROUPS = 32  # the number of groups of every group norm
EXPANSION = 4  # the ratio of a unit's output channels to the channels of its 3x3 convolution


def stem_features(stages: tuple[int, ...], width: int) -> int:
    """Returns the number of output channels of a ResNet: those of its last stage, or `width` if it has no stages.

    Args:
        stages: the number of units of each stage.
        width: the number of channels after the first convolution.
    """
    return EXPANSION * width * 2 ** (len(stages) - 1) if stages else width


class Conv(nnx.Module):
    """A convolution without bias that standardises its kernel in each call (1903.10520).

    For each output channel, the weights have their mean subtracted and are divided by
    sqrt(variance + `variance_epsilon`) + `std_epsilon`, in float32. The convolution itself is in `dtype`. The kernel is
    (`size`, `size`, `inputs`, `outputs`).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        *,
        same_padding: bool,
        variance_epsilon: float,
        std_epsilon: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.stride, self.dtype = stride, dtype
        # The two paddings differ at stride 2: SAME may pad less at the top and left than at the bottom and right.
        self.padding = "SAME" if same_padding else ((size // 2, size // 2),) * 2
        self.variance_epsilon, self.std_epsilon = variance_epsilon, std_epsilon
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (size, size, inputs, outputs)))

    def standardized(self) -> Float[Array, "height width inputs outputs"]:
        """Returns the standardised kernel, float32, with which images are convolved."""
        kernel = self.kernel[...].astype(jnp.float32)
        centred = kernel - kernel.mean((0, 1, 2))
        return centred / (jnp.sqrt((centred**2).mean((0, 1, 2)) + self.variance_epsilon) + self.std_epsilon)

    def __call__(self, x: Float[Array, "batch height width_px inputs"]) -> Float[Array, "batch rows columns outputs"]:
        x, kernel = x.astype(self.dtype), self.standardized().astype(self.dtype)
        strides = (self.stride, self.stride)
        return lax.conv_general_dilated(x, kernel, strides, self.padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


class GroupNorm(nnx.Module):
    """Group norm over 32 groups of channels (1803.08494). Statistics are float32; `dtype` is that of the output.

    The statistics are computed first for each channel and then averaged over each group. The large array thus keeps its
    channels as the last axis, which is fast on a TPU.
    """

    def __init__(self, channels: int, dtype: str, rngs: nnx.Rngs, *, epsilon: float, zero_scale: bool = False):
        self.dtype, self.epsilon = dtype, epsilon
        self.scale = nnx.Param(jnp.zeros(channels) if zero_scale else jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "batch rows columns channels"]) -> Float[Array, "batch rows columns channels"]:
        x = x.astype(jnp.float32)
        # E[x²] - E[x]² would be cheaper, but loses digits if the mean of a group is far from zero.
        centred = x - self._of_groups(x.mean((1, 2), keepdims=True))
        variance = self._of_groups((centred**2).mean((1, 2), keepdims=True))
        scale = self.scale[...] / jnp.sqrt(variance + self.epsilon)
        return (centred * scale + self.bias[...]).astype(self.dtype)

    def _of_groups(self, values: Float[Array, "batch 1 1 channels"]) -> Float[Array, "batch 1 1 channels"]:
        """Returns, for each channel, the mean of `values` over the channels of its group."""
        groups = values.reshape(-1, GROUPS, values.shape[-1] // GROUPS).mean(-1, keepdims=True)
        return jnp.broadcast_to(groups, (*groups.shape[:2], values.shape[-1] // GROUPS)).reshape(values.shape)


_hybrid_conv = functools.partial(Conv, same_padding=True, variance_epsilon=0.0, std_epsilon=1e-5)
_hybrid_norm = functools.partial(GroupNorm, epsilon=1e-6)
_bit_conv = functools.partial(Conv, same_padding=False, variance_epsilon=1e-10, std_epsilon=0.0)
_bit_norm = functools.partial(GroupNorm, epsilon=1e-5)


class HybridUnit(nnx.Module):
    """A bottleneck unit with its norms after the convolutions (1512.03385); the 3x3 convolution has the stride.

    The scale of the last norm starts at zero, as published. Before training, a unit thus returns the ReLU of its
    shortcut.
    """

    def __init__(self, inputs: int, width: int, stride: int, *, dtype: str, rngs: nnx.Rngs):
        outputs = EXPANSION * width
        self.projects = inputs != outputs or stride != 1
        if self.projects:
            self.conv_proj = _hybrid_conv(inputs, outputs, 1, stride, dtype=dtype, rngs=rngs)
            self.gn_proj = _hybrid_norm(outputs, dtype, rngs)
        self.conv1 = _hybrid_conv(inputs, width, 1, dtype=dtype, rngs=rngs)
        self.gn1 = _hybrid_norm(width, dtype, rngs)
        self.conv2 = _hybrid_conv(width, width, 3, stride, dtype=dtype, rngs=rngs)
        self.gn2 = _hybrid_norm(width, dtype, rngs)
        self.conv3 = _hybrid_conv(width, outputs, 1, dtype=dtype, rngs=rngs)
        self.gn3 = _hybrid_norm(outputs, dtype, rngs, zero_scale=True)

    def __call__(self, x: Float[Array, "batch height width_px inputs"]) -> Float[Array, "batch rows columns outputs"]:
        shortcut = self.gn_proj(self.conv_proj(x)) if self.projects else x
        x = nnx.relu(self.gn1(self.conv1(x)))  # (batch, height, width_px, width)
        x = nnx.relu(self.gn2(self.conv2(x)))  # (batch, rows, columns, width)
        return nnx.relu(shortcut + self.gn3(self.conv3(x)))


class BitUnit(nnx.Module):
    """A bottleneck unit with its norms before the convolutions (1603.05027); the 3x3 convolution has the stride."""

    def __init__(self, inputs: int, width: int, stride: int, *, dtype: str, rngs: nnx.Rngs):
        outputs = EXPANSION * width
        self.projects = inputs != outputs or stride != 1
        if self.projects:
            self.conv_proj = _bit_conv(inputs, outputs, 1, stride, dtype=dtype, rngs=rngs)
        self.gn1 = _bit_norm(inputs, dtype, rngs)
        self.conv1 = _bit_conv(inputs, width, 1, dtype=dtype, rngs=rngs)
        self.gn2 = _bit_norm(width, dtype, rngs)
        self.conv2 = _bit_conv(width, width, 3, stride, dtype=dtype, rngs=rngs)
        self.gn3 = _bit_norm(width, dtype, rngs)
        self.conv3 = _bit_conv(width, outputs, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width_px inputs"]) -> Float[Array, "batch rows columns outputs"]:
        active = nnx.relu(self.gn1(x))
        shortcut = self.conv_proj(active) if self.projects else x
        x = self.conv1(active)  # (batch, height, width_px, width)
        x = self.conv2(nnx.relu(self.gn2(x)))  # (batch, rows, columns, width)
        return shortcut + self.conv3(nnx.relu(self.gn3(x)))


class Stage(nnx.Module):
    """The units of one resolution.

    The first unit (`unit1`) changes the resolution and the number of channels. The others are equal and form one stack
    (`units`).
    """

    def __init__(
        self,
        unit: Callable[..., nnx.Module],
        units: int,
        inputs: int,
        width: int,
        stride: int,
        *,
        dtype: str,
        scan: bool,
        remat: str,
        rngs: nnx.Rngs,
    ):
        self.others, self.scan, self.remat = units - 1, scan, remat
        self.unit1 = unit(inputs, width, stride, dtype=dtype, rngs=rngs)
        if self.others:
            equal = functools.partial(unit, EXPANSION * width, width, 1, dtype=dtype)
            self.units = stacked(lambda rngs: equal(rngs=rngs), self.others, rngs)

    def __call__(self, x: Float[Array, "batch height width_px inputs"]) -> Float[Array, "batch rows columns outputs"]:
        x = REMAT[self.remat](lambda unit, x: unit(x))(self.unit1, x)
        if self.others:
            step = lambda unit, _, x: (unit(x), None)  # noqa: E731
            x, _ = run(step, self.units, x, self.others, scan=self.scan, remat=self.remat)
        return x


def _blocks(unit: Callable[..., nnx.Module], stages: tuple[int, ...], width: int, **options) -> dict[str, Stage]:
    """Returns the stages of a ResNet by name (`block1`, `block2`, …).

    Each stage has half the resolution and twice the channels of the stage before it. `options` are those of `Stage`.

    Raises:
        UserError: `width` is not a multiple of 32.
    """
    if width % GROUPS:
        raise UserError(
            f"a ResNet of width {width} can't be normalised in {GROUPS} equal groups; take a multiple of {GROUPS}"
        )
    blocks = {}
    for i, units in enumerate(stages):
        inputs = stem_features(stages[:i], width)
        blocks[f"block{i + 1}"] = Stage(unit, units, inputs, width * 2**i, 2 if i else 1, **options)
    return blocks


class HybridStem(nnx.Module):
    """The ResNet in front of a hybrid's Transformer (2010.11929, section 3.1 and appendix B).

    Args:
        stages: the number of units of each stage. With () there is only the first convolution and the pooling, as in
            R+Ti/16.
        width: the number of channels of the first convolution and of the 3x3 convolutions of the first stage; 64 in all
            published models.
        dtype: the dtype of the computation; parameters and statistics are float32.
        scan: whether the equal units of a stage run in a scan. If False, they are unrolled.
        remat: what is stored of a unit for the backward pass, a key of `stack.REMAT`.
        rngs: the random streams for the initial parameters.

    Raises:
        UserError: `width` is not a multiple of 32.
    """

    def __init__(self, stages: tuple[int, ...], width: int, *, dtype: str, scan: bool, remat: str, rngs: nnx.Rngs):
        self.stages, self.features = stages, stem_features(stages, width)
        blocks = _blocks(HybridUnit, stages, width, dtype=dtype, scan=scan, remat=remat, rngs=rngs)
        self.conv_root = _hybrid_conv(3, width, 7, 2, dtype=dtype, rngs=rngs)
        self.gn_root = _hybrid_norm(width, dtype, rngs)
        for name, block in blocks.items():
            setattr(self, name, block)

    def __call__(self, images: Float[Array, "batch height width_px 3"]) -> Float[Array, "batch rows columns features"]:
        x = nnx.relu(self.gn_root(self.conv_root(images)))  # half the resolution
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")  # a quarter
        for i in range(len(self.stages)):
            x = getattr(self, f"block{i + 1}")(x)
        return x


class BitBody(nnx.Module):
    """The ResNet-v2 of Big Transfer (1912.11370, section 3.3) up to its last norm and ReLU, before the pooling.

    Arguments and errors are those of `HybridStem`. In published models, `width` is 64 times the widening factor.
    """

    def __init__(self, stages: tuple[int, ...], width: int, *, dtype: str, scan: bool, remat: str, rngs: nnx.Rngs):
        self.stages, self.features = stages, stem_features(stages, width)
        blocks = _blocks(BitUnit, stages, width, dtype=dtype, scan=scan, remat=remat, rngs=rngs)
        self.conv_root = _bit_conv(3, width, 7, 2, dtype=dtype, rngs=rngs)
        for name, block in blocks.items():
            setattr(self, name, block)
        self.norm = _bit_norm(self.features, dtype, rngs)

    def __call__(self, images: Float[Array, "batch height width_px 3"]) -> Float[Array, "batch rows columns features"]:
        x = self.conv_root(images)  # half the resolution
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))  # a quarter
        for i in range(len(self.stages)):
            x = getattr(self, f"block{i + 1}")(x)
        return nnx.relu(self.norm(x))
