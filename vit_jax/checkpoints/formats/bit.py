"""The format of the public BiT files (`.npz`), whose arrays have the names of TensorFlow variables."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats.base import NOTHING, About, Description, parameter_shapes, stages
from vit_jax.checkpoints.groups import Group, reshaped, same
from vit_jax.errors import UserError
from vit_jax.models.architecture import Architecture, ResNetArchitecture

_FILE_NAMES = (  # a pattern of the published name, and the name in the file
    (r"root_block/conv_root/kernel", "root_block/standardized_conv2d/kernel"),
    (r"(block\d+/unit\d+)/conv_proj/kernel", r"\1/a/proj/standardized_conv2d/kernel"),
    (r"(block\d+/unit\d+)/conv1/kernel", r"\1/a/standardized_conv2d/kernel"),
    (r"(block\d+/unit\d+)/conv2/kernel", r"\1/b/standardized_conv2d/kernel"),
    (r"(block\d+/unit\d+)/conv3/kernel", r"\1/c/standardized_conv2d/kernel"),
    (r"(block\d+/unit\d+)/gn1/", r"\1/a/group_norm/"),
    (r"(block\d+/unit\d+)/gn2/", r"\1/b/group_norm/"),
    (r"(block\d+/unit\d+)/gn3/", r"\1/c/group_norm/"),
    (r"norm-pre-head/", "group_norm/"),
    (r"head/", "head/conv2d/"),
)


class Bit:
    """The format `bit`, with array names such as `resnet/block1/unit01/a/standardized_conv2d/kernel`."""

    name, suffix = "bit", ".npz"

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """See `base.Format.rename`."""
        # Some files number their layers as TensorFlow does, such as `group_norm_2`. The standard names have no numbers.
        found = {re.sub(r"(conv2d|group_norm)_\d+/", r"\1/", name.removeprefix("params/")): name for name in names}
        return found if "resnet/root_block/standardized_conv2d/kernel" in found else None

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """See `base.Format.describe`."""
        head = shapes.get("resnet/head/conv2d/bias")
        arch = {
            **about.fields_of(ResNetArchitecture),
            "stages": stages(shapes),
            "stem_width": shapes["resnet/root_block/standardized_conv2d/kernel"][-1],
            "num_classes": head[-1] if head else 0,
        }
        return Description(ResNetArchitecture.of(**arch))

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """See `base.Format.groups`."""
        if not isinstance(arch, ResNetArchitecture):
            raise UserError(f"the format bit has no place for a model of the family {arch.family}")
        groups = []
        for name, shape in parameter_shapes(arch).items():
            file = _file_name(name)
            if name == "head/kernel":
                groups.append(reshaped(file, (1, 1, *shape), name, shape))
            else:
                groups.append(same(file, name, shape))
        return groups

    def sidecars(self, description: Description) -> dict[str, Any]:
        """Returns {}: the format needs no other files."""
        return {}


def _file_name(name: str) -> str:
    for pattern, file in _FILE_NAMES:
        if re.match(pattern, name):
            name = re.sub(f"^{pattern}", file, name)
            break
    name = re.sub(r"group_norm/scale$", "group_norm/gamma", name)
    return "resnet/" + re.sub(r"group_norm/bias$", "group_norm/beta", name)
