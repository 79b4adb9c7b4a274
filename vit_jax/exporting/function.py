"""The function that is exported: from images to logits, probabilities or features, with the weights inside."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractDevice, AbstractMesh
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.models.build import abstract
from vit_jax.models.class_names import lacking
from vit_jax.models.functional import Params, split
from vit_jax.models.model import Model
from vit_jax.values import either

# What each output means. The keys are the choices of --output.
OUTPUTS = {
    "logits": "the logits of the classes, whose softmax are the probabilities; each row has those of one image",
    "probabilities": "the probabilities of the classes, by the softmax of the logits; each row has those of one image",
    "features": "what the model's head reads; each row has the features of one image",
}
INPUT = "images"  # the name of the argument
DYNAMIC = "batch"  # the name of a batch dimension of any size


@dataclasses.dataclass(frozen=True)
class Exported:
    """What a file computes: a model, its output, and the images that the file takes.

    Attributes:
        model: the model.
        output: a key of `OUTPUTS`.
        pixels: whether the file takes pixels as uint8, and normalises them; otherwise it takes normalised float32.
        batch: the number of images in a batch; None for any number.
    """

    model: Model
    output: str = "logits"
    pixels: bool = False
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise UserError(f"output is {self.output!r}; it takes {either(tuple(OUTPUTS))}")
        if self.batch is not None and (isinstance(self.batch, bool) or not isinstance(self.batch, int)):
            raise UserError(f"batch is {self.batch!r}; it takes a number of images, or dynamic for any number")
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch is {self.batch}; a batch has at least one image")
        if self.output != "features" and (lacks := lacking(self.model)):
            raise UserError(f"the model has {lacks}, so it has no {self.output}; take --output=features")

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the images."""
        return np.dtype(np.uint8 if self.pixels else np.float32)

    @property
    def size(self) -> tuple[int, int]:
        """The size of the images, (height, width) in pixels."""
        return self.model.preprocessing.size

    def spec(self, batch: Any) -> jax.ShapeDtypeStruct:
        """Returns the shape and dtype of a batch of images; `batch` is its size, or a symbolic dimension."""
        return jax.ShapeDtypeStruct((batch, *self.size, 3), self.dtype)

    def images(self, batch: int, seed: int) -> np.ndarray:
        """Returns a batch of random images, as the file takes them."""
        shape = (batch, *self.size, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        return pixels if self.pixels else np.asarray(self.model.preprocessing.normalize(pixels))

    def computed(self, params: Params, images: Array) -> Float[Array, "batch outputs"]:
        """Returns the output for a batch of images, float32, by the model with the given parameters."""
        model = split(self.model)[0](params)
        if self.output == "features":
            return model.features(images).astype(jnp.float32)
        logits = model(images).astype(jnp.float32)
        return jax.nn.softmax(logits) if self.output == "probabilities" else logits

    @property
    def outputs(self) -> int:
        """The number of values of the output for an image."""
        return jax.eval_shape(self.function(), self.spec(1)).shape[1]

    def function(self) -> Callable[[Array], Float[Array, "batch outputs"]]:
        """Returns the function of the images alone, which holds the parameters."""
        params = split(self.model)[1]
        return lambda images: self.computed(params, images)


def changed(model: Model, **keywords: Any) -> Model:
    """Returns the model with other values of fields that do not affect its parameters, such as `scan` or `dtype`."""
    arch = model.arch.replace(**keywords)
    return split(abstract(arch, model.preprocessing, model.class_names))[0](split(model)[1])


@contextlib.contextmanager
def for_cpus() -> Iterator[None]:
    """Traces and computes as if JAX's devices were CPUs.

    Models have constraints on memory layouts that only a TPU knows, and a file must not have them because this machine
    has a TPU. And a GPU or TPU computes float32 products with fewer digits by default, which a comparison would show.

    Raises:
        UserError: JAX was told not to use CPUs.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise UserError("JAX may not use the CPU, on which the file is tested; add cpu to JAX_PLATFORMS") from None
    mesh = AbstractMesh((), (), abstract_device=AbstractDevice("cpu", None, "cpu"))
    with jax.default_device(cpu), jax.sharding.use_abstract_mesh(mesh):
        yield
