"""From a compiled program to seconds: bounds by a chip's published figures, and an estimate of the step.

Three bounds hold whatever the compiler does: the arithmetic at the chip's peak, the traffic of the compiled program at
its memory's bandwidth, its collectives at its links' bandwidth. Beside them stands the compiler's own count of cycles.
The estimate is the largest of them, where to the compiler's count the collectives are added that nothing hides. No
factor is fitted: as it is, it comes within a third of the published training times that launch/README.md lists.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from vit_jax.planning.program import Collective, Program
from vit_jax.planning.slices import Slice

# Both about, of Austin et al., "How to Scale Your Model" (2025).
HOP_SECONDS = 1e-6  # from one chip to the next
HOST_BANDWIDTH = 15e9  # bytes a second between a chip and its host

GPU_EFFICIENCY = 0.4  # of the peak, an assumption: about what well-tuned Transformer training reaches


@dataclasses.dataclass(frozen=True)
class Link:
    """What a collective goes over: `kind` ici, chip or dcn, and its bytes a second for one device."""

    kind: str
    bandwidth: float
    hops: int


def link(collective: Collective, where: Slice, devices: Sequence[Any]) -> Link:
    """The links of a collective's first group, of the mesh's `devices` in order."""
    chip = where.chip
    if not chip.tpu and where.devices <= chip.most:
        return Link("ici", chip.link, 1)
    if collective.between_slices or not chip.tpu:
        return Link("dcn", chip.network / chip.devices, 1)
    groups = collective.groups or (tuple(range(len(devices))),)
    members = [devices[i] for i in groups[0]]
    if len({getattr(d, "slice_index", 0) for d in members}) > 1:
        return Link("dcn", chip.network / chip.devices, 1)
    sides = [sorted({d.coords[i] for d in members}) for i in range(len(where.shape))]
    used = [i for i, side in enumerate(sides) if len(side) > 1]
    if not used:
        return Link("chip", chip.device_bandwidth, 0)
    # Along a side that closes to a ring data goes both ways at once; where only one of a chip's cores takes part, the
    # other one's group needs the same links.
    closed = [len(sides[i]) == where.shape[i] and chip.wraps(where.shape[i], i) for i in used]
    shared = chip.devices / len({d.core_on_chip for d in members})
    hops = sum(len(sides[i]) // (2 if ring else 1) for i, ring in zip(used, closed, strict=True))
    return Link("ici", sum(chip.link * (2 if ring else 1) for ring in closed) / shared, hops)


def seconds(collective: Collective, where: Slice, devices: Sequence[Any]) -> float:
    """Of all that it does in a step."""
    way = link(collective, where, devices)
    size = max(map(len, collective.groups), default=len(devices) or where.devices)
    size = where.slices if collective.between_slices else size
    share = (size - 1) / size
    factor = {"all-reduce": 2 * share, "all-to-all": share / 4 * math.sqrt(size), "collective-permute": 1.0}
    moved = collective.bytes * factor.get(collective.op, share)
    return collective.count * max(moved / way.bandwidth, way.hops * HOP_SECONDS)


@dataclasses.dataclass(frozen=True)
class StepSeconds:
    """Of one step: `estimate`, and what it stands on; `compiler` is None where nothing was compiled."""

    estimate: float
    compute: float
    memory: float
    interconnect: float
    compiler: float | None
    host: float = 0.0  # to the host's memory and back, where something is kept there


def step_seconds(flops: int, program: Program, where: Slice, devices: Sequence[Any]) -> StepSeconds:
    """Of a step with `flops` floating-point operations over all devices."""
    chip = where.chip
    compute = flops / (where.devices * chip.device_peak)
    memory = program.hbm_bytes / chip.device_bandwidth
    times = [(c, seconds(c, where, devices)) for c in program.collectives]
    interconnect = sum(t for _, t in times)
    compiler = program.cycles / chip.clock + program.silent_bytes / chip.device_bandwidth
    waiting = sum(t for c, t in times if not c.overlapped)
    host = program.host_bytes * chip.devices / HOST_BANDWIDTH
    estimate = max(compiler + waiting, memory, interconnect, host)
    return StepSeconds(estimate, compute, memory, interconnect, compiler, host)


def gpu_collectives(parameters: int, mesh: dict[str, int], dtype: str) -> tuple[Collective, ...]:
    """What moves without activations: gradients and, over fsdp, parameters in forward and backward."""
    size, count = parameters * jnp.dtype(dtype).itemsize, mesh["data"] * mesh["fsdp"]
    if count == 1:
        return ()
    if mesh["fsdp"] == 1:
        return (Collective("all-reduce", 1, size, (), overlapped=True),)
    return (
        Collective("all-gather", 2, size, (), overlapped=True),
        Collective("reduce-scatter", 1, size, (), overlapped=True),
    )


def gpu_seconds(flops: int, collectives: Sequence[Collective], where: Slice) -> StepSeconds:
    """By the bounds alone, of which that of memory is not known without a program."""
    compute = flops / (where.devices * where.chip.device_peak)
    interconnect = sum(seconds(c, where, ()) for c in collectives)
    return StepSeconds(max(compute / GPU_EFFICIENCY, interconnect), compute, 0.0, interconnect, None)
