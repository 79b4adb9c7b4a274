"""ImageNet ReaL and v2 as evaluations: several right labels or none, on small data sets of their structure."""

import contextlib

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx

import vit_jax
from helpers.tfds import write
from vit_jax import UserError, data, sharding
from vit_jax import config as config_lib
from vit_jax.evaluation import make_evaluations
from vit_jax.models.functional import split

CLASSES = ["n01", "n02", "n03", "n04"]
REAL = [(0,), (1, 2), (), (3,), (0, 1, 3), (), (2,), (1,), (0, 3)]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Returns a folder with an imagenet2012, an imagenet2012_real and an imagenet_v2 of a few images."""
    folder = tmp_path_factory.mktemp("tfds")
    one = tfds.features.ClassLabel(names=CLASSES)
    features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": one}
    real = {"image": features["image"], "original_label": one, "real_label": tfds.features.Sequence(one)}
    pixels = np.random.default_rng(0).integers(0, 256, (len(REAL), 8, 8, 3), np.uint8)
    simple = [{"image": image, "label": number % 4} for number, image in enumerate(pixels)]
    write(folder, "imagenet2012", features, {"train": simple[:4], "validation": simple})
    several = [
        {"image": image, "original_label": 0, "real_label": list(labels)}
        for image, labels in zip(pixels, REAL, strict=True)
    ]
    write(folder, "imagenet2012_real", real, {"validation": several})
    write(folder, "imagenet_v2/matched-frequency", features, {"test": simple})
    return folder


def of_transfer(imagenet, loss):
    """Returns a config with the evaluations that `transfer.py` has for ImageNet."""
    config = vit_jax.load_config("configs/transfer.py:B/16,imagenet2012,real,v2")
    changed = config_lib.default()
    changed.data.name, changed.data.data_dir = config.data.name, str(imagenet)
    changed.model.image_size, changed.global_batch_size, changed.task.loss = 8, 16, loss
    for name, section in config.evaluations.items():
        changed.evaluations[name] = config_lib.evaluation(
            name=section.name, split=section.split, max_labels=section.max_labels
        )
    return changed


def evaluated(config, *names):
    """Yields, for some evaluations of a model with random parameters, the measures, the logits and the labels."""
    size = {"image_size": 8, "width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2}
    model = nnx.eval_shape(lambda: vit_jax.create("Ti/4", num_classes=4, **size))  # initial values take seconds
    bind, shapes = split(model)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    typed, apply = config_lib.typed(config), jax.jit(lambda images: bind(params)(images))
    with contextlib.ExitStack() as closing:
        made = make_evaluations(typed, model, sharding.make_mesh(typed.mesh, jax.devices()[:1]), closing)
        for name in names:
            dataset = data.open_evaluation(config, name)
            (batch,) = dataset.examples(len(dataset))
            labels = batch["labels"] if "labels" in batch else batch["label"][:, None]
            yield made[name](params), np.asarray(apply(batch["image"]), np.float64), labels


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_real_and_v2(imagenet, loss):
    """A prediction is right if it is among the labels; images without a label do not count for the accuracy."""
    sizes = [(7, 9), (9, 9)]  # of images with a label, and of all
    found = evaluated(of_transfer(imagenet, loss), "real", "v2")
    for (measures, logits, labels), (with_label, every) in zip(found, sizes, strict=True):
        right = [top in row for top, row in zip(logits.argmax(-1), labels, strict=True) if (row >= 0).any()]
        assert len(right) == with_label and 0 < sum(right) < with_label
        assert measures["accuracy"] == pytest.approx(np.mean(right))
        assert measures["examples"] == (with_label if loss == "softmax" else every)
        # With the sigmoid loss an image of no class is one that each class should reject, so its loss counts.
        weights = np.array([[column in row for column in range(4)] for row in labels], float)
        if loss == "softmax":
            weights /= np.maximum(weights.sum(-1, keepdims=True), 1)
            losses = (weights * (np.logaddexp.reduce(logits, axis=-1, keepdims=True) - logits)).sum(-1)
        else:
            losses = (weights * np.logaddexp(0, -logits) + (1 - weights) * np.logaddexp(0, logits)).sum(-1)
        assert measures["loss"] == pytest.approx(losses.sum() / measures["examples"], rel=1e-3)
        if with_label < every:
            assert sorted(tuple(row[row >= 0].tolist()) for row in labels) == sorted(REAL)


def test_nothing_to_count(imagenet, tmp_path):
    config = of_transfer(imagenet, "sigmoid")
    one = tfds.features.ClassLabel(names=CLASSES)
    real = {"image": tfds.features.Image(shape=(8, 8, 3)), "real_label": tfds.features.Sequence(one)}
    image = np.zeros((8, 8, 3), np.uint8)
    write(tmp_path, "imagenet2012_real", real, {"validation": [{"image": image, "real_label": []}] * 2})
    config.evaluations.real.data_dir = str(tmp_path)
    with pytest.raises(UserError, match="the evaluation 'real' has no image that can be read and has a label"):
        next(evaluated(config, "real"))


def test_labels_are_numbers_in_the_classes_of_the_training_set(imagenet, tmp_path):
    """A data set with the same classes in another order is evaluated by their names; one with others is refused."""
    features = {"image": tfds.features.Image(shape=(8, 8, 3))}
    example = {"image": np.zeros((8, 8, 3), np.uint8), "label": 0}
    name = "imagenet_v2/matched-frequency"
    for folder, classes in (("turned", CLASSES[::-1]), ("other", [*CLASSES, "n05"])):
        of = {**features, "label": tfds.features.ClassLabel(names=classes)}
        write(tmp_path / folder, name, of, {"test": [example]})
    config = of_transfer(imagenet, "softmax")
    config.evaluations.v2.data_dir = str(tmp_path / "turned")
    (batch,) = data.open_evaluation(config, "v2").examples(1)
    assert batch["label"].tolist() == [3]
    config.evaluations.v2.data_dir = str(tmp_path / "other")
    with pytest.raises(UserError, match=r"config.evaluations.v2\) has the class 'n05', which is none of the 4 classes"):
        data.open_evaluation(config, "v2")
