"""Evaluate a model on the test images of a data set, by its head or by its frozen features.

    python -m vit_jax.evaluate --model=/tmp/b16 --config=configs/evaluate.py:imagenet2012,classification,real,v2
    python -m vit_jax.evaluate --model=/tmp/vit_digits --config=configs/evaluate.py:digits,classification,fewshot,knn

Arguments: `evaluate.py:DATASET` or `evaluate.py:DATASET,KIND,…`. DATASET is digits, imagenet21k, or one of those of
`transfer.py`: imagenet2012, cifar10, cifar100, oxford_iiit_pet, oxford_flowers102, a task of VTAB-1k such as vtab/dtd,
or `folder:DIR` for your own images. The model is judged at its own image size and with its own preprocessing. Each
KIND is an evaluation; without one, there is `classification` alone.

    classification   accuracy, loss, top-5 and mean per-class accuracy and calibration error of the head, whose classes
                     must be those of the data set
    real, v2         for imagenet2012: accuracy and loss on ImageNet ReaL and ImageNet-v2, which `transfer.py` describes
    fewshot          accuracy after 5 and 10 images of each class, by least squares; the mean of three draws
    knn              accuracy of the 1, 10, 20 and 100 nearest neighbours among the training images
    probe            accuracy of logistic regression on the training images

The last three need no head, and a model of any classes will do. A key changes each of them, such as
`--config.evaluations.fewshot.shots=1,25` or `--config.evaluations.knn.k=5`, which a small training set may need.

Hardware: any; devices share the batch, `--config.global_batch_size=256`. Time: a forward pass for each image, also for
each training image with knn and probe. Expect of the small ViT of `digits.py`, seed 0 (measured on a CPU): an accuracy
of 99.3 %.
"""

from typing import Any

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.data.catalog import IMAGENET_TESTS
from vit_jax.errors import UserError

KINDS: dict[str, dict[str, Any]] = {
    "classification": {"more_measures": ("top5", "class_accuracy", "calibration_error")},
    "fewshot": {"shots": (5, 10)},
    "knn": {},
    "probe": {},
}
# The recipes of data sets that transfer.py does not have.
RECIPES = {"digits": "digits.py", "imagenet21k": "pretrain.py:B/16,imagenet21k"}


def get_config(arguments: str = "") -> config_lib.Section:
    dataset, *kinds = (part.strip() for part in arguments.split(","))
    if dataset.startswith("folder:"):  # whose path may have commas; kinds follow the last ones
        dataset, kinds = _folder(arguments)
    if not dataset:
        raise UserError("evaluate.py takes a data set, such as evaluate.py:imagenet2012 or evaluate.py:digits,knn")
    allowed = [*KINDS, *(IMAGENET_TESTS if dataset == "imagenet2012" else ())]
    config_file.check_options("evaluate.py", arguments, kinds, allowed, dataset)
    config = _base(dataset)
    ((name, test),) = config.evaluations.items()
    del config.evaluations[name]
    config.preprocessing = config_lib.default().preprocessing  # each model has its own
    config.global_batch_size = 256
    for kind in kinds or ["classification"]:
        if kind in IMAGENET_TESTS:
            config.evaluations[kind] = config_lib.evaluation(**IMAGENET_TESTS[kind])
            continue
        learns = {} if kind == "classification" else {"train_split": config.data.split}
        config.evaluations[kind] = config_lib.evaluation(kind=kind, split=test.split, **learns, **KINDS[kind])
    return config


def _base(dataset: str) -> config_lib.Section:
    """Returns the config of the recipe that says which images are trained on, and which are tested on."""
    if dataset in RECIPES:
        return config_file.section(f"configs/{RECIPES[dataset]}")
    try:
        return config_file.section(f"configs/transfer.py:B/16,{dataset}")
    except UserError as error:
        raise UserError(
            f"evaluate.py has no data set {dataset!r}; take {', '.join(RECIPES)}, one that transfer.py names, or "
            "folder:DIR"
        ) from error


def _folder(arguments: str) -> tuple[str, list[str]]:
    """Returns `folder:DIR` and the kinds after it."""
    parts = arguments.split(",")
    kinds: list[str] = []
    while len(parts) > 1 and parts[-1].strip() in (*KINDS, *IMAGENET_TESTS):
        kinds.insert(0, parts.pop().strip())
    return ",".join(parts), kinds
