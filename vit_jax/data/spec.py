"""Which images, and how they are made: what `data.open` takes."""

import dataclasses

from etils import epath

from vit_jax import config as config_lib
from vit_jax.data import splits
from vit_jax.data.decode import Size
from vit_jax.data.layouts import NOTHING, Asked
from vit_jax.errors import UserError
from vit_jax.values import pair

OWN_FOLDERS = ("folder", "tars", "synthetic")  # names of data that no folder of TensorFlow Datasets holds


@dataclasses.dataclass(frozen=True)
class Spec:
    """A set of images and their preprocessing.

    The fields mean what the keys of the same names in the config's sections `data`, `preprocessing` and `evaluations`
    mean, unless a comment says more.
    """

    name: str
    split: str = "train"
    data_dir: str | None = None
    classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] | None = None  # labels are numbers in these names; by default in the data set's own
    labels_per_class: int | None = None
    subset: int | None = None
    max_labels: int = 1
    exclude: "Spec | None" = None  # leave out the images that this other set has
    seed: int = 0  # decides the order, the random crops and which images `labels_per_class` and `subset` keep
    size: Size = (224, 224)  # (height, width) in pixels
    crop: str = "resize"  # a name in `crops.CROPS`
    crop_area_min: float = 0.05
    shorter_side: int | None = None  # read by the crop "centre"; None resizes the whole image
    keep_aspect: bool = True
    interpolation: str = "bilinear"
    exif: str = "ignore"
    corrupt: str = "replace"  # what becomes of unreadable images; `Dataset.examples` masks them instead
    threads: int = 4
    workers: int = 0
    num_examples: int = 1024
    num_classes: int = 10
    section: str = "data"  # of the config, for messages; with "data" every class of a folder must have images
    asked: Asked = NOTHING  # the splits that the whole config asks of the same image folder


def training_spec(config: config_lib.Config) -> Spec:
    """Returns the images that a config trains on."""
    data, preprocessing = config.data, config.preprocessing
    return Spec(
        name=data.name,
        split=data.split,
        data_dir=data.data_dir,
        classes=data.classes,
        labels_per_class=data.labels_per_class,
        subset=data.subset,
        max_labels=data.max_labels,
        seed=config.seed,
        size=pair(config.model.image_size),
        crop=data.crop,
        crop_area_min=data.crop_area_min,
        interpolation=preprocessing.interpolation or "bilinear",
        exif=data.exif,
        corrupt=data.corrupt,
        threads=data.threads,
        workers=data.workers,
        num_examples=data.num_examples,
        num_classes=data.num_classes,
        asked=_asked(config, data.data_dir),
    )


def evaluation_spec(config: config_lib.Config, name: str) -> Spec:
    """Returns the images of the evaluation `name`, with all classes of its own data set.

    Raises:
        UserError: the config has no such evaluation.
    """
    if name not in config.evaluations:
        raise UserError(f"the config has no evaluation {name!r}; it has {', '.join(config.evaluations) or 'none'}")
    section, preprocessing = config.evaluations[name], config.preprocessing
    dataset, data_dir = _place(config, section)
    training = training_spec(config)
    shorter_side = preprocessing.shorter_side if section.shorter_side is None else section.shorter_side
    return dataclasses.replace(
        training,
        name=dataset,
        split=section.split,
        data_dir=data_dir,
        classes=(),
        labels_per_class=None,
        subset=None,
        max_labels=training.max_labels if section.max_labels is None else section.max_labels,
        exclude=training if section.exclude_train else None,
        crop="centre",
        shorter_side=shorter_side or None,
        keep_aspect=preprocessing.keep_aspect is not False,
        section=f"evaluations.{name}",
        asked=_asked(config, data_dir),
    )


def shots_spec(config: config_lib.Config, name: str) -> Spec:
    """Returns the images that the few-shot evaluation `name` draws its shots from, made as its test images are."""
    spec = evaluation_spec(config, name)
    return dataclasses.replace(spec, split=config.evaluations[name].shots_split, exclude=None)


def _place(config: config_lib.Config, section: config_lib.Data | config_lib.Evaluation) -> tuple[str, str | None]:
    """Returns the name and the folder of a section's data set: the training set's unless the section says another."""
    data = config.data
    same_kind = section.name in (None, data.name) or {section.name, data.name}.isdisjoint(OWN_FOLDERS)
    return section.name or data.name, section.data_dir or (data.data_dir if same_kind else None)


def _asked(config: config_lib.Config, data_dir: str | None) -> Asked:
    """Returns the base splits that a config asks of the image folder `data_dir`."""

    def asked_by(*asking: config_lib.Data | config_lib.Evaluation) -> frozenset[str]:
        here = ("folder", epath.Path(data_dir or ""))
        found = [(section.split, *_place(config, section)) for section in asking]
        chosen = [split for split, name, other in found if (name, epath.Path(other or "")) == here]
        return frozenset(piece.name for split in chosen for piece in splits.parse(split))

    return Asked(asked_by(config.data), asked_by(*config.evaluations.values()))
