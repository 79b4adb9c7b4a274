"""Estimates the time of a training step from its compiled program and the chip's published figures.

Three lower bounds are computed: the floating-point operations at the chip's peak, the memory traffic of the compiled
program at the memory's bandwidth, and the collectives at the bandwidth of the links between chips. A fourth number is
the compiler's own count of cycles, to which the collectives that do not overlap with computation are added. The
estimate is the largest of the four (and of the transfers to the host's memory, if there are any). No factor is fitted
to measurements. The estimates are within a third of the published training times that launch/README.md lists.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from vit_jax.planning.program import Collective, Program
from vit_jax.planning.slices import Slice

# Both are approximate, from Austin et al., "How to Scale Your Model" (2025).
HOP_SECONDS = 1e-6  # latency from one chip to the next
HOST_BANDWIDTH = 15e9  # bytes per second between a chip and its host

# The share of the peak at which a GPU computes. This is an assumption: well-tuned Transformer training reaches about
# this much.
GPU_EFFICIENCY = 0.4


@dataclasses.dataclass(frozen=True)
class Link:
    """The links that a collective uses."""

    kind: str  # `ici` between chips of a slice, `dcn` between slices or nodes, `chip` between the cores of one chip
    bandwidth: float  # bytes per second for one device
    hops: int  # links in a row that the data passes


def link(collective: Collective, where: Slice, devices: Sequence[Any]) -> Link:
    """Returns the links that the first group of a collective uses; the other groups use links of the same kind.

    Args:
        collective: its `groups` are indices into `devices`; without groups it runs over all devices.
        where: the slice.
        devices: the devices of the mesh, in the mesh's order. Not read for GPUs.
    """
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
    # If the links along a side form a ring, data goes in both directions at once. If only one core of each chip is in
    # the group, the other cores' group needs the same links at the same time, and each gets half of the bandwidth.
    closed = [len(sides[i]) == where.shape[i] and chip.wraps(where.shape[i], i) for i in used]
    shared = chip.devices / len({d.core_on_chip for d in members})
    hops = sum(len(sides[i]) // (2 if ring else 1) for i, ring in zip(used, closed, strict=True))
    return Link("ici", sum(chip.link * (2 if ring else 1) for ring in closed) / shared, hops)


def seconds(collective: Collective, where: Slice, devices: Sequence[Any]) -> float:
    """Returns the seconds that a collective takes in one step, all of its `count` executions together.

    One execution takes the larger of two times: the bytes that a device sends over the bandwidth of its links, and the
    number of hops times `HOP_SECONDS`. The arguments are those of `link`.
    """
    way = link(collective, where, devices)
    size = max(map(len, collective.groups), default=len(devices) or where.devices)
    size = where.slices if collective.between_slices else size
    share = (size - 1) / size
    factor = {"all-reduce": 2 * share, "all-to-all": share / 4 * math.sqrt(size), "collective-permute": 1.0}
    moved = collective.bytes * factor.get(collective.op, share)
    return collective.count * max(moved / way.bandwidth, way.hops * HOP_SECONDS)


@dataclasses.dataclass(frozen=True)
class StepSeconds:
    """The estimated seconds of one training step, and the numbers that the estimate is made of."""

    estimate: float
    compute: float  # lower bound: the operations at the chip's peak
    memory: float  # lower bound: the program's traffic at the memory's bandwidth; 0 for GPUs, where it is unknown
    interconnect: float  # all collectives, one after another
    compiler: float | None  # the compiler's count of cycles, without collectives; None if nothing was compiled
    host: float = 0.0  # transfers to the host's memory and back, if a part of the state or activations is kept there


def step_seconds(flops: int, program: Program, where: Slice, devices: Sequence[Any]) -> StepSeconds:
    """Returns the estimated time of a compiled step.

    Args:
        flops: the floating-point operations of one step, summed over all devices.
        program: what the compiled program says about itself, as `program.parse` returns it.
        where: the slice.
        devices: the devices of the mesh, in the mesh's order.
    """
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


def gpu_collectives(parameters: int, trained: int, mesh: dict[str, int], dtype: str) -> tuple[Collective, ...]:
    """Returns the collectives of a step on GPUs, which are not read from a program but follow from the mesh.

    These are the sum of the gradients and, with `fsdp`, the gathering of the parameters in the forward and in the
    backward pass. Collectives of activations (over `tensor` and `sequence`) are not counted.

    Args:
        parameters: the number of parameters.
        trained: the number of those that are not frozen.
        mesh: the size of each axis of the mesh.
        dtype: the type in which parameters and gradients are sent, such as `bfloat16`.
    """
    size, gradients = (number * jnp.dtype(dtype).itemsize for number in (parameters, trained))
    count = mesh["data"] * mesh["fsdp"]
    if count == 1:
        return ()
    if mesh["fsdp"] == 1:
        return (Collective("all-reduce", 1, gradients, (), overlapped=True),)
    return (
        Collective("all-gather", 2, size, (), overlapped=True),
        Collective("reduce-scatter", 1, gradients, (), overlapped=True),
    )


def gpu_seconds(flops: int, collectives: Sequence[Collective], where: Slice) -> StepSeconds:
    """Returns the estimated time of a step on GPUs, for which nothing is compiled.

    The estimate is the larger of the collectives' time and the operations' time at `GPU_EFFICIENCY` of the peak. The
    bound by memory traffic is not known without a compiled program.

    Args:
        flops: the floating-point operations of one step, summed over all devices.
        collectives: as `gpu_collectives` returns them.
        where: the GPUs.
    """
    compute = flops / (where.devices * where.chip.device_peak)
    interconnect = sum(seconds(c, where, ()) for c in collectives)
    return StepSeconds(max(compute / GPU_EFFICIENCY, interconnect), compute, 0.0, interconnect, None)
