"""The file formats of checkpoints.

A format says how the arrays of a file are named and laid out. It lists groups that pair arrays with parameters (see
`checkpoints.groups`), and the same list serves for reading and for writing.
"""

from vit_jax.checkpoints.formats.base import About, Description, Format
from vit_jax.checkpoints.formats.bit import Bit
from vit_jax.checkpoints.formats.dinov3 import TimmDinov3, TransformersDinov3
from vit_jax.checkpoints.formats.flax import Flax
from vit_jax.checkpoints.formats.library import Library
from vit_jax.checkpoints.formats.timm import Timm
from vit_jax.checkpoints.formats.transformers import Transformers

_ALL: tuple[Format, ...] = (
    Flax("original"),
    Flax("big_vision"),
    Flax("big_vision_scan"),
    Bit(),
    Library(Timm(), TimmDinov3()),
    Library(Transformers(), TransformersDinov3()),
)
FORMATS: dict[str, Format] = {format.name: format for format in _ALL}

__all__ = ["FORMATS", "About", "Description", "Format"]
