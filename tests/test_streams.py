import threading

import numpy as np

from vit_jax import streams


def test_a_position_has_its_own_numbers_whatever_was_drawn_before():
    def drawn(seed, stream, position):
        return tuple(streams.counted(seed, stream, position).random(3))

    places = [(seed, stream, position) for seed in (0, 1) for stream in ("crop", "order") for position in (0, 1, 2**40)]
    first = {place: drawn(*place) for place in places}
    assert len(set(first.values())) == len(places)
    streams.counted(0, "crop", 1).integers(100, size=5)  # leaves half of a word behind
    assert {place: drawn(*place) for place in reversed(places)} == first
    found = {}
    threads = [threading.Thread(target=lambda p=place: found.update({p: drawn(*p)})) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == first


def test_it_is_philox_at_a_counter():
    key = np.random.SeedSequence((5, streams.number("crop"))).generate_state(2, np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key, counter=(0, 7, 0, 0))).random(4)
    np.testing.assert_array_equal(streams.counted(5, "crop", 7).random(4), expected)
