"""Small models with random parameters, for tests of every option."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

import vit_jax
from vit_jax.models.architecture import VitArchitecture
from vit_jax.models.functional import flatten, split, unflatten

# No size here is square, so that a swap of height and width shows: patches of 8x4 pixels, a grid of 2x3.
VIT = {
    "patch_size": (8, 4), "image_size": (16, 12), "width": 32, "depth": 2, "mlp_dim": 48, "num_heads": 2,
    "num_classes": 5, "posemb_std": 0.5,
}  # fmt: skip
HYBRID = {**VIT, "patch_size": (1, 2), "image_size": (16, 24), "stem_width": 32}
BIT = {"image_size": (20, 27), "stem_width": 32, "num_classes": 5}
MIXER = {
    "patch_size": (8, 4), "image_size": (16, 12), "width": 32, "depth": 3, "tokens_mlp_dim": 16, "mlp_dim": 48,
    "num_classes": 5,
}  # fmt: skip
RANDOM = {"dropout": 0.1, "drop_path": 0.3}
GRID = (2, 3)


def drawn(module, seed=0, std=0.3):
    """Returns an abstract module with random parameters, none of them zero. This is faster than its initialisation."""
    bind, shapes = split(module)
    draw = np.random.default_rng(seed).normal
    flat = {
        path: jnp.asarray(draw(float(path.endswith("scale")), std, leaf.shape), leaf.dtype)
        for path, leaf in flatten(shapes).items()
    }
    return bind(unflatten(flat))


def create(name="Ti/16", **keywords):
    options = {"M": MIXER, "B": BIT}.get(name[0], HYBRID if name.startswith("R") else VIT)
    return drawn(nnx.eval_shape(lambda: vit_jax.create(name, **{**options, **keywords})))


def arch(**keywords):
    return VitArchitecture.of(**{**VIT, **keywords})


def images(size=VIT["image_size"], batch=2):
    return np.random.default_rng(1).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


def pixels(size=VIT["image_size"], batch=2):
    return np.random.default_rng(1).integers(0, 256, (batch, *size, 3), np.uint8)
