"""A change of the embedded patches before the encoder, which tasks make: of every family that has patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.models import create, images
from vit_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("Ti/16", {"registers": 2}),
        pytest.param("R+Ti/16", {"pool": "gap"}, marks=pytest.mark.slow),
        ("Mixer-S/32", {}),
    ],
    ids=["vit", "hybrid", "mixer"],
)
def test_the_embedded_patches_are_changed_and_the_tokens_of_the_patches_returned(name, keywords):
    """No change gives the last tokens of `encode`; patches moved to other places are those of a moved image."""
    model = create(name, dropout=0.3, **keywords)
    x, key = images(model.arch.image_size), jax.random.key(0)
    tokens = model.encode_patches(x, lambda patches: patches, key=key)
    rows, columns = model.arch.grid
    assert tokens.shape == (2, rows * columns, 32)
    np.testing.assert_array_equal(tokens, model.encode(x, key=key)[:, -rows * columns :])
    reverse = model.encode_patches(x, lambda patches: patches[:, ::-1])
    assert np.abs(np.asarray(reverse - model.encode(x)[:, -rows * columns :])).max() > 0.1
    if not name.startswith("R"):  # a hybrid's ResNet sees beyond a patch
        height, width_px = model.arch.image_size
        cut = x.reshape(2, rows, height // rows, columns, width_px // columns, 3)
        moved = cut[:, ::-1, :, ::-1].reshape(x.shape)
        np.testing.assert_allclose(reverse, model.encode(moved)[:, -rows * columns :], atol=2e-5)


def test_no_patch_is_seen_but_what_the_change_returns():
    model = create("Ti/16")
    one, other = (model.encode_patches(x, lambda patches: jnp.ones_like(patches)) for x in (images(), images() + 1))
    np.testing.assert_array_equal(one, other)


def test_bit_has_no_patches():
    model = create("BiT-R50x1", stages=(1,))
    with pytest.raises(UserError, match="a model of the family bit has no patches to change; take a ViT"):
        model.encode_patches(images((20, 27)), lambda patches: patches)
