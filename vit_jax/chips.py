"""Accelerators by generation: the one table of their published figures, for the MFU of a run and for plans.

To add a generation, add a line to `CHIPS`, and to `_KINDS` the name that JAX gives to its devices. The test
tests/planning/test_slices.py then checks that the TPU compiler knows the largest slice by that name, with the same
number of devices.

A device is what JAX calls a device. On TPU v2, v3 and TPU7x it is one of the two cores of a chip. On v4 it is a whole
chip, because v4 jobs join its two cores ("megacore").
"""

import dataclasses
import math

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of a chip. Bandwidths are in bytes per second; those of links are in one direction."""

    name: str
    peak: float  # bfloat16 floating-point operations per second
    bandwidth: float  # bandwidth of its memory
    hbm: float  # bytes that a program can use on a device: what the compiler does not reserve (GPUs: all)
    link: float  # bandwidth of one link to a neighbour; NVIDIA: of all links to the chips of the same node
    network: float  # bandwidth to other slices or nodes, its share of the host's network
    clock: float = 0.0  # cycles per second
    devices: int = 1  # number of JAX devices in a chip
    dimensions: int = 2  # dimensions of the torus of its slices
    largest: tuple[int, ...] = ()  # shape of the largest slice; for NVIDIA the number of chips in a node
    tpu: bool = True
    compiled_as: str = ""  # the compiler's name of the chip's configuration, if it has several

    @property
    def device_peak(self) -> float:
        return self.peak / self.devices

    @property
    def device_bandwidth(self) -> float:
        return self.bandwidth / self.devices

    def wraps(self, size: int, dimension: int) -> bool:
        """Returns whether the links along a side of a slice, of `size` chips, form a ring.

        In 2-D slices they do only along a whole side of the pod. In 3-D slices they do if the size is a multiple of 4,
        because optical switches connect cubes of 4x4x4 chips.
        """
        return size % 4 == 0 if self.dimensions == 3 else size == self.largest[dimension]

    @property
    def most(self) -> int:
        """The number of chips in the largest slice."""
        return math.prod(self.largest)


# Sources. Peak, memory and the links of v5e to TPU7x: Google's pages, https://cloud.google.com/tpu/docs/v5e and so on;
# they give a chip's links as the sum of both directions of all (v5e 400, v6e 800, v5p, TPU7x 1,200 GB/s). Links of v2:
# "A Domain-Specific Supercomputer for Training Deep Neural Networks" (CACM 2020); of v3 and v4: 2304.01433, Table 4.
# Clocks: v2 to v4 as published there; of the others the peak over the products of their matrix units a cycle (v5e 4 of
# 128x128, v5p 8 of these, v6e and each core of TPU7x 4 of 256x256). `hbm` is what libtpu 0.0.42 says is available when
# it refuses a program. Networks: NICs a host over chips a host, from the same pages. GPUs: NVIDIA's data sheets of A100
# SXM 80 GB, H100 SXM and B200, dense bfloat16; one NIC of 400 Gb/s each, A100 200.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v2", 45.8e12, 700e9, 7.48 * GIB, 62e9, 3.1e9, 0.70e9, 2, 2, (16, 16)),
        Chip("v3", 123e12, 900e9, 15.48 * GIB, 70e9, 3.1e9, 0.94e9, 2, 2, (32, 32)),
        Chip("v4", 275e12, 1200e9, 30.75 * GIB, 50e9, 6.2e9, 1.05e9, 1, 3, (16, 16, 16), compiled_as="megacore"),
        Chip("v5e", 197e12, 819e9, 15.75 * GIB, 50e9, 3.1e9, 1.5e9, 1, 2, (16, 16)),
        Chip("v5p", 459e12, 2765e9, 95.74 * GIB, 100e9, 6.2e9, 1.75e9, 1, 3, (16, 16, 24)),
        Chip("v6e", 918e12, 1638e9, 31.25 * GIB, 100e9, 12.5e9, 1.75e9, 1, 2, (16, 16)),
        Chip("tpu7x", 2307e12, 7380e9, 94.75 * GIB, 100e9, 12.5e9, 2.2e9, 2, 3, (16, 16, 36)),
        Chip("a100", 312e12, 2039e9, 80e9, 300e9, 25e9, largest=(8,), tpu=False),
        Chip("h100", 989e12, 3350e9, 80e9, 450e9, 50e9, largest=(8,), tpu=False),
        Chip("b200", 2250e12, 8000e9, 180e9, 900e9, 50e9, largest=(8,), tpu=False),
    )
}

# The chip by the name that JAX gives to a device. Other GPUs, such as an H100 PCIe, have another peak and are left out.
_KINDS = {
    "TPU v2": "v2", "TPU v3": "v3", "TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v5p": "v5p",
    "TPU v6 lite": "v6e", "TPU7x": "tpu7x",
    "NVIDIA A100-SXM4-80GB": "a100", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA B200": "b200",
}  # fmt: skip


def of_device(kind: str) -> Chip | None:
    """Returns the chip of a device by the name that JAX gives it, such as "TPU v5 lite"; None if it is unknown."""
    return CHIPS[_KINDS[kind]] if kind in _KINDS else None
