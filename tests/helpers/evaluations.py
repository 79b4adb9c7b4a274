"""Evaluations of an untrained model, without a run."""

import contextlib

import jax

import vit_jax
from vit_jax import config as config_lib
from vit_jax import sharding
from vit_jax.evaluation import computed_once, make_evaluations
from vit_jax.models.functional import split

MODEL = {"image_size": 8, "width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2}


def config(small, changes=(), **sections):
    """Returns the config of tests/small.py with these evaluations alone; each is a dict of keys."""
    made = small(dict(changes))
    del made.evaluations["test"]
    for name, keys in sections.items():
        made.evaluations[name] = config_lib.evaluation(**keys)
    return made


def measures(config, devices=8, model=None, params=None):
    """Returns the measures by evaluation of one moment, by default of a model without a head."""
    model = model or vit_jax.create("Ti/4", num_classes=0, **MODEL)
    config = config_lib.typed(config)
    mesh = sharding.make_mesh(config.mesh, jax.devices()[:devices])
    with contextlib.ExitStack() as closing:
        made = make_evaluations(config, model, mesh, closing)
        params = split(model)[1] if params is None else params
        with computed_once():
            return {name: evaluate(params) for name, evaluate in made.items()}
