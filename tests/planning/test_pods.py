"""Plans of large jobs, such as those in the README of launch/. Each takes minutes to compile."""

import pytest

from vit_jax import command_line
from vit_jax.planning import plans, slices

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tpu_compiler")]


def planned(recipe, where, count=1, **overrides):
    pairs = [(key.replace("__", "."), str(value)) for key, value in overrides.items()]
    return plans.make_plan(command_line.load_config(f"configs/{recipe}", pairs), slices.parse(where, count))[0]


def test_h14_fits_a_v5e_pod():
    """Most gradients are reduce-scattered; few are all-reduced."""
    found = planned("pretrain.py:H/14,jft300m", "v5e:16x16", mesh__fsdp=16)
    assert found.fits
    assert found.global_batch_size == 4096
    assert found.collectives["reduce-scatter"].bytes >= 1.7 * found.parameters  # 2 would be all, in bfloat16
    assert found.collectives["all-reduce"].bytes <= 0.5 * found.parameters


def test_22b_fits_the_largest_v5p_slice():
    """The batch is the paper's, 65,536 (2302.05442, section 4.1), rounded down to a multiple of the 6,144 chips."""
    changes = {"mesh__fsdp": 768, "model__remat": "full", "global_batch_size": 61440}
    found = planned("pretrain.py:22B/14,jft300m", "v5p:16x16x24", **changes)
    assert found.fits
    assert found.parameters > 21e9


def test_weak_scaling_of_l16():
    """With the same batch per chip, 256 chips need no more memory than 4, and at most 10 % more time for a step."""
    few = planned("pretrain.py:L/16,jft300m", "v5e:2x2", global_batch_size=16 * 4)
    many = planned("pretrain.py:L/16,jft300m", "v5e:16x16", global_batch_size=16 * 256)
    assert many.hbm_per_device.total <= few.hbm_per_device.total
    for found in (few, many):
        assert found.collectives["all-reduce"].bytes >= 2 * found.parameters  # all gradients, in bfloat16 or float32
        assert found.step_seconds.estimate > found.step_seconds.compiler  # which includes waiting for collectives
    assert many.step_seconds.estimate <= 1.1 * few.step_seconds.estimate


def test_across_slices_only_gradients_cross():
    found = planned("pretrain.py:L/16,jft300m", "v5e:4x4", 4, mesh__data=4, mesh__fsdp=16, global_batch_size=1024)
    crossing = {name: moved for name, moved in found.collectives.items() if moved.link == "dcn"}
    assert all(name.startswith(("all-reduce", "reduce-scatter")) for name in crossing), crossing
    shard = found.parameters / 16  # parameters of each chip; their gradients take 2 or 4 bytes each
    assert 2 * shard <= sum(moved.bytes for moved in crossing.values()) <= 4 * shard
