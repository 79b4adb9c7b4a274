"""Configs with a wrong value."""

import pathlib

import jax
import numpy as np
import pytest

import vit_jax
from helpers.damage import VALUES, assert_sentence
from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.training import make_step, start
from vit_jax.training.state import abstract_state, resolve

pytestmark = pytest.mark.slow


def _small() -> config_lib.Section:
    config = config_lib.default()
    config.total_steps, config.global_batch_size = 4, 8
    config.data.name = "synthetic"
    model = config.model
    model.name, model.image_size, model.width, model.depth, model.mlp_dim, model.num_heads = "Ti/4", 8, 16, 2, 32, 2
    config.evaluations.test = config_lib.evaluation()
    return config


@pytest.mark.parametrize("part", range(8))
def test_config_values(part, tmp_path, cases):
    """Each key is set to each of `VALUES`. The run can then begin, or it is refused with one sentence."""
    keys = [key.replace("NAME", "test") for key in config_lib.KEYS][part::8]
    for key in keys:
        for value in VALUES:
            with cases.case(f"config.{key}={value!r}"):
                try:
                    config = _small()
                    *parents, name = key.split(".")
                    section = config
                    for parent in parents:
                        section = section[parent]
                    section[name] = value
                    _begin(config, tmp_path)
                except UserError as error:
                    assert_sentence(error)


def _begin(config: config_lib.Section, folder: pathlib.Path) -> None:
    """Does what a run does before its first step, but with shapes instead of arrays."""
    config = resolve(config)
    mesh = vit_jax.sharding.make_mesh(config.mesh)
    vit_jax.sharding.check_batch(mesh, config.global_batch_size, "global_batch_size", config.accumulation_steps)
    model = start.model_of(config, folder)
    rows, classes = config.global_batch_size, model.arch.num_classes
    if rows > 10**6 or classes > 10**6:
        return  # a valid size, but too large for this machine
    batch = {
        "image": jax.ShapeDtypeStruct((rows, *model.arch.image_size, 3), np.uint8),
        "label": jax.ShapeDtypeStruct((rows,), np.int32),
        "mask": jax.ShapeDtypeStruct((rows,), np.float32),
    }
    _, metrics = jax.eval_shape(make_step(config, model, mesh), abstract_state(config, model, mesh), batch)
    assert metrics["loss"].shape == ()
