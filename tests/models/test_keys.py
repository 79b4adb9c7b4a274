"""The keys of initial parameters are those of flax."""

import jax
import numpy as np
import pytest
from flax import nnx

import vit_jax
from helpers.models import MIXER
from vit_jax.models.functional import split
from vit_jax.models.keys import ParameterKeys


def test_they_are_those_of_flax():
    ours, theirs = ParameterKeys(jax.random.key(3)), nnx.Rngs(3)
    for _ in range(3):
        assert ours.params() == theirs.params()


def test_a_seed_gives_the_same_model_as_streams_of_flax():
    model = vit_jax.create("Mixer-S/16", seed=3, **MIXER)
    expected = vit_jax.models.build(model.arch, rngs=nnx.Rngs(3))
    jax.tree.map(np.testing.assert_array_equal, split(model)[1], split(expected)[1])


def test_other_streams_are_refused():
    with pytest.raises(AttributeError, match="dropout"):
        ParameterKeys(jax.random.key(0)).dropout()
