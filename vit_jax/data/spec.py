"""Which images, and how they are made: what `data.open` takes."""

import dataclasses

from etils import epath

from vit_jax import config as config_lib
from vit_jax.data import splits
from vit_jax.data.layouts import NOTHING, Asked
from vit_jax.data.resize import Size
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
    shorter_side: int | None = None  # read by the crops "centre", where None resizes the whole image, and "random"
    keep_aspect: bool = True
    interpolation: str = "bilinear"
    antialias: bool = True
    exif: str = "ignore"
    repeats: int = 1
    corrupt: str = "replace"  # what becomes of unreadable images; `Dataset.examples` masks them instead
    threads: int = 4
    workers: int = 0
    num_examples: int = 1024
    num_classes: int = 10
    mixed: tuple["Spec", ...] = ()  # further data sets; the keys that choose examples choose among all together
    weight: float = 1.0  # of this data set, `mixed` not counted, in a mixture
    section: str = "data"  # of the config, for messages; with "data" every class of a folder must have images
    asked: Asked = NOTHING  # the splits that the whole config asks of the same image folder

    @property
    def images(self) -> str:
        """What examples are chosen from, in words for messages."""
        return "the mixture" if self.mixed else self.split

    @property
    def made(self) -> tuple:
        """What the pixels and the labels of an evaluation's example depend on, apart from the example."""
        how = (self.size, self.crop, self.shorter_side, self.keep_aspect, self.interpolation, self.antialias, self.exif)
        return (self.name, *how, self.max_labels)

    def alone(self) -> "Spec":
        """Returns all examples of the data set, without those that are mixed with it."""
        return dataclasses.replace(self, mixed=(), classes=(), labels_per_class=None, subset=None, exclude=None)


def training_spec(config: config_lib.Config) -> Spec:
    """Returns the images that a config trains on.

    Raises:
        UserError: `config.data.mixture` has a folder without a path.
    """
    data, preprocessing = config.data, config.preprocessing
    own = Spec(
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
        shorter_side=data.shorter_side,
        interpolation=preprocessing.interpolation or "bilinear",
        antialias=preprocessing.antialias is not False,
        exif=data.exif,
        repeats=data.repeats,
        corrupt=data.corrupt,
        threads=data.threads,
        workers=data.workers,
        num_examples=data.num_examples,
        num_classes=data.num_classes,
        asked=_asked(config, data.data_dir),
    )
    mixed = [
        dataclasses.replace(
            own.alone(), name=name, split=split, data_dir=data_dir, weight=weight, asked=_asked(config, data_dir)
        )
        for name, split, data_dir, weight in _mixed(data)
    ]
    return dataclasses.replace(own, mixed=tuple(mixed))


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
        mixed=(),
        max_labels=training.max_labels if section.max_labels is None else section.max_labels,
        exclude=training if section.exclude_train else None,
        crop="centre",
        shorter_side=shorter_side or None,
        keep_aspect=preprocessing.keep_aspect is not False,
        section=f"evaluations.{name}",
        asked=_asked(config, data_dir),
    )


def learned_spec(config: config_lib.Config, name: str) -> Spec:
    """Returns the images that the evaluation `name` learns from, made as its test images are."""
    spec = evaluation_spec(config, name)
    return dataclasses.replace(spec, split=config.evaluations[name].train_split, exclude=None)


def _place(config: config_lib.Config, section: config_lib.Evaluation) -> tuple[str, str | None]:
    """Returns the name and the folder of a section's data set: the training set's unless the section says another."""
    data = config.data
    same_kind = section.name in (None, data.name) or {section.name, data.name}.isdisjoint(OWN_FOLDERS)
    return section.name or data.name, section.data_dir or (data.data_dir if same_kind else None)


def _mixed(data: config_lib.Data) -> list[tuple[str, str, str | None, float]]:
    """Returns the name, the split, the folder and the weight of each data set in `config.data.mixture`."""
    found: list[tuple[str, str, str | None, float]] = []
    for number, (title, split, weight) in enumerate(data.mixture):
        name, _, place = title.partition(":")
        if name == "folder" and not place:
            raise UserError(
                f"config.data.mixture[{number}] is {title!r}, and does not say where the images are; write folder:DIR"
            )
        if name == "folder":
            found.append((name, split, place, weight))
        else:
            found.append((title, split, None if data.name in OWN_FOLDERS else data.data_dir, weight))
    return found


def _asked(config: config_lib.Config, data_dir: str | None) -> Asked:
    """Returns the base splits that a config asks of the image folder `data_dir`."""
    here = epath.Path(data_dir or "")

    def asked_by(*asking: tuple[str, str, str | None]) -> frozenset[str]:
        chosen = [split for name, split, other in asking if name == "folder" and epath.Path(other or "") == here]
        return frozenset(piece.name for split in chosen for piece in splits.parse(split))

    data = config.data
    mixed = [(name, split, other) for name, split, other, _ in _mixed(data)]
    places = [(section.split, _place(config, section)) for section in config.evaluations.values()]
    tests = [(name, split, other) for split, (name, other) in places]
    return Asked(asked_by((data.name, data.split, data.data_dir), *mixed), asked_by(*tests))
