"""The published sizes by name: one table, one line each."""

import difflib
import re
from typing import NamedTuple

from vit_jax.errors import UserError


class Size(NamedTuple):
    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    parallel: bool = False
    qk_norm: bool = False
    qkv_bias: bool = True


SIZES = {
    "Ti": Size(192, 12, 768, 3),  # 2012.12877 (DeiT), 2106.10270 (AugReg)
    "S": Size(384, 12, 1536, 6),
    "B": Size(768, 12, 3072, 12),  # 2010.11929, Table 1
    "L": Size(1024, 24, 4096, 16),
    "H": Size(1280, 32, 5120, 16),
    "So400m": Size(1152, 27, 4304, 16),  # 2303.15343 (SigLIP)
    "g": Size(1408, 40, 6144, 16),  # 2106.04560, Table 2
    "G": Size(1664, 48, 8192, 16),
    "e": Size(1792, 56, 15360, 16),  # 2209.06794 (PaLI)
    "22B": Size(6144, 48, 24576, 48, parallel=True, qk_norm=True, qkv_bias=False),  # 2302.05442
}


def parse(name: str) -> tuple[Size, int]:
    """`"B/16"` to its size and its patch size in pixels.

    Raises:
        UserError: an unknown variant.
    """
    match = re.fullmatch(r"(\w+)/(\d+)", name)
    if match and match[1] in SIZES and int(match[2]) > 0:
        return SIZES[match[1]], int(match[2])
    near = difflib.get_close_matches(name.partition("/")[0], SIZES, 1, 0.0)[0]
    raise UserError(
        f"unknown variant {name!r}; write SIZE/PATCH, such as {near}/16, with SIZE one of {', '.join(SIZES)}"
    )
