"""The recipes of small data sets that train on a CPU."""

import re

import jax
import pytest
from etils import epath

from helpers.recipes import load
from vit_jax.errors import UserError
from vit_jax.models.functional import split
from vit_jax.training import start


@pytest.mark.parametrize("arguments", ["", ":", ":Ti/2", ":,0-4", ":,5-9", ":,,10", ":S/4,1-3,5", ":BiT-R50x1,,"])
def test_digits(arguments):
    config = load(f"digits.py{arguments}")
    assert config.data.name == "digits"
    assert config.evaluations["test"].split == "test"
    assert config.log_steps <= 10
    assert config.global_batch_size % 8 == 0
    assert config.model.image_size == 8
    assert 0 < config.schedule.warmup_steps < config.total_steps


def test_digits_default_fits_a_minute():
    config = load("digits.py")
    model = config.model
    assert (model.name, model.width, model.depth, model.mlp_dim, model.num_heads) == ("Ti/2", 64, 4, 128, 4)
    assert config.total_steps == 703
    assert config.evaluations["test"].every_steps == 141


def test_digits_arguments():
    config = load("digits.py:S/4,5-9,10")
    assert config.model.name == "S/4"
    assert config.model.width is config.model.depth is config.model.patch_size is None
    assert config.data.classes == (5, 6, 7, 8, 9)
    assert config.data.labels_per_class == 10
    assert load("digits.py").data.classes == ()


def test_digits_with_few_labels_stay_as_long():
    assert load("digits.py:,,3", num_examples=30).total_steps == load("digits.py").total_steps
    assert load("digits.py:,,3", ("total_epochs", "128"), num_examples=30).total_steps == 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("0-4", "leave that blank"),
        ("10", "leave that blank"),
        (",4-0", "the classes '4-0'"),
        (",4", "the classes '4'"),
        (",0-10", "the classes '0-10'"),
        (",low", "the classes 'low'"),
        (",,0", "'0' as the labels"),
        (",,-3", "'-3' as the labels"),
        (",,few", "'few' as the labels"),
        ("Ti/2,0-4,10,5", "too many arguments"),
    ],
)
def test_digits_refuses(arguments, said):
    with pytest.raises(UserError, match=re.escape(said)) as error:
        load(f"digits.py:{arguments}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["bit", "hybrid", "mixer"])
def test_digits_small_families(name, tmp_path):
    """The models are so small that a CPU trains them in a minute or two."""
    model = start.model_of(load(f"digits.py:{name}"), epath.Path(tmp_path))
    assert model.arch.family == {"hybrid": "vit"}.get(name, name)
    assert sum(leaf.size for leaf in jax.tree.leaves(split(model)[1])) < 150_000


@pytest.mark.parametrize("dataset", ["digits", "mnist5k"])
def test_masked_patches_in_miniature_fit_few_labels(dataset):
    """The encoder that is left is that of `few_labels.py`, at another image size."""
    small, few = load(f"masked_patches.py:{dataset}"), load("few_labels.py:2")
    same = ("name", "width", "depth", "mlp_dim", "num_heads", "pool", "posemb")
    assert {key: getattr(small.model, key) for key in same} == {key: getattr(few.model, key) for key in same}
    assert small.data.name == dataset and small.evaluations["test"].name == "digits"
