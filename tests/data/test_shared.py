import gc
import operator
import os

import numpy as np
import pytest

from vit_jax.data import prefetch, shared

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="this system has no shared memory without names"
)


def travelled(slots, make):
    """Returns what arrives of the object that `make` makes, and whether its arrays came in a slot."""
    slot = slots.take()
    packed = shared.sent(make, slot.address if slot else None)
    return slots.unpacked(packed, slot), not packed.sent


def made(first):
    image = shared.empty((2, 3))
    image[...] = first
    return {"image": image, "label": np.arange(first, first + 2), "more": ("text", [first])}


def test_arrays_arrive_in_slots_that_are_used_again():
    slots = shared.Slots(2)
    assert slots.take() is None
    kept = []
    for first, in_slot in [(1, False), (2, True), (3, True), (4, False)]:  # the first tells the size; two slots then
        found, came_in_slot = travelled(slots, lambda first=first: made(first))
        assert came_in_slot == in_slot
        kept.append(found)
    view = kept[1]["image"][1:, :2]  # of an array that lies in the first slot
    for first, found in enumerate(kept, 1):
        assert (found["image"] == first).all() and found["label"].tolist() == [first, first + 1]
        assert found["more"] == ("text", [first])
    del kept, found
    gc.collect()
    again, came_in_slot = travelled(slots, lambda: made(5))
    assert came_in_slot and slots.take() is None  # the other slot still has the view
    assert (view == 2).all() and (again["image"] == 5).all()
    del view
    gc.collect()
    assert slots.take() is not None


def test_what_does_not_fit_goes_through_the_pipe():
    slots = shared.Slots(1)
    travelled(slots, lambda: np.zeros(4))
    found, in_slot = travelled(slots, lambda: np.ones(5))
    assert not in_slot and found.tolist() == [1.0] * 5
    assert travelled(slots, lambda: np.ones(4))[1]  # and the slot is free again


def test_objects_without_arrays_need_no_slots():
    slots = shared.Slots(3)
    assert travelled(slots, lambda: ("text", 1))[0] == ("text", 1)
    assert slots.take() is None


def test_a_pool_makes_what_has_no_arrays():
    pool = prefetch.Pool(operator.neg, threads=1, workers=1)
    try:
        assert list(pool.map(range(9))) == [-number for number in range(9)]
        assert sorted(pool.finished(range(5))) == [(number, -number) for number in range(5)]
    finally:
        pool.close()
