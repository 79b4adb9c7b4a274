"""The very step that `main` would run, compiled for devices that are not here."""

import dataclasses
import re
import time
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from vit_jax import config as config_lib
from vit_jax import data, sharding
from vit_jax.chips import GIB
from vit_jax.models.model import Model
from vit_jax.training import start
from vit_jax.training.state import abstract_state
from vit_jax.training.step import make_step


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device; those that are not known are None."""

    arguments: int | None
    outputs: int | None  # without those that take an argument's place
    temporaries: int | None
    total: int | None
    limit: int


@dataclasses.dataclass(frozen=True)
class Compiled:
    fits: bool
    memory: Memory
    seconds: float  # that compiling took
    text: str  # empty where the program does not fit


def model_of(config: config_lib.Config) -> Model:
    """The config's model, for shapes; needs no data set, if the catalog knows how many classes it has."""
    known = data.info(config)
    names = known.class_names or tuple(map(str, range(known.num_classes)))
    return start.model_of(config, epath.Path("no run"), names)


def abstract_batch(config: config_lib.Config, model: Model, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """What the step sees of a batch, as `data.batches` makes it."""
    rows, size = sharding.batch_sharding(mesh), config.global_batch_size
    shapes = {
        "image": ((size, *model.arch.image_size, 3), np.uint8),
        "label": ((size,), np.int32),
        "mask": ((size,), np.float32),
    }
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for name, (shape, dtype) in shapes.items()}


def compile_step(config: config_lib.Config, model: Model, mesh: Mesh, limit: float) -> Compiled:
    """Compiles; a program that has no room in `limit` bytes a device is one that does not fit."""
    lowered = make_step(config, model, mesh).lower(
        abstract_state(config, model, mesh), abstract_batch(config, model, mesh)
    )
    begin = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        wanted = _wanted(str(error))
        return Compiled(False, Memory(None, None, None, wanted, int(limit)), time.monotonic() - begin, "")
    stats: Any = compiled.memory_analysis()
    outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
    parts = stats.argument_size_in_bytes, outputs, stats.temp_size_in_bytes
    memory = Memory(*parts, sum(parts), int(limit))
    # The compiler refuses what a program needs beside its arguments, and does not count these.
    fits = sum(parts) <= limit
    return Compiled(fits, memory, time.monotonic() - begin, (compiled.as_text() or "") if fits else "")


def _wanted(message: str) -> int | None:
    """The bytes that a program would have needed, of the compiler's refusal."""
    found = re.search(r"Used ([\d.]+)([KMGT]) of|temporaries \(([\d.]+)([KMGT])\) exceeds", message)
    if not found:
        return None
    number, unit = (found[1], found[2]) if found[1] else (found[3], found[4])
    return int(float(number) * GIB * 1024.0 ** ("KMGT".index(unit) - 2))
