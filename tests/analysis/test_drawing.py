"""Figures one at a time, and images as they come from `vit_jax.read_images`."""

import numpy as np
import pytest

from helpers import models
from vit_jax import analysis
from vit_jax.errors import UserError


@pytest.fixture(scope="module")
def found():
    """Returns the analysis of a small ViT on 13 images, which are one more than a page has."""
    return analysis.measure(models.create(), models.pixels(batch=13), maps=[analysis.Map(0, 1)])


def test_an_array_is_measured_as_named_images(found):
    pairs = [(f"image {number}", image) for number, image in enumerate(models.pixels(batch=13), 1)]
    same = analysis.measure(models.create(), iter(pairs), maps=[analysis.Map(0, 1)])
    assert same.names == found.names and same.images == found.images == 13
    for name, array in same.arrays.items():
        np.testing.assert_array_equal(array, found.arrays[name])


def test_each_figure(found):
    """A figure is drawn in the style of a paper, and a notebook shows it."""
    for name in (*analysis.NAMES, "attention_0_1"):
        assert any(axes.has_data() for axes in analysis.draw(found, name).axes), name
    figure = analysis.draw(found, "cka")
    assert figure.axes[0].xaxis.label.get_size() == 8 and figure._repr_png_().startswith(b"\x89PNG")


def test_pages(found):
    """The thirteenth image is alone on the second page, beside its overlay."""
    first, second = (analysis.draw(found, "rollout", page=page) for page in (1, 2))
    assert [sum(len(axes.images) for axes in figure.axes) for figure in (first, second)] == [24, 2]


def test_mistakes(found):
    mixer = analysis.measure(models.create("Mixer-S/8"), models.pixels(batch=1))
    for given, said in (
        (lambda: analysis.draw(found, "filter"), "no figure 'filter'; the figures are filters, "),
        (lambda: analysis.draw(found, "attention_1_1"), "no figure 'attention_1_1'"),
        (lambda: analysis.draw(mixer, "rollout"), "An MLP-Mixer has no attention."),
        (lambda: analysis.draw(found, "rollout", page=3), "no page 3"),
        (lambda: analysis.draw(found, "cka", page=0), "no page 0"),
        (
            lambda: analysis.measure(models.create(), np.zeros((2, 9, 9, 3), np.uint8)),
            "image 1 has the shape (9, 9, 3)",
        ),
        (lambda: analysis.measure(models.create(), models.images()), "images of float32 are no pixels"),
        (lambda: analysis.measure(models.create(), []), "give at least one"),
    ):
        with pytest.raises(UserError) as error:
            given()
        assert said in str(error.value) and "\n" not in str(error.value)
