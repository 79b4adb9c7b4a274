"""Features are computed once for the evaluations of one moment, and again for another model, image or moment."""

import contextlib

import jax
import numpy as np
import pytest

import vit_jax
from helpers import evaluations
from vit_jax import config as config_lib
from vit_jax import sharding
from vit_jax.evaluation import computed_once, make_evaluations
from vit_jax.evaluation.judge import judge
from vit_jax.models.functional import split

NEAR = {"kind": "knn", "k": (1, 5)}
PROBE = {"kind": "probe", "l2": (1.0,)}
FEW = {"kind": "fewshot", "shots": (1,), "draws": 1}
TRAIN, TEST = 64, 16  # images of tests/small.py


@pytest.fixture
def passed(monkeypatch):
    """Returns a list of the numbers of images that go to the devices, a number for each batch."""
    real, found = sharding.to_devices, []

    def counted(batch, *arguments):
        found.append(int((batch["index"] >= 0).sum()))
        return real(batch, *arguments)

    monkeypatch.setattr(sharding, "to_devices", counted)
    return found


@pytest.mark.parametrize(
    ("sections", "images"),
    [
        ({"a": NEAR, "b": PROBE, "c": FEW}, TRAIN + TEST),  # evaluations go by name
        ({"a": FEW, "b": PROBE, "c": {**NEAR, "batch_size": 32}}, 4 + TEST + TRAIN),  # the shots are no split
        ({"near": NEAR, "probe": {**PROBE, "train_split": "train[32:]"}}, TRAIN + TEST),  # a part of what is there
        ({"near": NEAR, "probe": {**PROBE, "shorter_side": 12}}, 2 * (TRAIN + TEST)),  # other pixels
        ({"near": NEAR, "probe": {**PROBE, "split": "train[:5]", "train_split": "test"}}, TRAIN + TEST),
    ],
)
def test_each_image_is_computed_once(small, passed, sections, images):
    config = evaluations.config(small, **sections)
    together = evaluations.measures(config)
    assert sum(passed) == images
    for name, keys in sections.items():  # and they are the features of the right images
        alone = evaluations.measures(evaluations.config(small, **{name: keys}))
        assert together[name] == pytest.approx(alone[name], abs=1e-9)


def test_once_a_moment_and_once_a_model(small, passed, tmp_path):
    model = vit_jax.create("Ti/4", num_classes=0, **evaluations.MODEL)
    config = evaluations.config(small, near=NEAR, probe=PROBE)
    typed = config_lib.typed(config)
    with contextlib.ExitStack() as closing:
        made = make_evaluations(typed, model, sharding.make_mesh(typed.mesh), closing)
        params = split(model)[1]
        others = jax.tree.map(lambda x: np.asarray(x) * 0, params)
        found = []
        with computed_once():
            for some in (params, others, params):
                found.append(made["near"](some))
        assert sum(passed) == 2 * (TRAIN + TEST)
        assert found[0] == found[2] != found[1]
        for _ in range(2):
            with computed_once():
                assert made["near"](params) == found[0]
        assert sum(passed) == 4 * (TRAIN + TEST)
        made["near"](params)
        made["probe"](params)
        assert sum(passed) == 6 * (TRAIN + TEST)  # nothing is kept outside of a moment
    passed.clear()
    vit_jax.save(model, tmp_path / "model.npz")
    ((_, measures),) = judge([str(tmp_path / "model.npz")], config)
    assert sum(passed) == TRAIN + TEST and measures.keys() == {"near", "probe"}


@pytest.mark.slow
def test_a_run_computes_them_once_a_step(small, passed, tmp_path):
    batches = {"batch_size": 8}  # those of the training have 16 images, and some are made ahead
    sections = {"near": {**NEAR, **batches, "every_steps": 6}, "probe": {**PROBE, **batches}}
    config = evaluations.config(small, {"total_steps": 12}, **sections)
    values = vit_jax.train(config, tmp_path / "run")
    assert sum(count for count in passed if count == 8) == 2 * (TRAIN + TEST) and set(passed) == {8, 16}
    assert {"near/1nn", "near/5nn", "probe/accuracy"} <= values.keys()


def test_features_that_are_not_finite(small):
    model = vit_jax.create("Ti/4", num_classes=0, **evaluations.MODEL)
    model.encoder.norm.bias = jax.tree.map(lambda x: x * np.nan, model.encoder.norm.bias)
    for keys in (NEAR, PROBE, FEW):
        with pytest.raises(vit_jax.UserError, match="the evaluation 'one' gets features .* that are not finite, for"):
            evaluations.measures(evaluations.config(small, one=keys), model=model)
