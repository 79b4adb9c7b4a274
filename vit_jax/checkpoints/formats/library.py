"""A library whose files have two namings: its Vision Transformers', and DINOv3's."""

from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats.base import NOTHING, About, Description, Format
from vit_jax.checkpoints.groups import Group
from vit_jax.models.architecture import Architecture


class Library:
    """One format made of two; a file's names, or a model's rotary coordinates, say which of them is meant."""

    def __init__(self, plain: Format, dinov3: Format):
        self.name, self.suffix = plain.name, plain.suffix
        self._plain, self._dinov3 = plain, dinov3

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """See `base.Format.rename`."""
        names = list(names)
        return self._of_file(names).rename(names)

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """See `base.Format.describe`."""
        return self._of_file(shapes).describe(shapes, about)

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """See `base.Format.groups`."""
        return (self._of_file(shapes) if shapes else self._of_model(arch)).groups(arch, shapes)

    def sidecars(self, description: Description) -> dict[str, Any]:
        """See `base.Format.sidecars`."""
        return self._of_model(description.architecture).sidecars(description)

    def _of_file(self, names: Iterable[str]) -> Format:
        return self._plain if self._dinov3.rename(names) is None else self._dinov3

    def _of_model(self, arch: Architecture) -> Format:
        return self._dinov3 if getattr(arch, "rope_coordinates", "grid") == "unit" else self._plain
