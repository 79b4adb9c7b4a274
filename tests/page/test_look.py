"""What the page shows of a photograph, compared with the whole attention weights and the model's own logits."""

import jax
import numpy as np
import pytest

from helpers.models import BIT, GRID, create
from vit_jax import UserError, analysis
from vit_jax.analysis.attention import seen_by_head
from vit_jax.analysis.measuring import Map
from vit_jax.models.class_names import Top
from vit_jax.page.look import bars, chosen, looker, missing


def photograph(model):
    return np.random.default_rng(2).integers(0, 256, (*model.preprocessing.size, 3), np.uint8)


def check_classes(model, look):
    expected = jax.nn.softmax(jax.jit(model)(look.photograph[None]))[0]
    assert [each.label for each in look.classes] == list(np.argsort(-expected))
    np.testing.assert_allclose([each.probability for each in look.classes], np.sort(expected)[::-1], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"pool": "tok", "registers": 3}, {"pool": "map", "class_token": False, "scan": False, "num_classes": 0}],
    ids=["registers", "map without a head"],
)
def test_attention_is_that_of_the_whole_weights(options):
    model = create(**options)
    look = looker(model)(photograph(model))
    weights = jax.jit(model.encode_with_attention)(look.photograph[None]).attention
    expected = seen_by_head(weights, model.arch)[:, 0]  # (depth, heads, patches)
    assert look.attention is not None and look.rollout is not None
    np.testing.assert_allclose(look.attention, expected.reshape(2, 2, *GRID), atol=1e-6)
    rolled = seen_by_head(analysis.rollout(weights), model.arch)[0]
    np.testing.assert_allclose(look.rollout, rolled.reshape(GRID), atol=1e-6)
    np.testing.assert_array_equal(chosen(look, Map(1, 0)), look.attention[1, 0])
    np.testing.assert_allclose(chosen(look, Map(0)), expected[0].mean(axis=0).reshape(GRID), atol=1e-6)
    if model.arch.num_classes:
        check_classes(model, look)
        assert not missing(model)
    else:
        assert not look.classes and "this model has no head" in missing(model)["classes"]


def test_a_model_without_attention_shows_its_classes():
    model = create("Mixer-B/16")
    look = looker(model)(photograph(model))
    check_classes(model, look)
    assert look.attention is None and look.rollout is None
    assert missing(model) == {"attention": "There is no map of attention, because an MLP-Mixer has no attention."}


def test_a_head_of_zeros_names_no_class():
    model = create()
    model.head.kernel[...], model.head.bias[...] = 0, 0
    assert "a head of zeros" in missing(model)["classes"]


def test_a_model_that_shows_nothing_is_refused():
    with pytest.raises(UserError, match=r"neither attention nor a head that can classify"):
        missing(create("BiT-R50x1", stages=(1,), **{**BIT, "num_classes": 0}))


def test_classes_of_one_name_are_told_apart():
    classes = (Top("crane", 134, 0.5), Top("crane", 517, 0.25), Top("heron", 131, 0.125))
    assert bars(classes) == {"crane (134)": 0.5, "crane (517)": 0.25, "heron": 0.125}
