"""The names of slices, and the errors for wrong names."""

import importlib.util
import math

import pytest

from vit_jax import chips
from vit_jax.chips import CHIPS
from vit_jax.errors import UserError
from vit_jax.planning import slices


def test_a_slice():
    found = slices.parse("V5p:8x8x4", 2)
    assert (str(found), found.chips, found.devices) == ("v5p:8x8x4", 512, 512)
    assert slices.parse("v3:2x2").devices == 8  # on v3, each of the two cores of a chip is a device
    assert slices.parse("h100:64").devices == 64


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("v9:2x2", "v5e:16x16.*of v2, v3"),
        ("v5e", "no shape"),
        ("v5e:4", "2 sides, such as v5e:4x4"),
        ("v5p:4x4", "3 sides, such as v5p:4x4x4"),
        ("v5e:0x4", "no shape"),
        ("v5e:16x32", "larger than the largest slice, v5e:16x16; take more --slices"),
        ("v6e:32x4", "larger"),
        ("h100:8x8", "only the number"),
    ],
)
def test_no_such_slice(topology, said):
    with pytest.raises(UserError, match=said):
        slices.parse(topology)


def test_slices_are_counted_from_one():
    with pytest.raises(UserError, match="at least one"):
        slices.parse("v5e:2x2", 0)
    with pytest.raises(UserError, match="only the number"):
        slices.parse("a100:8", 2)


def test_without_the_compiler(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "libtpu" else find(name, *a))
    with pytest.raises(UserError, match=r"libtpu.*not installed: pip install '\.\[tpu\]'"):
        slices.devices(slices.parse("v5e:2x2"))


@pytest.mark.parametrize("name", [name for name, chip in CHIPS.items() if chip.tpu])
def test_the_compiler_knows_every_generation(tpu_compiler, name):
    """The compiler finds as many devices in the largest slice of each generation as our table says."""
    chip = CHIPS[name]
    for shape in (chip.largest, (2, 2, 1)[: chip.dimensions]):
        found = slices.devices(slices.parse(f"{name}:{'x'.join(map(str, shape))}"))
        assert len(found) == math.prod(shape) * chip.devices
        assert {d.core_on_chip for d in found} == set(range(chip.devices))
        assert {chips.of_device(d.device_kind) for d in found} == {chip}


def test_several_slices_and_single_chips(tpu_compiler):
    assert {d.slice_index for d in slices.devices(slices.parse("v5e:2x2", 3))} == {0, 1, 2}
    assert len(slices.devices(slices.parse("v6e:1x1"))) == 1
    with pytest.raises(UserError, match="no slice that the TPU compiler knows"):
        slices.devices(slices.parse("v5e:3x3"))
