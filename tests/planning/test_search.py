"""Searches with invented plans: which settings are tried, in which order, and when the search ends."""

import dataclasses

import pytest

from vit_jax.config import Config, Model
from vit_jax.errors import UserError
from vit_jax.planning import search
from vit_jax.planning.compiling import Memory
from vit_jax.planning.estimate import StepSeconds
from vit_jax.planning.plans import Plan

GIB = 2**30


def plan(fits=True, speed=1.0, **changes):
    blank = dict.fromkeys((field.name for field in dataclasses.fields(Plan)), None)
    known = {"devices": 8, "slices": 1, "global_batch_size": 64, "mesh": {"fsdp": 1, "tensor": 1, "sequence": 1}}
    memory = Memory(None, None, None, 20 * GIB, 16 * GIB)
    return Plan(**{**blank, **known, "fits": fits, "images_per_second": speed, "hbm_per_device": memory, **changes})


def test_a_sweep_ranks_what_fits_by_speed():
    def make(overrides):
        batch, fsdp = (int(value) for _, value in overrides)
        if (batch, fsdp) == (32, 4):
            raise UserError("no")
        return plan(fits=batch < 64, speed=batch / fsdp)

    found = search.sweep(make, [("global_batch_size", ["32", "64"]), ("mesh.fsdp", ["1", "2", "4"])])
    order = [tuple(int(value) for _, value in tried.overrides) for tried in found]
    assert order[:2] == [(32, 1), (32, 2)]
    assert set(order[2:]) == {(32, 4), (64, 1), (64, 2), (64, 4)}
    assert [tried.refused for tried in found if tried.plan is None] == ["no"]


def tried_for(fits, first=None, config=None, hours=lambda settings: 1.0):
    """Returns what the search tries if `fits(settings)` decides what fits in memory."""

    def make(overrides):
        settings = dict(overrides)
        parts = int(settings.get("accumulation_steps", 1))
        memory = Memory(None, None, None, 32 * GIB // parts, 16 * GIB)
        return plan(fits=fits(settings), hbm_per_device=memory, total_chip_hours=hours(settings))

    return list(search.what_fits(make, first or plan(fits=False), config or Config()))


def written(tried):
    return [search.flags(one.overrides).replace("--config.", "") for one in tried]


SPLIT = "mesh.data=1 mesh.fsdp=8"


def test_each_is_tried_alone_and_the_cheapest_is_taken():
    hours = {"accumulation_steps": 9.0, "model.remat": 5.0, "mesh.fsdp": 7.0}
    tried = tried_for(lambda settings: True, hours=lambda settings: min(hours.get(key, 99.0) for key in settings))
    assert written(tried) == ["accumulation_steps=2", "model.remat=dots", SPLIT]
    assert search.cheapest(tried) is tried[1]
    assert search.cheapest(tried_for(lambda settings: False)) is None


def test_parts_double_until_it_fits():
    tried = tried_for(lambda settings: settings.get("accumulation_steps") == "4")
    assert written(tried)[:2] == ["accumulation_steps=2", "accumulation_steps=4"]
    assert search.cheapest(tried).overrides == (("accumulation_steps", "4"),)


@pytest.mark.parametrize(
    ("enough", "expected"),
    [
        ({"mesh.fsdp", "model.remat"}, f"{SPLIT} model.remat=dots"),
        ({"mesh.fsdp", "accumulation_steps"}, f"{SPLIT} accumulation_steps=2"),
        ({"model.remat", "accumulation_steps"}, f"{SPLIT} model.remat=dots accumulation_steps=2"),
    ],
)
def test_combinations_where_nothing_fits_alone(enough, expected):
    tried = tried_for(lambda settings: enough <= settings.keys())
    assert search.flags(search.cheapest(tried).overrides).replace("--config.", "") == expected


def test_a_state_without_room_is_split_first():
    full = plan(fits=False, hbm_per_device=Memory(16 * GIB, None, None, 20 * GIB, 16 * GIB))
    assert written(tried_for(lambda settings: True, full)) == [SPLIT]


def test_parts_that_save_nothing_are_not_halved_again():
    tried = search.what_fits(lambda overrides: plan(fits=False), plan(fits=False), Config())
    assert written(tried)[:3] == ["accumulation_steps=2", "accumulation_steps=4", "model.remat=dots"]


def test_the_batch_becomes_smaller_only_where_no_parts_are_left():
    tried = tried_for(lambda settings: settings.get("global_batch_size") == "16")
    sizes = [dict(one.overrides).get("global_batch_size") for one in tried]
    assert sizes == [None] * (len(tried) - 2) + ["32", "16"]
    assert [dict(one.overrides).get("accumulation_steps") for one in tried[-5:]] == ["2", "4", "8", "1", "1"]


def test_what_is_set_already_is_not_tried_again():
    config = Config(accumulation_steps=4, model=Model(remat="dots"))
    split = plan(fits=False, mesh={"fsdp": 8, "tensor": 1, "sequence": 1})
    found = written(tried_for(lambda settings: False, split, config))
    assert found[:3] == ["accumulation_steps=8", "model.remat=full", "model.remat=full accumulation_steps=8"]


def test_the_state_is_split_over_as_many_devices_as_divide_it():
    def make(overrides):
        settings = dict(overrides)
        if int(settings.get("mesh.fsdp", 1)) > 4:
            raise UserError("no")
        return plan(fits="mesh.fsdp" in settings)

    *_, last = search.what_fits(make, plan(fits=False), Config())
    assert search.flags(last.overrides) == "--config.mesh.data=2 --config.mesh.fsdp=4"


def test_each_line_says_memory_step_and_hours(caplog):
    times = StepSeconds(0.474, 0.2, 0.1, 0.0, 0.4)
    found = plan(hbm_per_device=Memory(1, 1, 1, 8 * GIB, 16 * GIB), step_seconds=times, total_chip_hours=312.4)
    with caplog.at_level("INFO", "vit_jax.planning.search"):
        search.sweep(lambda overrides: found, [("mesh.fsdp", ["1", "4"])])
    assert caplog.messages[1] == "2 of 2: --config.mesh.fsdp=4: 8.00 of 16.00 GiB, 474 ms, 312 chip-hours"


@pytest.mark.parametrize("limit", [8, 100, 640, 1000])
def test_the_largest_batch(limit):
    def make(overrides):
        size = int(dict(overrides)["global_batch_size"])
        return plan(fits=size <= limit, global_batch_size=size)

    found = search.largest_batch(make, 8, 64)
    best = max(t.plan.global_batch_size for t in found if t.plan.fits)
    assert best % 8 == 0
    assert best <= limit
    assert limit - best < max(8, best / 8 + 8)
    assert [t.plan.global_batch_size for t in found] == sorted(t.plan.global_batch_size for t in found)


def test_no_batch_fits():
    found = search.largest_batch(lambda o: plan(fits=False, global_batch_size=int(dict(o)["global_batch_size"])), 8, 32)
    assert not any(t.plan.fits for t in found)
