"""Describes a run's training data, so that a resumed run can check that the data are still the same."""

from collections.abc import Mapping
from typing import Any

from vit_jax import config as config_lib
from vit_jax.data import sources
from vit_jax.data.listing import shortened
from vit_jax.data.spec import training_spec
from vit_jax.values import first_difference

Identity = dict[str, Any]


def describe(config: Any) -> Identity:
    """Returns the identity of the training set of `config`, as a dict of JSON values. No image is read.

    Returns:
        `class_names`: the names of the classes, by label.
        `num_examples`: the number of examples that are trained on.
        `parts`: a dict for each base split, with `dataset` (name and version), `split`, `num_examples` (of the base
            split) and, for some kinds of data, more, such as a digest of all file names and labels. Together with the
            config, the parts determine which examples are trained on.

        `mixture`: of a mixture, the number of examples and the weight of each data set.

    Raises:
        UserError: the data set, the split or enough examples of a class are missing.
    """
    return sources.select(training_spec(config_lib.typed(config))).record()


def is_identity(value: Any) -> bool:
    """Returns whether `value`, read from a file, has the form of what `describe` returns."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("num_examples"), int)
        and isinstance(value.get("class_names"), list)
        and all(isinstance(name, str) for name in value["class_names"])
        and isinstance(value.get("parts"), list)
        and all(isinstance(part, Mapping) for part in value["parts"])
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns a phrase for each difference between two training sets; an empty list if they are the same.

    Args:
        before: the recorded identity.
        now: the present one, from `describe`.
    """
    found = _of_classes(before["class_names"], now["class_names"])
    if before["num_examples"] != now["num_examples"]:
        found.append(f"{before['num_examples']:,} training images before, {now['num_examples']:,} now")
    for old, new in zip(before["parts"], now["parts"], strict=False):
        if old.get("dataset") != new["dataset"]:
            found.append(f"the data set was {old.get('dataset')} and is {new['dataset']}")
        if old.get("held_out") != new.get("held_out"):
            found.append(f"{old.get('held_out')} images held out for testing before, {new.get('held_out')} now")
    if before.get("mixture") != now.get("mixture"):
        found.append("the data sets of the mixture had other numbers of images or weights")
    if not found and before["parts"] != now["parts"]:
        found.append("as many images of the same classes, but other files or labels")
    return found


def _of_classes(before: list[str], now: list[str]) -> list[str]:
    """Returns a phrase for each difference between two lists of class names."""
    added, removed = [n for n in now if n not in set(before)], [n for n in before if n not in set(now)]
    found = [f"the classes {shortened(removed)} are gone"] if removed else []
    if added:
        found.append(f"the classes {shortened(added)} are new")
    if not found and (differs := first_difference(before, now)):
        label, old, new = differs
        found.append(f"the classes are in another order, the first at {label}: {old} and now {new}")
    return found
