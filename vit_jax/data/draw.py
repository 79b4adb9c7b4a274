"""Random draws of some examples of each class."""

from collections.abc import Collection

import numpy as np

from vit_jax import streams
from vit_jax.data.selection import Selection
from vit_jax.data.sources import first_of_classes, one_label
from vit_jax.data.spec import Spec
from vit_jax.errors import UserError


def shots(selection: Selection, spec: Spec, count: int, draws: int, left_out: Collection[int]) -> np.ndarray:
    """Returns the numbers of `count` examples of each class; see `Dataset.shots`."""
    names = selection.class_names
    label_of = one_label(selection, f"shots (config.{spec.section}) have one class each; choose other images")
    drawn = []
    for number in range(draws):
        order = streams.generator(spec.seed, "shots", number).permutation(len(selection))
        order = order[~np.isin(order, list(left_out))]
        found = first_of_classes(order, label_of, len(names), count)
        for name, of_class in zip(names, found, strict=True):
            if len(of_class) < count:
                readable = " that can be read" if left_out else ""
                raise UserError(
                    f"config.{spec.section} learns from {count} images of each class, and the split {spec.split} of "
                    f"{spec.name} has {len(of_class)} of the class {name!r}{readable}; ask for fewer shots or choose a "
                    "larger train_split"
                )
        drawn.append(found)
    return np.array(drawn, np.int64)
