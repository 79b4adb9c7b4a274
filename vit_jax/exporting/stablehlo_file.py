"""StableHLO files, which hold what `jax.export` serialises, for CPU, CUDA and TPU at once.

JAX promises that a version up to six months newer than the one that wrote a file can run it, and one up to three weeks
older; the dates are those of the releases of jaxlib (docs.jax.dev, "Exporting and serializing", compatibility
guarantees). The file has no derivative, so the function can't be differentiated.
"""

from collections.abc import Callable

import jax
import numpy as np
from etils import epath

from vit_jax.exporting.function import DYNAMIC, Exported

PLATFORMS = ("cpu", "cuda", "tpu")


def write(what: Exported, path: epath.Path) -> None:
    """Writes the file: exactly the bytes that `jax.export.deserialize` reads."""
    batch = what.batch or jax.export.symbolic_shape(DYNAMIC)[0]
    exported = jax.export.export(jax.jit(what.function()), platforms=PLATFORMS)(what.spec(batch))
    path.write_bytes(exported.serialize(vjp_order=0))


def opened(path: epath.Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function in a file, from images to the output."""
    function = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(function(images))


def versions() -> dict[str, object]:
    """Returns what the description of a file says of its format."""
    return {"format": "stablehlo", "jax": jax.__version__, "platforms": list(PLATFORMS)}


def bytes_of_weight(what: Exported) -> int:
    """Returns the bytes that a weight takes in the file: it holds the model's own, which are float32."""
    return 4
