"""The largest batch of a slice; how speeds are measured is a slow test of test_execute.py."""

import types

import pytest

from vit_jax import UserError
from vit_jax import config as config_lib
from vit_jax.planning import plans
from vit_jax.studies import LargestBatch, measuring


def stage(topology="v3:2x2"):
    config = config_lib.default()
    config.global_batch_size = 64
    return LargestBatch("batch", config_lib.typed(config), topology)


def planned(most):
    """Returns a stand-in for `make_plan`, with which batches up to `most` fit."""

    def make_plan(config, where, name):
        size = config.global_batch_size
        memory = types.SimpleNamespace(total=size, limit=most)
        plan = {"fits": size <= most, "global_batch_size": size, "hbm_per_device": memory, "step_seconds": None}
        return types.SimpleNamespace(**plan, total_chip_hours=None), ""

    return make_plan


@pytest.mark.parametrize("most", [8, 100, 64, 5000])
def test_the_largest_batch_of_a_device(monkeypatch, most):
    monkeypatch.setattr(plans, "make_plan", planned(most))
    found = measuring.measured(stage())["values"]["largest_batch"]
    assert 8 * found <= most < 8 * found * 1.125 + 8  # to within an eighth, and a multiple of the 8 devices


def test_what_has_no_largest_batch(monkeypatch):
    monkeypatch.setattr(plans, "make_plan", planned(7))
    with pytest.raises(UserError, match="on v3:2x2 not even a batch of 8 images of B/16 fits"):
        measuring.measured(stage())
    with pytest.raises(UserError, match="there is none for h100:8; name a TPU slice"):
        measuring.measured(stage("h100:8"))
