"""Mixtures of data sets: which image a position takes, the classes, what counts as an epoch, and wrong input."""

import collections
import itertools
import json
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

from helpers.tfds import write
from vit_jax import UserError, command_line, data
from vit_jax import config as config_lib
from vit_jax.data import order, pipeline

SEED = 1  # draws of the 7 birds and 4 fish that are trained on some and not all of each
BIRDS, FISH = ["emu", "jay", "owl"], ["carp", "eel"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Returns a folder with the data sets birds (7 and 3 images), fish (4 and 2), and bare, whose classes lack names.

    An image has one grey level: of birds 10 times its class and its number, of fish 100 more.
    """
    folder = tmp_path_factory.mktemp("tfds")
    image = tfds.features.Image(shape=(4, 4, 3))
    for name, classes, sizes, level in (("birds", BIRDS, (7, 3), 0), ("fish", [*FISH, "emu"], (4, 2), 100)):
        features = {"image": image, "label": tfds.features.ClassLabel(names=classes)}
        examples = [
            {"image": np.full((4, 4, 3), level + 10 * (number % 3) + number, np.uint8), "label": number % 3}
            for number in range(sum(sizes))
        ]
        write(folder, name, features, {"train": examples[: sizes[0]], "test": examples[sizes[0] :]})
    features = {"image": image, "label": tfds.features.ClassLabel(num_classes=3)}
    write(folder, "bare", features, {"train": [{"image": np.zeros((4, 4, 3), np.uint8), "label": 1}] * 2})
    return folder


@pytest.fixture
def mixed(place):
    """Returns a config that takes three birds for each fish."""
    config = config_lib.default()
    config.data.name, config.data.data_dir, config.data.mixture = "birds", str(place), (("fish", "train", 1 / 3),)
    config.model.image_size, config.global_batch_size = 4, 8
    config.evaluations.test = config_lib.evaluation()
    return config


def batches(config, count, **options):
    return list(itertools.islice(data.batches(config, **options), count))


def drawn(shares, seed, count):
    """Returns the numbers of the examples at the first positions."""
    positions = order.mixed(shares, seed)
    return [positions[position] for position in range(count)]


# The order.


@pytest.mark.parametrize("shares", [[(500, 1.0), (300, 0.5)], [(400, 2.0), (900, 1.0), (200, 5.0)]])
def test_positions(shares):
    """Each data set gives its share of the images, and each of its images once before any of them comes again."""
    taken = drawn(shares, 3, 4000)
    bounds = np.cumsum([0, *(count for count, _ in shares)])
    for number, (count, weight) in enumerate(shares):
        own = [index - bounds[number] for index in taken if bounds[number] <= index < bounds[number + 1]]
        share = weight / sum(weight for _, weight in shares)
        assert len(own) == pytest.approx(4000 * share, rel=0.01)
        epochs = [own[start : start + count] for start in range(0, len(own) - count + 1, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
        for start in range(0, 4000, 100):  # no stretch has many more of one data set than another
            here = np.array(taken[start : start + 100])
            held = ((bounds[number] <= here) & (here < bounds[number + 1])).sum()
            assert held == pytest.approx(100 * share, abs=2)
    again = order.mixed(shares, 3)
    assert [again[position] for position in (1000, 7, 999)] == [taken[position] for position in (1000, 7, 999)]
    other = drawn(shares, 4, 1000)
    member = np.searchsorted(bounds, [taken[:1000], other], side="right")
    assert other != taken[:1000] and (member[0] == member[1]).all()


def test_data_sets_of_one_size_have_orders_of_their_own():
    taken = np.array(drawn([(200, 1.0), (200, 1.0)], 0, 400))
    assert (taken[taken < 200] != taken[taken >= 200] - 200).any()


def test_one_data_set_is_no_mixture():
    alone = order.shuffled(200, 5)
    assert drawn([(200, 1.0)], 5, 600) == [alone[position] for position in range(600)]


def test_batches(mixed):
    """Rows are three birds for each fish, in each batch; the label is that of the name in the classes of both."""
    made = batches(mixed, 7)
    names = data.class_names(mixed)
    assert names == (*BIRDS, *FISH)
    for batch in made:
        levels = batch["image"][:, 0, 0, 0].astype(int)
        assert (levels >= 100).sum() == 2
        for level, label in zip(levels, batch["label"], strict=True):
            fish = level >= 100
            number = next(n for n in range(7) if 10 * (n % 3) + n == level - 100 * fish)
            assert names[label] == ([*FISH, "emu"] if fish else BIRDS)[number % 3]
    counts = collections.Counter(np.concatenate([batch["index"] for batch in made]).tolist())
    assert {counts[index] for index in range(7)} == {6} and {counts[index] for index in range(7, 11)} <= {3, 4}


@pytest.mark.parametrize("division", [[[0, 1, 2, 3, 4, 5, 6, 7]], [[0, 3, 5], [1, 2, 4, 6, 7]]])
def test_the_stream_is_the_same_after_a_restart_and_on_other_processes(mixed, division):
    whole = batches(mixed, 6)
    for rows in division:
        for made, batch in zip(batches(mixed, 2, start_step=4, rows=rows), whole[4:], strict=True):
            for key, value in made.items():
                np.testing.assert_array_equal(value, batch[key][rows])


def test_workers_get_the_order_by_pickling(mixed):
    dataset = data.open_training(mixed)
    maker = pipeline.TrainingBatch(dataset._reader, range(8), 8)
    copy = pickle.loads(pickle.dumps(maker))
    np.testing.assert_array_equal(copy(5)[0]["index"], maker(5)[0]["index"])


# Classes.


def test_the_same_numbers_are_the_same_classes_and_others_are_refused(mixed, digits):
    digits.data.mixture = (("digits", "test", 1.0),)
    assert data.open_training(digits).class_names == tuple("0123456789")
    mixed.data.mixture = (("bare", "train", 1.0),)
    with pytest.raises(UserError, match="the classes of bare are called by numbers, .*classes of birds, too"):
        data.open_training(mixed)


def test_a_folder_is_mixed_in(mixed, folder, tmp_path):
    mixed.data.mixture = ((f"folder:{tmp_path}", "train", 2.0), ("fish", "train", 1.0))
    dataset = data.open_training(mixed)
    assert dataset.class_names == (*BIRDS, "cat", "dog", "eel", "carp")
    assert len(dataset) == 7 + 9 + 4
    (batch,) = batches(mixed, 1)
    assert [((low <= batch["index"]) & (batch["index"] < high)).sum() for low, high in ((0, 7), (7, 16), (16, 20))] == [
        2, 4, 2
    ]  # fmt: skip


def test_an_image_folder_without_test_images_holds_some_out(mixed, folder, tmp_path):
    """It does so, too, if it is mixed in and an evaluation asks for its test images."""
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
    for path in sorted((tmp_path / "test").iterdir(), reverse=True):
        path.rmdir()
    (tmp_path / "test").rmdir()
    mixed.data.mixture = ((f"folder:{tmp_path}", "train", 1.0),)
    mixed.evaluations.own = config_lib.evaluation(name="folder", data_dir=str(tmp_path))
    assert len(data.open_training(mixed)) == 7 + 8
    assert len(data.open_evaluation(mixed, "own")) == 1


# Which examples.


def test_some_images_of_all_data_sets_together(mixed):
    mixed.data.labels_per_class = 1
    dataset = data.open_training(mixed)
    assert sorted(dataset._source.labels(i)[0] for i in range(len(dataset))) == [0, 1, 2, 3, 4]
    assert sum((batch["image"][:, 0, 0, 0] >= 100).sum() for batch in batches(mixed, 4)) == 8
    mixed.data.labels_per_class, mixed.data.subset, mixed.seed = None, 6, SEED
    assert len(data.open_training(mixed)) == data.info(mixed).num_examples == 6
    mixed.data.subset = 12
    with pytest.raises(UserError, match="data.subset is 12, and the mixture has 11 images to draw from"):
        data.open_training(mixed)
    mixed.data.subset, mixed.data.classes = None, (4, 0)
    assert data.class_names(mixed) == ("eel", "emu")
    assert len(data.open_training(mixed)) == 3 + 2


def test_no_images_of_a_data_set_are_left(mixed):
    mixed.data.classes = (1, 2)
    with pytest.raises(
        UserError, match="no images of fish, split train, are left to mix by config.data.mixture; leave it out"
    ):
        data.open_training(mixed)


def test_evaluations_are_of_the_first_data_set_and_leave_out_what_is_trained_on(mixed):
    assert len(data.open_evaluation(mixed, "test")) == 3
    mixed.data.subset, mixed.seed = 6, SEED
    trained = data.open_training(mixed)._source
    for name, size in (("birds", 7), ("fish", 4)):
        mixed.evaluations.rest = config_lib.evaluation(name=name, split="train", exclude_train=True)
        identity = trained.parts[("birds", "fish").index(name)].identity
        taken = {
            int(i) for w, i in zip(trained.which, trained.indices, strict=True) if trained.parts[w].identity == identity
        }
        rest = data.open_evaluation(mixed, "rest")._source
        assert rest.class_names == (*BIRDS, *FISH)
        assert set(rest.indices.tolist()) == set(range(size)) - taken


# Epochs, plans and resuming.


def test_an_epoch_is_all_images_together(mixed):
    mixed.total_epochs = 16.0
    assert data.resolved(mixed).total_steps == 16 * (7 + 4) / 8


def test_what_the_catalog_tells(tmp_path):
    config = config_lib.default()
    config.data.data_dir = str(tmp_path / "nowhere")
    for name, mixture, expected in [
        ("digits", (("mnist5k", "train[:100]", 1.0),), (1600, 10, tuple("0123456789"))),
        ("imagenet2012", (("imagenet2012", "validation", 1.0),), (1331167, 1000, None)),
        ("vtab/clevr_count", (("vtab/clevr_distance", "val200", 1.0),), (1000, 14, None)),
    ]:
        config.data.name, config.data.split, config.data.mixture = name, "train", mixture
        config.data.split = "train800" if name.startswith("vtab") else "train"
        found = data.info(config)
        assert (found.num_examples, found.num_classes) == expected[:2]
        assert expected[2] in (None, found.class_names)
    config.data.name, config.data.split, config.data.mixture = "imagenet2012", "train", (("cifar10", "train", 1.0),)
    with pytest.raises(UserError, match="the data set imagenet2012 isn't prepared"):
        data.info(config)
    config.model.num_classes = 1010  # the names of the classes, which decide their number, are not in the catalog
    assert data.info(config) == data.Info(1331167, 1010, None)


def test_the_identity_has_all_data_sets_and_weights(mixed):
    found = data.describe(mixed)
    assert found == json.loads(json.dumps(found)) and data.is_identity(found)
    assert [part["dataset"] for part in found["parts"]] == ["birds/1.0.0", "fish/1.0.0"]
    assert found["mixture"] == [[7, 1.0], [4, 1 / 3]]
    assert data.differences(found, data.describe(mixed)) == []
    mixed.data.mixture = (("fish", "train", 0.5),)
    assert data.differences(found, data.describe(mixed)) == [
        "the data sets of the mixture had other numbers of images or weights"
    ]
    mixed.data.mixture = ()
    assert "mixture" not in data.describe(mixed)
    assert "11 training images before, 7 now" in data.differences(found, data.describe(mixed))


# What is wrong.


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ([("fish", "train", 0.0)], r"config.data.mixture is .*; it must be above 0"),
        ([("fish", "train")], r"config.data.mixture is .*; it takes a tuple"),
        ([("folder", "train", 1.0)], r"mixture\[0\] is 'folder', and does not say where .*; write folder:DIR"),
        ([("fish", "train", 1.0), ("fihs", "train", 1.0)], r"mixture\[1\] is fihs: there is no data set 'fihs'"),
        ([("fish", "dev", 1.0)], r"config.data.mixture\[0\] is fish: fish has no split 'dev'; it has train, test"),
        ([("folder:/nowhere", "train", 1.0)], r"config.data.mixture\[0\] is folder: .* no such folder"),
    ],
)  # fmt: skip
def test_wrong_mixtures(mixed, mixture, said):
    config = mixed.to_dict()
    config["data"]["mixture"] = mixture
    with pytest.raises(UserError, match=said) as error:
        data.open_training(config)
    assert "\n" not in str(error.value)


def test_a_flag_sets_it():
    config = command_line.load_config("configs/digits.py", [("data.mixture", '(("folder:/own", "train", 0.5),)')])
    assert config.data.mixture == (("folder:/own", "train", 0.5),)
