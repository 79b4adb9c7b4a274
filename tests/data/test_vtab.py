"""VTAB-1k: the published splits and labels, against TFDS's own builders and small data sets of their structure."""

import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from helpers.tfds import write
from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.data import catalog
from vit_jax.data.catalog import vtab
from vit_jax.errors import UserError

# Numbers of classes (1910.04867, table of the data sets) and of test images (2203.12119, table of the data sets).
PUBLISHED = {
    "caltech101": (102, 6_084), "cifar100": (100, 10_000), "dtd": (47, 1_880), "oxford_flowers102": (102, 6_149),
    "oxford_iiit_pet": (37, 3_669), "sun397": (397, 21_750), "svhn": (10, 26_032), "patch_camelyon": (2, 32_768),
    "eurosat": (10, 5_400), "resisc45": (45, 6_300), "diabetic_retinopathy": (5, 42_670), "clevr_count": (8, 15_000),
    "clevr_distance": (6, 15_000), "dmlab": (6, 22_735), "dsprites_location": (16, 73_728),
    "dsprites_orientation": (16, 73_728), "kitti_distance": (4, 711), "smallnorb_azimuth": (18, 12_150),
    "smallnorb_elevation": (9, 12_150),
}  # fmt: skip

# Where the benchmark cuts its validation images off the training images: at this percentage of them, rounded down.
CUT = {"caltech101": 90, "cifar100": 90, "svhn": 90, "oxford_iiit_pet": 80, "eurosat": 60, "resisc45": 60, "clevr": 90,
       "dsprites": 80}  # fmt: skip


def config_of(name, split, **keys):
    config = config_lib.default()
    config.data.name, config.data.split = name, split
    for key, value in keys.items():
        config.data[key] = value
    return config


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_and_splits_are_the_published_ones(name):
    entry = catalog.ENTRIES[f"vtab/{name}"]
    classes, tested = PUBLISHED[name]

    def resolved(split):
        parts = catalog.resolve(f"vtab/{name}", split, lambda base: entry.count(name, base))
        return [(base, number) for base, numbers in parts for number in numbers]

    train800, val200, test = resolved("train800"), resolved("val200"), resolved("test")
    assert train800 == [("train", number) for number in range(800)]
    cut = CUT.get(name, CUT.get(name.split("_")[0]))
    first = ("train", entry.splits["train"] * cut // 100) if cut else None
    if first is None:
        first = ("test" if name.startswith("smallnorb") else "validation", 0)
    assert val200 == [(first[0], first[1] + number) for number in range(200)]
    assert resolved("train800val200") == train800 + val200
    assert len(test) == tested and len(set(train800 + val200 + test)) == tested + 1000
    assert data.info(config_of(f"vtab/{name}", "test")).num_classes == classes
    assert data.info(config_of(f"vtab/{name}", "train800val200[100:900]")).num_examples == 800


def test_there_are_19_tasks_in_three_groups():
    groups = [task.group for task in vtab.TASKS.values()]
    assert vtab.TASKS.keys() == PUBLISHED.keys()
    assert [groups.count(group) for group in ("natural", "specialised", "structured")] == [7, 4, 8]


TFDS = {
    **{entry.dataset: entry for entry in catalog.vtab.ENTRIES.values()},
    **{
        name: entry
        for name, entry in catalog.datasets.ENTRIES.items()
        if name not in ("digits", "mnist5k", "imagenet21k", "jft300m")
    },
}


@pytest.mark.parametrize("name", TFDS)
def test_tfds_has_the_data_set(name, tmp_path):
    """Its builder, which is made without a download, has the configuration, the features and as many classes."""
    features = tfds.builder(name, data_dir=tmp_path).info.features
    assert isinstance(features["image"], tfds.features.Image)
    tasks = [entry for entry in vtab.ENTRIES.values() if entry.dataset == name and entry.label]
    for label in (entry.label for entry in tasks):
        assert label.feature in features
        if hasattr(features[label.feature], "num_classes"):
            every = {label.of(value) for value in range(features[label.feature].num_classes)}
            assert every == set(range(len(label.names)))
    if not tasks:
        feature = features["real_label"].feature if name == "imagenet2012_real" else features["label"]
        assert feature.num_classes == TFDS[name].num_classes
    assert not list(tmp_path.iterdir())


def test_imagenet_real_and_v2_have_the_classes_of_imagenet(tmp_path):
    names = ("imagenet2012", "imagenet2012_real", "imagenet_v2/matched-frequency")
    of, real, v2 = (tfds.builder(name, data_dir=tmp_path).info.features for name in names)
    assert of["label"].names == real["real_label"].feature.names == v2["label"].names


def objects_of_clevr(*distances):
    return {"pixel_coords": np.array([[0, 0, z] for z in distances], np.float32), "size": [0] * len(distances)}


@pytest.mark.parametrize("distance", [2.0, 7.99, 8.0, 8.01, 8.5, 8.75, 9.0, 9.3, 9.5, 9.9, 10.0, 10.1, 50.0])
def test_distances_of_clevr(distance):
    """The class is the last of the published bounds that lies below the nearest object."""
    bounds = [0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0]
    expected = max(number for number, bound in enumerate(bounds) if bound - np.float32(distance) < 0)
    assert vtab.clevr_distance(objects_of_clevr(99.0, distance, 60.0)) == expected


@pytest.mark.parametrize("distance", [-1.0, 7.9, 8.0, 8.1, 20.0, 20.1, 900.0, None])
def test_distances_of_kitti(distance):
    """The class is the last of the published bounds below the nearest vehicle, which counts as 1000 m if there is none.

    Of the types of objects, 0 to 2 are vehicles.
    """
    bounds = [-100.0, 8.0, 20.0, 999.0]
    expected = max(n for n, bound in enumerate(bounds) if bound < (1000.0 if distance is None else distance))
    rows = [(3, 1.0), (5, 0.5), *([(2, 950.0), (0, distance)] if distance is not None else [])]
    objects = {"type": [kind for kind, _ in rows], "location": [[0.0, 0.0, z] for _, z in rows]}
    assert vtab.kitti_distance(objects) == expected


def written(name, tmp_path, make, **splits):
    """Writes a data set with the features that TFDS's own builder says; `make` returns the example of a number."""
    features = tfds.builder(name, data_dir=tmp_path / "none").info.features
    ranges = np.cumsum([0, *splits.values()])
    write(tmp_path, name, features, {
        split: [make(number) for number in range(start, stop)]
        for split, start, stop in zip(splits, ranges, ranges[1:], strict=False)
    })  # fmt: skip


def shrink(monkeypatch, name, **changes):
    """Gives a task splits that fit into a small data set."""
    entry = dataclasses.replace(catalog.ENTRIES[f"vtab/{name}"], **changes)
    monkeypatch.setitem(catalog.ENTRIES, f"vtab/{name}", entry)


def opened(name, split, tmp_path, **keys):
    return data.open_training(config_of(f"vtab/{name}", split, data_dir=str(tmp_path), **keys))._source


def labelled(name, split, tmp_path):
    """Returns the label of each image, by the grey level that all its pixels have."""
    dataset = data.open(data.Spec(f"vtab/{name}", split, str(tmp_path), size=(8, 8)))
    (batch,) = dataset.examples(len(dataset))
    return dict(zip(batch["image"][:, 0, 0, 0].tolist(), batch["label"].tolist(), strict=True))


def test_a_data_set_like_clevr(tmp_path, monkeypatch):
    def example(number):
        one = {"3d_coords": [0, 0, 0], "color": 0, "material": 0, "rotation": 0.0, "shape": 0, "size": 0}
        objects = [{**one, "pixel_coords": [0.0, 0.0, 7.0 + number / 2 + i]} for i in range(3 + number % 8)]
        return {
            "file_name": str(number),
            "image": np.full((4, 6, 3), number, np.uint8),
            "objects": objects,
            "question_answer": [],
        }

    written("clevr", tmp_path, example, train=12, validation=6)
    made = {"train800": "train[:8]", "val200": "train[9:11]", "train800val200": "train[:8]+train[9:11]",
            "test": "validation"}  # fmt: skip
    for name in ("clevr_count", "clevr_distance"):
        shrink(monkeypatch, name, made=made, splits={"train": 12, "validation": 6})
    for split, size in (("train800", 8), ("val200", 2), ("train800val200", 10), ("test", 6), ("test[:50%]", 3)):
        count, distance = (labelled(name, split, tmp_path) for name in ("clevr_count", "clevr_distance"))
        assert len(count) == size
        assert count == {number: number % 8 for number in count}
        assert distance == {n: vtab.clevr_distance(objects_of_clevr(7.0 + n / 2)) for n in count}
    count, distance = (opened(name, "test", tmp_path) for name in ("clevr_count", "clevr_distance"))
    assert count.class_names == tuple(f"{n} objects" for n in range(3, 11))
    assert distance.class_names == ("up to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "over 10")
    config = config_of("vtab/clevr_count", "train800", data_dir=str(tmp_path))
    config.evaluations.rest = config_lib.evaluation(split="train800val200", exclude_train=True)
    rest = data.open_evaluation(config, "rest")._source
    assert set(rest.indices.tolist()) == {9, 10}
    with pytest.raises(UserError, match="vtab/clevr_count has no split 'train'; it has train800, val200"):
        opened("clevr_count", "train", tmp_path)
    with pytest.raises(UserError, match="clevr can't be classified.*names vtab/clevr_count and vtab/clevr_distance"):
        data.open_training(config_of("clevr", "train", data_dir=str(tmp_path)))


def test_images_of_clevr_without_objects_have_no_class():
    """The split `test` of CLEVR has no objects. -1 is refused as no class of the data set."""
    assert vtab.clevr_distance(objects_of_clevr()) == -1
    assert vtab.clevr_count(objects_of_clevr()) == -3


def test_a_data_set_like_dsprites(tmp_path, monkeypatch):
    """Pixels are stored as 0 and 1, and are read as 0 and 255."""
    pixels = np.random.default_rng(0).integers(0, 2, (40, 64, 64, 1), np.uint8)

    def example(number):
        latents = {"orientation": number % 40, "scale": 0, "shape": 0, "x_position": number % 32, "y_position": 5}
        labels = {f"label_{name}": value for name, value in latents.items()}
        values = {f"value_{name}": 0.0 for name in latents}
        return {"image": pixels[number], **labels, **values}

    written("dsprites", tmp_path, example, train=40)
    made = {"train800": "train[:40]", "val200": "train[30:32]", "train800val200": "train", "test": "train[36:]"}
    for name, states, key in (("dsprites_location", 32, 2), ("dsprites_orientation", 40, 2.5)):
        shrink(monkeypatch, name, made=made)
        source = opened(name, "train800", tmp_path)
        assert len(source) == 40 and len(source.class_names) == 16
        for index in range(40):
            image = source[index]["image"]
            (number,) = [n for n in range(40) if (pixels[n, ..., 0] * 255 == image).all()]
            assert source.labels(index) == (int(number % states // key),)


def test_a_data_set_like_kitti(tmp_path, monkeypatch):
    distances = [3.0, 12.0, 40.0, None]

    def example(number):
        box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
        one = {"alpha": 0.0, "bbox": box, "dimensions": [1, 1, 1], "occluded": 0, "rotation_y": 0.0, "truncated": 0.0}
        z = distances[number % 4]
        objects = [] if z is None else [{**one, "type": "Van", "location": [0, 0, z]}]
        objects += [{**one, "type": "Pedestrian", "location": [0, 0, 1.0]}] * (number % 3)
        return {"image": np.full((4, 9, 3), number, np.uint8), "image/file_name": str(number), "objects": objects}

    written("kitti", tmp_path, example, train=12, validation=2, test=4)
    made = {"train800": "train[:10]", "val200": "validation", "train800val200": "train[:10]+validation", "test": "test"}
    shrink(monkeypatch, "kitti_distance", made=made)
    source = opened("kitti_distance", "train800val200", tmp_path)
    assert len(source) == 12
    assert source.class_names == ("up to 8 m", "8 to 20 m", "over 20 m", "no vehicle")
    assert labelled("kitti_distance", "test", tmp_path) == {number: number % 4 for number in range(14, 18)}
    few = opened("kitti_distance", "train800", tmp_path, labels_per_class=2)
    assert sorted(few.labels(index) for index in range(8)) == [(0,)] * 2 + [(1,)] * 2 + [(2,)] * 2 + [(3,)] * 2


def test_a_data_set_like_smallnorb(tmp_path, monkeypatch):
    def example(number):
        image = np.full((96, 96, 1), number, np.uint8)
        labels = {"label_azimuth": number % 18, "label_elevation": number % 9, "label_category": 0, "label_lighting": 0}
        return {"image": image, "image2": image, "instance": 0, **labels}

    written("smallnorb", tmp_path, example, train=20, test=8)
    for name, states in (("smallnorb_azimuth", 18), ("smallnorb_elevation", 9)):
        made = {"train800": "train[:9]", "val200": "test[:2]", "train800val200": "train[:9]+test[:2]",
                "test": "test[50%:]"}  # fmt: skip
        shrink(monkeypatch, name, made=made)
        assert len(opened(name, "train800val200", tmp_path).class_names) == states
        found = labelled(name, "test", tmp_path)
        assert len(found) == 4 and found == {number: number % states for number in found}


def test_names_that_are_no_tasks(tmp_path):
    with pytest.raises(
        UserError, match="VTAB has no task 'clevr'; write vtab/ before one of caltech101, .*clevr_count"
    ):
        data.info(config_of("vtab/clevr", "test"))
    with pytest.raises(UserError, match=r"the data set clevr:3.0.0 isn't prepared in .*tfds build clevr:3.0.0 --file"):
        opened("clevr_count:3.0.0", "test", tmp_path)
    with pytest.raises(UserError, match=r"tfds build diabetic_retinopathy_detection/btgraham-300 .*by hand first"):
        opened("diabetic_retinopathy", "test", tmp_path)
