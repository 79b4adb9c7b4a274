"""The 19 tasks of the Visual Task Adaptation Benchmark with 1,000 images each, VTAB-1k (1910.04867).

The data sets, the splits and the labels are those of the benchmark's published code, google-research/task_adaptation.
The order of the images is that of TensorFlow Datasets, so the images are the published ones as long as TFDS does not
change its order.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vit_jax.data.catalog import datasets
from vit_jax.data.catalog.entry import Entry, Label

PREFIX = "vtab/"  # of the names of the tasks in a config
NATURAL, SPECIALISED, STRUCTURED = "natural", "specialised", "structured"


class Task(NamedTuple):
    """A task. Its 800 training images are always `train[:800]`.

    Attributes:
        group: one of the three groups of tasks over which the paper takes means.
        dataset: the name in TensorFlow Datasets.
        val200: the split with the 200 images to validate on. Where the data set has no split for it, they are the first
            of the examples behind the benchmark's own training split, which has 60, 80 or 90 % of them.
        test: the split to test on.
        label: how labels are computed; None if they are the feature `label`.
        factor: pixels are multiplied by it.
    """

    group: str
    dataset: str
    val200: str = "validation[:200]"
    test: str = "test"
    label: Label | None = None
    factor: int = 1


# In CLEVR, the distance of the nearest object from the camera is split at these values, in the scene's units.
_CLEVR_DISTANCES = (8.0, 8.5, 9.0, 9.5, 10.0)
# In KITTI, the distance of the nearest vehicle along the optical axis is split at these values, in metres.
_KITTI_DISTANCES = (8.0, 20.0)
_VEHICLES = 3  # the first three types of objects in KITTI are car, van and truck
_FEWEST = 3  # objects in an image of CLEVR


def clevr_count(objects: Mapping[str, Any]) -> int:
    """Returns the number of objects in an image of CLEVR, less 3; an image has 3 to 10."""
    return len(objects["size"]) - _FEWEST


def clevr_distance(objects: Mapping[str, Any]) -> int:
    """Returns the class of the distance of the nearest object, the third coordinate in pixel_coords; -1 if none."""
    distances = np.asarray(objects["pixel_coords"]).reshape(-1, 3)[:, 2]
    return int(np.searchsorted(_CLEVR_DISTANCES, distances.min())) if len(distances) else -1


def kitti_distance(objects: Mapping[str, Any]) -> int:
    """Returns the class of the distance of the nearest car, van or truck; the last one if there is none."""
    distances = np.asarray(objects["location"]).reshape(-1, 3)[:, 2]
    vehicles = distances[np.asarray(objects["type"]) < _VEHICLES]
    return int(np.searchsorted(_KITTI_DISTANCES, vehicles.min())) if len(vehicles) else len(_KITTI_DISTANCES) + 1


def dsprites_location(position: int) -> int:
    """Returns one of 16 classes from one of the 32 horizontal positions of a sprite."""
    return int(position) * 16 // 32


def dsprites_orientation(orientation: int) -> int:
    """Returns one of 16 classes from one of the 40 orientations of a sprite."""
    return int(orientation) * 16 // 40


def _between(bounds: tuple[float, ...], unit: str = "") -> tuple[str, ...]:
    """Returns the names of the intervals between some bounds."""
    inner = [f"{low:g} to {high:g}{unit}" for low, high in itertools.pairwise(bounds)]
    return f"up to {bounds[0]:g}{unit}", *inner, f"over {bounds[-1]:g}{unit}"


_CLEVR_COUNT = Label("objects", clevr_count, tuple(f"{count} objects" for count in range(_FEWEST, 11)))
_CLEVR_DISTANCE = Label("objects", clevr_distance, _between(_CLEVR_DISTANCES))
_KITTI = Label("objects", kitti_distance, (*_between(_KITTI_DISTANCES, " m"), "no vehicle"))
_LOCATION = Label("label_x_position", dsprites_location, tuple(f"column {bin}" for bin in range(16)))
_ORIENTATION = Label("label_orientation", dsprites_orientation, tuple(f"orientation {bin}" for bin in range(16)))
_AZIMUTH = Label("label_azimuth", int, tuple(f"azimuth {20 * label} degrees" for label in range(18)))
_ELEVATION = Label("label_elevation", int, tuple(f"elevation {30 + 5 * label} degrees" for label in range(9)))

_RETINOPATHY = "diabetic_retinopathy_detection/btgraham-300"
_CLEVR = ("clevr", "train[63000:63200]", "validation")
_DSPRITES = ("dsprites", "train[589824:590024]", "train[663552:]")
_SMALLNORB = ("smallnorb", "test[:200]", "test[50%:]")

TASKS: Mapping[str, Task] = {
    "caltech101": Task(NATURAL, "caltech101", "train[2753:2953]"),
    "cifar100": Task(NATURAL, "cifar100", "train[45000:45200]"),
    "dtd": Task(NATURAL, "dtd"),
    "oxford_flowers102": Task(NATURAL, "oxford_flowers102"),
    "oxford_iiit_pet": Task(NATURAL, "oxford_iiit_pet", "train[2944:3144]"),
    "sun397": Task(NATURAL, "sun397/tfds"),
    "svhn": Task(NATURAL, "svhn_cropped", "train[65931:66131]"),
    "patch_camelyon": Task(SPECIALISED, "patch_camelyon"),
    "eurosat": Task(SPECIALISED, "eurosat/rgb", "train[16200:16400]", "train[21600:]"),
    "resisc45": Task(SPECIALISED, "resisc45", "train[18900:19100]", "train[25200:]"),
    "diabetic_retinopathy": Task(SPECIALISED, _RETINOPATHY),
    "clevr_count": Task(STRUCTURED, *_CLEVR, _CLEVR_COUNT),
    "clevr_distance": Task(STRUCTURED, *_CLEVR, _CLEVR_DISTANCE),
    "dmlab": Task(STRUCTURED, "dmlab"),
    "dsprites_location": Task(STRUCTURED, *_DSPRITES, _LOCATION, 255),
    "dsprites_orientation": Task(STRUCTURED, *_DSPRITES, _ORIENTATION, 255),
    "kitti_distance": Task(STRUCTURED, "kitti", label=_KITTI),
    "smallnorb_azimuth": Task(STRUCTURED, *_SMALLNORB, _AZIMUTH),
    "smallnorb_elevation": Task(STRUCTURED, *_SMALLNORB, _ELEVATION),
}

# The sizes of the data sets without classes of their own. CLEVR's split `test` has no objects.
_SIZES: Mapping[str, Mapping[str, int]] = {
    "clevr": {"train": 70000, "validation": 15000, "test": 15000},
    "dsprites": {"train": 737280},
    "kitti": {"train": 6347, "validation": 423, "test": 711},
    "smallnorb": {"train": 24300, "test": 24300},
}


def _entry(task: Task) -> Entry:
    own = datasets.ENTRIES.get(task.dataset)
    train800 = "train[:800]"
    return Entry(
        splits=own.splits if own else _SIZES[task.dataset],
        num_classes=len(task.label.names) if task.label else datasets.ENTRIES[task.dataset].num_classes,
        class_names=task.label.names if task.label else None,
        made={
            "train800": train800,
            "val200": task.val200,
            "train800val200": f"{train800}+{task.val200}",
            "test": task.test,
        },
        dataset=task.dataset,
        label=task.label,
        factor=task.factor,
    )


ENTRIES: Mapping[str, Entry] = {PREFIX + name: _entry(task) for name, task in TASKS.items()}
