"""The sections about images: those to train on, their augmentation, and those to evaluate on."""

import dataclasses

from vit_jax.schema.key import duration, key

_FEWSHOT = ("kind", "fewshot")
_LEARNS = ("kind", "fewshot", "knn", "probe")
_HEAD = ("kind", "classification")


@dataclasses.dataclass(frozen=True)
class Data:
    """The training images, and how the host reads and crops them."""

    name: str = key(
        "digits",
        "digits, mnist5k, folder (your own images), tars (of images, one for each class), synthetic, or the name of a "
        "data set in TensorFlow Datasets",
    )
    split: str = key("train", "split to train on, such as train[:90%]")
    data_dir: str | None = key(
        None,
        "with folder, the folder DIR of DIR/{train,test}/CLASS/* or DIR/CLASS/*, or with a labels.csv; with tars, that "
        "of DIR/CLASS.tar or DIR/SPLIT/CLASS.tar; otherwise the one in which TensorFlow Datasets keeps its data sets",
    )
    mixture: tuple[tuple[str, str, float], ...] = key(
        (),
        "further data sets to train on, as triples (name or folder:DIR, split, weight); the weight of `name` is 1, and "
        "images are taken in proportion to the weights; classes of the same name are one, and an epoch is as many "
        "images as all data sets have together",
        above=0,
    )
    classes: tuple[int, ...] = key(
        (),
        "train and evaluate on these classes only, renumbered from 0 in this order; () for all classes",
        least=0,
        needs=("max_labels",),
    )
    labels_per_class: int | None = key(
        None,
        "train on only this many images of each class, drawn at random with `seed`",
        above=0,
        needs=("max_labels",),
    )
    subset: int | None = key(None, "train on only this many images, drawn at random with `seed`", above=0)
    max_labels: int = key(
        1, "largest number of classes that an image may have; 0 to read no labels", least=0, most=2**16
    )
    crop: str = key(
        "resize",
        "resize: the whole image is resized; inception: a box of random position, area and aspect ratio is (1409.4842);"
        " random: the image is resized to `shorter_side`, and cut at a random position",
        choices=("resize", "inception", "random"),
    )
    shorter_side: int | None = key(
        None,
        "length of the shorter side before the cut; by default 8/7 of the model's image size",
        above=0,
        only=("crop", "random"),
        unit="pixels",
    )
    crop_area_min: float = key(
        0.05, "smallest area of that box, as a share of the image", above=0, most=1, only=("crop", "inception")
    )
    repeats: int = key(
        1,
        "number of successive rows that are made of the same image, each with its own crop and augmentation (repeated "
        "augmentation, 1902.05509); the number of images in an epoch stays the same, so it has fewer different ones",
        above=0,
    )
    corrupt: str = key(
        "replace",
        "what to do if an image can't be read: replace it by another in training and leave it out of evaluations, or "
        "fail",
        choices=("replace", "fail"),
    )
    exif: str = key("ignore", "whether to turn photographs as their EXIF orientation says", choices=("ignore", "apply"))
    threads: int = key(4, "number of threads that make batches if workers is 0", above=0)
    workers: int = key(0, "number of processes that make batches; with 0, threads of this process make them", least=0)
    num_examples: int = key(1024, "number of training images", above=0, most=10_000_000, only=("name", "synthetic"))
    num_classes: int = key(10, "number of classes", above=0, most=10_000_000, only=("name", "synthetic"))


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images, which the device makes inside the training step."""

    flip: bool = key(False, "flip each image left to right with probability 1/2")
    rotate_degrees: float = key(0.0, "largest angle of a random rotation, in either direction", least=0, unit="degrees")
    shift_pixels: float = key(0.0, "largest random shift along each side, in either direction", least=0, unit="pixels")
    brightness: float = key(
        0.0,
        "largest relative change of the brightness, in either direction; 0.4 draws factors from 0.6 to 1.4",
        least=0,
    )
    contrast: float = key(0.0, "like `brightness`, of the distance to the image's mean grey", least=0)
    saturation: float = key(0.0, "like `brightness`, of the distance to the image in grey", least=0)
    hue: float = key(
        0.0, "largest change of the hue in either direction, as a share of the colour circle", least=0, most=0.5
    )
    autoaugment: bool = key(False, "apply AutoAugment's policy for ImageNet (1805.09501)")
    randaugment_layers: int = key(
        0,
        "number of operations that RandAugment (1909.13719) applies to each image; 0 for no RandAugment",
        least=0,
        most=10,
    )
    randaugment_magnitude: float = key(
        10.0, "how far RandAugment's operations go, as in 2106.10270", least=0, most=20, needs=("randaugment_layers",)
    )
    erasing: float = key(
        0.0, "probability that a box of the image is erased (random erasing, 1708.04896)", least=0, most=1
    )
    erasing_area_min: float = key(
        0.02, "smallest area of that box, as a share of the image", above=0, most=1, needs=("erasing",)
    )
    erasing_area_max: float = key(
        1 / 3, "largest area of that box, as a share of the image", above=0, most=1, needs=("erasing",)
    )
    erasing_aspect_min: float = key(
        0.3,
        "smallest ratio of that box's height and width; the largest is its inverse",
        above=0,
        most=1,
        needs=("erasing",),
    )
    erasing_fill: str = key(
        "noise",
        "what fills that box: normal noise with the mean and the deviation of ImageNet, or the mean",
        choices=("noise", "mean"),
        needs=("erasing",),
    )
    mixup: float = key(0.0, "alpha of mixup's Beta distribution (1710.09412); 0 for no mixup", least=0)
    cutmix: float = key(0.0, "alpha of CutMix's Beta distribution (1905.04899); 0 for no CutMix", least=0)
    cutmix_share: float = key(
        0.5,
        "probability that an image goes through CutMix and not through mixup",
        least=0,
        most=1,
        needs=("mixup", "cutmix"),
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation on a split. It runs after the last step, and also at regular intervals if an interval is given."""

    kind: str = key(
        "classification",
        "classification: what the task predicts, such as classes by the head; the others learn classes from frozen "
        "features: fewshot by least squares from a few images of each, knn by the nearest neighbours, probe by "
        "logistic regression",
        choices=("classification", "fewshot", "knn", "probe"),
    )
    split: str = key("test", "split to evaluate on")
    more_measures: tuple[str, ...] = key(
        (),
        "measures besides the task's own, such as accuracy and loss; top5: accuracy of the five most probable classes; "
        "class_accuracy: mean over the classes of their accuracies; calibration_error: expected calibration error with "
        "15 bins (1706.04599)",
        choices=("top5", "class_accuracy", "calibration_error"),
        only=_HEAD,
    )
    classes: str = key(
        "all",
        "all: every class trained on may be predicted, and the images have no other; common: of the classes trained on "
        "only those, by name, that images of this split have are predicted, and images of other classes are left out, "
        "as for ImageNet-A and -R",
        choices=("all", "common"),
        only=_HEAD,
    )
    shots: tuple[int, ...] = key(
        (5,),
        "numbers of images of each class to learn from; each N gives the metric NAME/Nshot",
        above=0,
        fewest=1,
        only=_FEWSHOT,
    )
    draws: int = key(3, "number of random draws of these images, over which the mean is taken", above=0, only=_FEWSHOT)
    train_split: str = key(
        "train",
        "split to learn from; images that are learned from are not tested, even if they are in `split`",
        only=_LEARNS,
    )
    k: tuple[int, ...] = key(
        (1, 10, 20, 100),
        "numbers of nearest neighbours that vote; each N gives the metric NAME/Nnn",
        above=0,
        fewest=1,
        only=("kind", "knn"),
    )
    l2: tuple[float, ...] = key(
        tuple(2.0**power for power in range(-5, 15)),
        "strengths of the regularisation, of which held-out images choose one",
        least=1e-6,
        fewest=1,
        only=("kind", "fewshot", "probe"),
    )
    name: str | None = key(None, "name of the data set; by default that of the training")
    data_dir: str | None = key(None, "folder of the data set, see `data.data_dir`")
    max_labels: int | None = key(None, "like `data.max_labels`, whose value is the default", least=0, most=2**16)
    exclude_train: bool = key(False, "leave out the images of this split that are trained on")
    shorter_side: int | None = key(
        None, "replaces `preprocessing.shorter_side` in this evaluation", least=0, unit="pixels"
    )
    batch_size: int | None = key(
        None, "number of images in each step, over all devices; by default `global_batch_size`", above=0
    )
    every_steps: int | None = duration("interval between two evaluations", "steps")
    every_epochs: float | None = duration("interval between two evaluations", "epochs")
    every_examples: int | None = duration("interval between two evaluations", "examples")
    every_percent: float | None = duration("interval between two evaluations", "percent")
