"""The sizes of well-known data sets, by their names in TensorFlow Datasets."""

from collections.abc import Mapping
from typing import Any

from vit_jax.data.catalog.entry import Entry

DIGITS = tuple("0123456789")

# What models of imagenet2012 are also tested on, by short names: keys of an evaluation. ReaL has nine labels at most.
IMAGENET_TESTS: Mapping[str, dict[str, Any]] = {
    "real": {"name": "imagenet2012_real", "split": "validation", "max_labels": 9},
    "v2": {"name": "imagenet_v2/matched-frequency", "split": "test", "max_labels": 1},
}

ENTRIES: Mapping[str, Entry] = {
    "digits": Entry({"train": 1500, "test": 297}, 10, DIGITS),
    "mnist5k": Entry({"train": 4500, "test": 500}, 10, DIGITS),
    "imagenet2012": Entry({"train": 1281167, "validation": 50000}, 1000),
    "imagenet2012_real": Entry({"validation": 50000}, 1000),  # ImageNet ReaL (2006.07159)
    "imagenet_v2/matched-frequency": Entry({"test": 10000}, 1000),  # ImageNet-v2 (1902.10811)
    # ImageNet-21k has one split, which some users call "full" and others "train".
    "imagenet21k": Entry({"full": 14197122, "train": 14197122}, 21843),
    # JFT-300M is not public. With its size, `plan` can plan the paper's own runs.
    "jft300m": Entry({"train": 303_000_000}, 18291),
    "cifar10": Entry({"train": 50000, "test": 10000}, 10),
    "cifar100": Entry({"train": 50000, "test": 10000}, 100),
    "oxford_iiit_pet": Entry({"train": 3680, "test": 3669}, 37),
    "oxford_flowers102": Entry({"train": 1020, "validation": 1020, "test": 6149}, 102),
    "caltech101": Entry({"train": 3059, "test": 6084}, 102),
    "dtd": Entry({"train": 1880, "validation": 1880, "test": 1880}, 47),
    "sun397/tfds": Entry({"train": 76128, "validation": 10875, "test": 21750}, 397),
    "svhn_cropped": Entry({"train": 73257, "test": 26032, "extra": 531131}, 10),
    "patch_camelyon": Entry({"train": 262144, "validation": 32768, "test": 32768}, 2),
    "eurosat/rgb": Entry({"train": 27000}, 10),
    "resisc45": Entry({"train": 31500}, 45),
    "diabetic_retinopathy_detection/btgraham-300": Entry(
        {"sample": 10, "train": 35126, "validation": 10906, "test": 42670}, 5
    ),
    "dmlab": Entry({"train": 65550, "validation": 22628, "test": 22735}, 6),
}
