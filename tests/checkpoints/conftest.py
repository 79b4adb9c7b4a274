"""Fixtures that make models to be saved."""

import numpy as np
import pytest

from vit_jax.models import variants
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.functional import flatten, split, unflatten

TINY = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "image_size": 16, "num_classes": 3}


@pytest.fixture(scope="session")
def drawn():
    """Returns a function `drawn(name, …)` that makes a model with random parameters.

    For the default name, the fields of TINY apply. Preprocessing and class names are not the defaults, so that a test
    notices if they are lost.
    """

    def make(name="Ti/8", **keywords):
        rng, arch = np.random.default_rng(0), variants.named(name, **(keywords if name != "Ti/8" else TINY | keywords))
        side, mean, std = 2 * min(arch.image_size), (0.25, 0.5, 0.75), (0.5, 0.25, 1.0)
        preprocessing = Preprocessing(arch.image_size, side, mean, std, "lanczos", keep_aspect=False)
        of, shapes = split(abstract(arch, preprocessing, tuple("aäß"[: arch.num_classes])))
        arrays = {path: rng.standard_normal(s.shape, np.float32) for path, s in flatten(shapes).items()}
        return of(unflatten(arrays))

    return make
