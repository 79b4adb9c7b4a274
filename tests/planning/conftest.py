"""Fixtures of the tests of planning: a small job, and a TPU slice to plan it for."""

import pytest

from vit_jax.planning import slices


@pytest.fixture
def job(small):
    """Returns a function that makes the small config, for the four devices of `v5e:2x2`, with changes."""

    def make(changes=()):
        known = {"data.name": "digits", "data.num_examples": 1024, "data.num_classes": 10}
        return small({**known, **dict(changes)})

    return make


@pytest.fixture(scope="session")
def four(tpu_compiler):
    return slices.parse("v5e:2x2")
