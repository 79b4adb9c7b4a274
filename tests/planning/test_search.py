"""Searches, with plans made up: which settings are tried, in which order, and where it ends."""

import dataclasses

import pytest

from vit_jax.config import Config, Model
from vit_jax.errors import UserError
from vit_jax.planning import search
from vit_jax.planning.compiling import Memory
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


@pytest.mark.parametrize(
    ("enough", "expected"),
    [
        ({"mesh.fsdp"}, "--config.mesh.data=1 --config.mesh.fsdp=8"),
        ({"model.remat"}, "--config.mesh.data=1 --config.mesh.fsdp=8 --config.model.remat=dots"),
        (
            {"accumulation_steps"},
            "--config.mesh.data=1 --config.mesh.fsdp=8 --config.model.remat=full --config.accumulation_steps=2",
        ),
    ],
)
def test_what_would_make_it_fit(enough, expected):
    def make(overrides):
        return plan(fits=enough <= {key for key, _ in overrides})

    *failed, last = search.what_fits(make, plan(fits=False), Config())
    assert search.flags(last.overrides) == expected
    assert last.plan.fits
    assert not any(tried.plan.fits for tried in failed)


def test_the_batch_becomes_smaller_only_where_no_parts_are_left():
    tried = list(search.what_fits(lambda overrides: plan(fits=False), plan(fits=False), Config()))
    last = [dict(t.overrides) for t in tried]
    assert [c.get("accumulation_steps") for c in last] == [None, None, None, "2", "4", "8", "1", "1", "1"]
    assert [c.get("global_batch_size") for c in last[-3:]] == ["32", "16", "8"]


def test_what_is_set_already_is_not_tried_again():
    config = Config(accumulation_steps=4, model=Model(remat="dots"))
    split = plan(fits=False, mesh={"fsdp": 8, "tensor": 1, "sequence": 1})
    tried = search.what_fits(lambda overrides: plan(fits=False), split, config)
    assert [next(tried).overrides[-1] for _ in range(2)] == [("model.remat", "full"), ("accumulation_steps", "8")]


def test_the_state_is_split_over_as_many_devices_as_divide_it():
    def make(overrides):
        if int(dict(overrides)["mesh.fsdp"]) > 4:
            raise UserError("no")
        return plan(fits=True)

    (tried,) = search.what_fits(make, plan(fits=False), Config())
    assert search.flags(tried.overrides) == "--config.mesh.data=2 --config.mesh.fsdp=4"


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
