"""Compiles the training step that `main` would run, for devices that this machine does not have."""

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
    """The memory of one device that a program needs, in bytes. A value that is not known is None."""

    arguments: int | None  # the training state and the batch
    outputs: int | None  # without the outputs that reuse the memory of an argument
    temporaries: int | None
    total: int | None  # the sum of the three; if the compiler refused the program, what it says that it needs
    limit: int  # what a program can have on the device


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The result of `compile_step`."""

    fits: bool  # whether the program fits into the device's memory
    memory: Memory
    seconds: float  # the time that compiling took
    text: str  # the compiled program; empty if it does not fit


def model_of(config: config_lib.Config) -> Model:
    """Returns the config's model without its parameters.

    The data set is not opened if the catalog (`vit_jax/data/catalog.py`) knows its number of classes.
    """
    known = data.info(config)
    names = known.class_names or tuple(map(str, range(known.num_classes)))
    return start.model_of(config, epath.Path("no run"), names)


def abstract_batch(config: config_lib.Config, model: Model, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes, types and shardings of a training batch, as `data.batches` makes it.

    `image` is uint8 (batch, height, width_px, 3), `label` int32 (batch,), `mask` float32 (batch,).
    """
    rows, size = sharding.batch_sharding(mesh), config.global_batch_size
    labels = {name: (shape, np.int32) for name, shape in data.label_shapes(config.data.max_labels, size).items()}
    shapes = {
        "image": ((size, *model.arch.image_size, 3), np.uint8),
        "mask": ((size,), np.float32),
        **labels,
    }
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for name, (shape, dtype) in shapes.items()}


def compile_step(config: config_lib.Config, model: Model, mesh: Mesh, limit: float) -> Compiled:
    """Compiles the training step for the devices of `mesh`.

    Args:
        config: with every duration in steps.
        model: the config's model, as `model_of` returns it.
        mesh: the mesh of the devices to compile for.
        limit: the memory that a program can have on one device, in bytes.

    Raises:
        jax.errors.JaxRuntimeError: the compiler failed for another reason than too little memory. If memory is too
            small, the result has `fits=False` instead.
    """
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
    # The compiler refuses a program by the size of its temporaries alone, so arguments and outputs are added here.
    fits = sum(parts) <= limit
    return Compiled(fits, memory, time.monotonic() - begin, (compiled.as_text() or "") if fits else "")


def _wanted(message: str) -> int | None:
    """Returns the bytes that a refused program would have needed, read from the compiler's message, or None."""
    found = re.search(r"Used ([\d.]+)([KMGT]) of|temporaries \(([\d.]+)([KMGT])\) exceeds", message)
    if not found:
        return None
    number, unit = (found[1], found[2]) if found[1] else (found[3], found[4])
    return int(float(number) * GIB * 1024.0 ** ("KMGT".index(unit) - 2))
