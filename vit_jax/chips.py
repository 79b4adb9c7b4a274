"""Accelerators by generation: the one table of their published figures, for the MFU of a run and for plans.

A new generation is a line in `CHIPS`, and what JAX calls its devices in `_KINDS`. tests/planning/test_slices.py then
asks the TPU compiler whether it knows the largest slice, with as many devices, by that name.

A device is what JAX calls one. On TPU v2, v3 and TPU7x it is a core, half a chip; on v4 a chip, as real v4 jobs join
the two cores of one ("megacore").
"""

import dataclasses
import math

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Figures of a chip; bandwidths in bytes a second, of a link in one direction."""

    name: str
    peak: float  # bfloat16 floating-point operations a second
    bandwidth: float  # of its memory
    hbm: float  # bytes a program can have on a device: what the compiler leaves of the memory (GPUs: the memory)
    link: float  # of one of the links to its neighbours; NVIDIA: of all links to the others in the same node
    network: float  # its share of the host's way to other slices or nodes
    clock: float = 0.0  # cycles a second
    devices: int = 1  # that JAX sees a chip
    dimensions: int = 2  # of the torus of its slices
    largest: tuple[int, ...] = ()  # slice; for NVIDIA the chips of a node
    tpu: bool = True
    compiled_as: str = ""  # the compiler's name of the chip's configuration, where it has several

    @property
    def device_peak(self) -> float:
        return self.peak / self.devices

    @property
    def device_bandwidth(self) -> float:
        return self.bandwidth / self.devices

    def wraps(self, size: int, dimension: int) -> bool:
        """Whether the links along a side of a slice of that size close to a ring.

        2-D slices wrap along whole sides of the pod only, 3-D ones in cubes of 4, through optical switches.
        """
        return size % 4 == 0 if self.dimensions == 3 else size == self.largest[dimension]

    @property
    def most(self) -> int:
        """Chips in the largest slice."""
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

# The chips of what JAX calls a device. Of GPUs only the kinds that the table describes: an H100 PCIe has another peak.
_KINDS = {
    "TPU v2": "v2", "TPU v3": "v3", "TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v5p": "v5p",
    "TPU v6 lite": "v6e", "TPU7x": "tpu7x",
    "NVIDIA A100-SXM4-80GB": "a100", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA B200": "b200",
}  # fmt: skip


def of_device(kind: str) -> Chip | None:
    """The chip of what JAX calls a device, such as "TPU v5 lite"; None where it is none of the table."""
    return CHIPS[_KINDS[kind]] if kind in _KINDS else None
