"""Slices by name, and their devices as the TPU compiler describes them, on a machine that has none."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from vit_jax.chips import CHIPS, Chip
from vit_jax.errors import UserError

_SYNTAX = "GENERATION:SHAPE, such as v5e:16x16 or v5p:8x8x8, or GPUS:NUMBER, such as h100:64"


@dataclasses.dataclass(frozen=True)
class Slice:
    """One or several equal TPU slices, or a number of GPUs."""

    chip: Chip
    shape: tuple[int, ...]  # chips along each side of one slice; for GPUs their number alone
    slices: int = 1

    def __str__(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """The number of chips in all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """The number of devices, as JAX counts them, in all slices: one or two per chip."""
        return self.chips * self.chip.devices


def parse(topology: str, slices: int = 1) -> Slice:
    """Returns the slice that a name such as `v5e:16x16` or `h100:64` means.

    Args:
        topology: `GENERATION:SHAPE` or `GPUS:NUMBER`.
        slices: how many such slices; 1 for GPUs.

    Raises:
        UserError: there is no such generation, it has no slices of this shape, or `slices` is not possible.
    """
    name, _, shape = topology.lower().partition(":")
    if name not in CHIPS:
        raise UserError(f"--topology={topology} is none that is known: write {_SYNTAX}, of {', '.join(CHIPS)}")
    chip = CHIPS[name]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        raise UserError(f"--topology={topology} has no shape; write {_SYNTAX}")
    sides = tuple(map(int, shape.split("x")))
    if slices < 1:
        raise UserError(f"--slices={slices}: there is at least one slice")
    if not chip.tpu:
        if len(sides) != 1 or slices > 1:
            raise UserError(f"--topology={topology}: of GPUs only the number is given, as in {name}:64")
        return Slice(chip, sides)
    if len(sides) != chip.dimensions:
        example = "x".join(["4"] * chip.dimensions)
        raise UserError(
            f"--topology={topology}: slices of {name} have {chip.dimensions} sides, such as {name}:{example}"
        )
    if any(side > most for side, most in zip(sorted(sides), sorted(chip.largest), strict=True)):
        largest = "x".join(map(str, chip.largest))
        raise UserError(
            f"--topology={topology} is larger than the largest slice, {name}:{largest}; take more --slices of less"
        )
    return Slice(chip, sides, slices)


def devices(where: Slice) -> list[Any]:
    """Returns the devices of a TPU slice, for which JAX can compile but not run. Needs libtpu, but no TPU.

    Sets environment variables that libtpu reads.

    Raises:
        UserError: libtpu is not installed, or it knows no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "compiling for a TPU needs its compiler, libtpu, and that is not installed: "
            "pip install '.[tpu]' -c constraints.txt (it is there for Linux)"
        )
    # Without these, libtpu asks the metadata server of a TPU VM which slice it is on, and refuses to be loaded by a
    # second process at the same time.
    for key, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(key, value)
    arguments = os.environ.get("LIBTPU_INIT_ARGS", "")
    if "install_signal_handlers" not in arguments:  # libtpu's handlers would print a stack trace at SIGTERM
        os.environ["LIBTPU_INIT_ARGS"] = f"{arguments} --install_signal_handlers=false".strip()
    options: dict[str, Any] = {}
    if where.slices > 1:
        options["num_slices"] = where.slices
    if where.chip.compiled_as:
        options["chip_config_name"] = where.chip.compiled_as
    if where.shape[:2] == (1, 1):
        options["chips_per_host_bounds"] = (1,) * 3
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=str(where), **options).devices)
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--topology={where} is no slice that the TPU compiler knows ({reason}); take another"
        ) from error
