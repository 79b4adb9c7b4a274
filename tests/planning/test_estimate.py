"""The estimated seconds of collectives and steps, on slices for which they can be computed by hand."""

import types

import pytest

from vit_jax.planning import estimate, slices
from vit_jax.planning.program import Collective, Program


def devices(where):
    """Returns the devices of a slice in row-major order, as in a mesh with one axis."""
    columns = where.shape[1]
    return [
        types.SimpleNamespace(coords=(row, column, 0), core_on_chip=core, slice_index=part)
        for part in range(where.slices)
        for row in range(where.shape[0])
        for column in range(columns)
        for core in range(where.chip.devices)
    ]


def over(*groups, op="all-reduce", size=10**9, **keywords):
    return Collective(op, 1, size, groups, overlapped=False, **keywords)


def test_a_ring_along_a_whole_side_goes_both_ways():
    where = slices.parse("v5e:16x16")
    link = where.chip.link
    row, half = tuple(range(16)), tuple(range(8))
    found = devices(where)
    assert estimate.link(over(row), where, found).bandwidth == 2 * link
    assert estimate.link(over(half), where, found).bandwidth == link
    assert estimate.link(over(tuple(range(256))), where, found).bandwidth == 4 * link  # along both sides of the slice
    assert estimate.seconds(over(row), where, found) == pytest.approx(2 * 15 / 16 * 1e9 / (2 * link))
    assert estimate.seconds(over(row, op="all-gather"), where, found) == pytest.approx(15 / 16 * 1e9 / (2 * link))


def test_small_arrays_wait_for_hops():
    where = slices.parse("v5e:16x16")
    everyone = over(tuple(range(256)), size=4)
    assert estimate.seconds(everyone, where, devices(where)) == pytest.approx(16 * estimate.HOP_SECONDS)


def test_cores_of_a_chip_share_its_links():
    where = slices.parse("v3:2x2")
    found = devices(where)
    assert estimate.link(over((0, 1), (2, 3)), where, found).kind == "chip"
    assert estimate.link(over((0, 2), (1, 3)), where, found).bandwidth == where.chip.link / 2
    assert estimate.link(over(tuple(range(8))), where, found).bandwidth == 2 * where.chip.link


def test_between_slices():
    where = slices.parse("v5e:2x2", 4)
    found = devices(where)
    sent = over(between_slices=True)
    assert estimate.link(sent, where, found).kind == "dcn"
    assert estimate.seconds(sent, where, found) == pytest.approx(2 * 3 / 4 * 1e9 / where.chip.network)
    assert estimate.link(over((0, 4)), where, found).kind == "dcn"


def test_a_step():
    """Only the time of collectives that do not overlap with computation is added to the compiler's estimate."""
    where = slices.parse("v5e:16x16")
    seen, hidden = over(tuple(range(16))), Collective("all-gather", 2, 10**9, (tuple(range(16)),), overlapped=True)
    wait = estimate.seconds(seen, where, devices(where))
    program = Program(13_500_000_000, 819 * 10**9, 819 * 10**9, 15 * 10**8, (seen, hidden), ())
    found = estimate.step_seconds(256 * 197 * 10**12, program, where, devices(where))
    assert found.compute == pytest.approx(1)
    assert found.memory == pytest.approx(1)
    assert found.host == pytest.approx(0.1)
    assert found.compiler == pytest.approx(10)
    assert found.interconnect == pytest.approx(wait + 2 * 15 / 16 * 1e9 / 100e9)
    assert found.estimate == pytest.approx(10 + wait)


def test_gpus_by_bounds():
    where = slices.parse("h100:16")
    moved = estimate.gpu_collectives(2 * 10**9, 10**9, {"data": 16, "fsdp": 1}, "bfloat16")
    assert [(c.op, c.bytes) for c in moved] == [("all-reduce", 2 * 10**9)]
    found = estimate.gpu_seconds(10**15, moved, where)
    assert found.compute == pytest.approx(1e15 / (16 * 989e12))
    assert found.interconnect == pytest.approx(2 * 15 / 16 * 2e9 / 50e9)
    assert found.estimate == max(found.compute / estimate.GPU_EFFICIENCY, found.interconnect)
    assert {c.op for c in estimate.gpu_collectives(1, 1, {"data": 2, "fsdp": 8}, "float32")} == {
        "all-gather",
        "reduce-scatter",
    }
    assert estimate.gpu_collectives(1, 1, {"data": 1, "fsdp": 1}, "float32") == ()
