"""Augmentation by the TPU compiler: it compiles, without gathers, and RandAugment stays cheap."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.data.augmentation import policies
from vit_jax.planning import plans, program, slices

STEP = 99.6e6  # cycles of B/16's step of 64 images a device, by benchmarks/compiled_step.py


@pytest.mark.slow
def test_a_plan_with_augmentation(job, four):
    """All operations compile. Only those of `rotate_degrees` and tables of a few numbers are gathers."""
    changes = {
        "augmentation.rotate_degrees": 0.0, "augmentation.hue": 0.1, "augmentation.autoaugment": True,
        "augmentation.randaugment_layers": 2, "augmentation.erasing": 0.5, "augmentation.cutmix": 1.0,
    }  # fmt: skip
    plan, text = plans.make_plan(job(changes), four)
    assert plan.fits
    shapes = re.findall(r"= \w+\[([\d,]*)\]\S* gather\(", text)
    assert all(np.prod([int(n) for n in shape.split(",") if n]) < 1000 for shape in shapes), shapes


@pytest.mark.slow
def test_randaugment_adds_less_than_a_tenth(four):
    """Two layers on 64 images of 224 px, alone: their cycles are below a tenth of a step of B/16 on v5e."""
    mesh = jax.sharding.Mesh(np.array(slices.devices(four)[:1]), ("data",))
    here = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    images = jax.ShapeDtypeStruct((64, 224, 224, 3), np.uint8, sharding=here)
    keys = jax.ShapeDtypeStruct((64, 2), np.uint32, sharding=here)

    def augmented(images, keys):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return policies.randaugment(images.astype(jnp.float32), jax.random.wrap_key_data(keys), 2, 15.0)

    compiled = program.parse(jax.jit(augmented).lower(images, keys).compile().as_text())
    silent = compiled.silent_bytes / four.chip.bandwidth * four.chip.clock
    assert 0.04 * STEP < compiled.cycles + silent < 0.1 * STEP  # less would mean that gathers went uncounted
