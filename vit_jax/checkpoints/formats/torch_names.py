"""What timm's and transformers' namings of a Vision Transformer share: PyTorch's layouts of a block and its tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats.base import About, parameter_shapes
from vit_jax.checkpoints.formats.flax import POSITIONS
from vit_jax.checkpoints.groups import Group, reshaped, same
from vit_jax.errors import UserError
from vit_jax.models.architecture import Architecture, VitArchitecture

# The activations of transformers' models, and what they are called here.
ACTIVATIONS = {"gelu": "gelu_erf", "gelu_pytorch_tanh": "gelu", "gelu_new": "gelu"}
REGISTERS = "vit_jax/registers"
HEAD_DIST = "vit_jax/head_dist"


def dense(file: str, name: str, shape: Shape, inputs: int = 1) -> list[Group]:
    """A dense layer's `weight` (outputs, inputs) and, where the parameters have one, `bias`, as PyTorch lays them out.

    `shape` is the kernel's, of which the first `inputs` axes are inputs.
    """
    rows, columns = int(np.prod(shape[:inputs])), int(np.prod(shape[inputs:]))
    return [
        Group(
            {f"{file}.weight": (columns, rows)},
            (f"{name}/kernel",),
            lambda a: (a.T.reshape(shape),),
            lambda a: (a.reshape(rows, columns).T,),
        ),
        reshaped(f"{file}.bias", (columns,), f"{name}/bias", shape[inputs:]),
    ]


def norm(file: str, name: str, features: int) -> list[Group]:
    """A norm's `weight` and `bias`, PyTorch's names for scale and bias."""
    return [same(f"{file}.{a}", f"{name}/{b}", (features,)) for a, b in (("weight", "scale"), ("bias", "bias"))]


def convolution(file: str, name: str, shape: Shape) -> list[Group]:
    """A convolution's `weight` (outputs, inputs, height, width) and `bias`; `shape` is the kernel's, outputs last."""
    return [
        Group(
            {f"{file}.weight": (shape[3], shape[2], *shape[:2])},
            (f"{name}/kernel",),
            lambda a: (a.transpose(2, 3, 1, 0),),
            lambda a: (a.transpose(3, 2, 0, 1),),
        ),
        same(f"{file}.bias", f"{name}/bias", (shape[3],)),
    ]


def fused(file: str, names: Sequence[str], shape: Shape) -> Group:
    """Several dense layers' kernels of the same `shape` (inputs, …) in one `weight` (all outputs, inputs)."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    return Group(
        {file: (len(names) * columns, rows)},
        tuple(names),
        lambda a: tuple(part.T.reshape(shape) for part in np.split(a, len(names))),
        lambda *parts: (np.concatenate([part.reshape(rows, columns).T for part in parts]),),
    )


def fused_bias(file: str, names: Sequence[str], shape: Shape) -> Group:
    """Their biases of the same `shape` in one vector."""
    size = int(np.prod(shape))
    return Group(
        {file: (len(names) * size,)},
        tuple(names),
        lambda a: tuple(part.reshape(shape) for part in np.split(a, len(names))),
        lambda *parts: (np.concatenate([part.reshape(-1) for part in parts]),),
    )


def attention(layer: int) -> str:
    """The published name of a layer's attention."""
    return f"Transformer/encoderblock_{layer}/MultiHeadDotProductAttention_1"


def block(layer: int) -> str:
    return f"Transformer/encoderblock_{layer}"


def extra(layer: int) -> str:
    """Where a layer's parameters are that the original has not."""
    return f"vit_jax/encoderblock_{layer}"


def kept(groups: list[Group], arch: Architecture) -> list[Group]:
    """The groups whose parameters the architecture has: a format lists biases and such without asking.

    Raises:
        UserError: a parameter of the architecture is in no group.
    """
    shapes = parameter_shapes(arch)
    groups = [group for group in groups if all(name in shapes for name in group.names)]
    if left := shapes.keys() - {name for group in groups for name in group.names}:
        raise UserError(f"the format has no place for {sorted(left)[0]}")
    return groups


def vit_of(arch: Architecture, format: str) -> VitArchitecture:
    """Raises UserError for another family."""
    if not isinstance(arch, VitArchitecture):
        raise UserError(f"the format {format} has no place for a model of the family {arch.family}")
    return arch


def with_special_positions(
    arch: VitArchitecture, table: str, registers: str | None, rows: int, cls: str
) -> list[Group]:
    """Class token, registers and a table of positions with `rows` entries before the patches.

    Here a table has an entry for the class token alone. Where a file's has one for every special token those of the
    registers are added to them, which computes the same; where it has none the class token's is zero.
    """
    specials, patches = arch.specials, arch.grid[0] * arch.grid[1]
    width = arch.width
    groups = [same(cls, "cls", (1, 1, width))] if arch.class_token else []
    if arch.registers and registers and rows <= int(bool(arch.class_token)):
        groups.append(same(registers, REGISTERS, (1, arch.registers, width)))
    if arch.posemb != "learned":
        return groups
    own = int(bool(arch.class_token))
    shape: Shape = (1, rows + patches, width)
    if rows == own or rows not in (0, specials):
        groups.append(same(table, POSITIONS, (1, own + patches, width)))
    elif rows == 0:
        groups.append(
            Group(
                {table: shape},
                (POSITIONS,),
                lambda t: (np.concatenate([np.zeros((1, own, width), np.float32), t], axis=1),),
                lambda t: (t[:, own:],),
            )
        )
    else:
        assert registers and rows == specials
        groups.append(
            Group(
                {table: shape, registers: (1, arch.registers, width)},
                (POSITIONS, REGISTERS),
                lambda t, r: (np.concatenate([t[:, :own], t[:, rows:]], axis=1), r + t[:, own:rows]),
                lambda t, r: (np.concatenate([t[:, :own], np.zeros_like(r), t[:, own:]], axis=1), r),
            )
        )
    return groups


def projections(file: str, parts: Sequence[str], name: str, arch: VitArchitecture) -> list[Group]:
    """Returns the dense layers of queries, keys and values, each of its own; `parts` are the ends of their names."""
    shape = (arch.width, arch.num_heads, arch.width // arch.num_heads)
    pairs = zip(parts, ("query", "key", "value"), strict=True)
    return [group for part, inner in pairs for group in dense(f"{file}{part}", f"{name}/{inner}", shape)]


def attended(file: str, name: str, arch: VitArchitecture) -> list[Group]:
    """Returns the dense layer on an attention's output."""
    return dense(file, f"{name}/out", (arch.num_heads, arch.width // arch.num_heads, arch.width), inputs=2)


def swiglu(file: str, layer: int, arch: VitArchitecture) -> list[Group]:
    """A SwiGLU's two first layers in one: the gate's outputs, then what it multiplies."""
    gate, value, dim = f"{extra(layer)}/mlp/gate", f"{block(layer)}/MlpBlock_3/Dense_0", arch.mlp_dim
    return [
        Group(
            {f"{file}.weight": (2 * dim, arch.width)},
            (f"{gate}/kernel", f"{value}/kernel"),
            lambda a: (a[:dim].T, a[dim:].T),
            lambda g, v: (np.concatenate([g.T, v.T]),),
        ),
        Group(
            {f"{file}.bias": (2 * dim,)},
            (f"{gate}/bias", f"{value}/bias"),
            lambda a: (a[:dim], a[dim:]),
            lambda g, v: (np.concatenate([g, v]),),
        ),
    ]


def timm_mlp(file: str, layer: int, arch: VitArchitecture, separate_gate: bool) -> list[Group]:
    """Returns timm's MLP; the gate of a SwiGLU has an array of its own, or shares one with what it multiplies."""
    name, kernel = f"{block(layer)}/MlpBlock_3", (arch.width, arch.mlp_dim)
    groups = dense(f"{file}.fc2", f"{name}/Dense_1", kernel[::-1])
    if arch.mlp != "swiglu":
        return groups + dense(f"{file}.fc1", f"{name}/Dense_0", kernel)
    if separate_gate:
        gate = dense(f"{file}.fc1_g", f"{extra(layer)}/mlp/gate", kernel)
        return groups + gate + dense(f"{file}.fc1_x", f"{name}/Dense_0", kernel)
    return groups + swiglu(f"{file}.fc1", layer, arch)


def prefix_rows(tokens: int, specials: int, own: int, image_size: Any, patch: tuple[int, int]) -> int:
    """How many entries a table of so many has before the patches: none, the class token's, or all specials'."""
    choices = [rows for rows in (specials, own, 0) if rows <= tokens]
    if image_size is not None:
        height, width_px = (image_size, image_size) if isinstance(image_size, int) else image_size
        patches = (height // patch[0]) * (width_px // patch[1])
        if exact := [rows for rows in choices if tokens - rows == patches]:
            return exact[0]
    return next((rows for rows in choices if round((tokens - rows) ** 0.5) ** 2 == tokens - rows), own)


def number_or_pair(size: tuple[int, int]) -> int | list[int]:
    """(height, width) as the libraries' configs write it: one number for a square."""
    return size[0] if size[0] == size[1] else list(size)


def known(key: str, value: str, values: Mapping[str, str], about: About) -> str:
    """Returns what a config's value is called here. Raises UserError for one that no model here computes."""
    if value not in values:
        raise UserError(f"{about.name} has {key}={value}; only {', '.join(values)} can be read")
    return values[value]


def first(*values: Any) -> Any:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def length(shapes: Mapping[str, Shape], name: str) -> int:
    """The first axis of an array that a file may lack; then 0."""
    return shapes[name][0] if name in shapes else 0


def depth(shapes: Mapping[str, Shape], before: str, after: str) -> int:
    """How many layers have the array `before<layer>after`."""
    return sum(name.startswith(before) and name.endswith(after) for name in shapes)


def listed(names: Any) -> tuple[Any, ...]:
    """Returns a JSON list as a tuple; an empty one for null. Raises TypeError for what is no list."""
    if names is not None and not isinstance(names, list):
        raise TypeError(f"a list of names is needed, and it is {names!r}")
    return tuple(names or ())
