"""Finding the figures of a chip by JAX's name for the device.

For TPUs, tests/planning/test_slices.py gets these names from the compiler.
"""

import pytest

from vit_jax import chips


@pytest.mark.parametrize(
    ("kind", "name"),
    [("TPU v5p", "v5p"), ("TPU v5 lite", "v5e"), ("NVIDIA A100-SXM4-80GB", "a100"), ("NVIDIA H100 80GB HBM3", "h100")],
)
def test_chips_of_devices(kind, name):
    assert chips.of_device(kind) is chips.CHIPS[name]


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H100 PCIe", "TPU v4 lite", ""])
def test_devices_without_figures(kind):
    assert chips.of_device(kind) is None
