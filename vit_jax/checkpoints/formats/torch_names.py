"""Groups and other functions that the formats of the PyTorch libraries timm and transformers share.

A group pairs arrays of a file with the parameters that they hold (see `checkpoints.groups.Group`). Unless a function
says otherwise, `file` is the name of a module in the file, such as `blocks.0.mlp.fc1`, and `name` is the published name
of the same module, such as `Transformer/encoderblock_0/MlpBlock_3/Dense_0`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats.base import About, parameter_shapes
from vit_jax.checkpoints.formats.flax import POSITIONS
from vit_jax.checkpoints.groups import Group, reshaped, same
from vit_jax.errors import UserError
from vit_jax.models.architecture import Architecture, VitArchitecture
from vit_jax.values import pair

# The activations of transformers' models, and what they are called here.
ACTIVATIONS = {"gelu": "gelu_erf", "gelu_pytorch_tanh": "gelu", "gelu_new": "gelu"}
REGISTERS = "vit_jax/registers"
HEAD_DIST = "vit_jax/head_dist"


def dense(file: str, name: str, shape: Shape, inputs: int = 1) -> list[Group]:
    """Returns the groups of a dense layer: its `weight`, which PyTorch stores as (outputs, inputs), and its `bias`.

    Args:
        file: the name of the layer in the file.
        name: the published name of the layer.
        shape: the shape of this package's kernel, inputs first.
        inputs: how many of the first axes of `shape` are inputs.
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
    """Returns the groups of a norm: its `weight`, which is our `scale`, and its `bias`."""
    return [same(f"{file}.{a}", f"{name}/{b}", (features,)) for a, b in (("weight", "scale"), ("bias", "bias"))]


def convolution(file: str, name: str, shape: Shape) -> list[Group]:
    """Returns the groups of a convolution: its `weight` (outputs, inputs, height, width) and its `bias`.

    `shape` is that of this package's kernel, (height, width, inputs, outputs).
    """
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
    """Returns a group for one array that holds the kernels of several dense layers, stacked along their outputs.

    Args:
        file: the name of the array, which is (outputs of all layers, inputs).
        names: the published names of the kernels, in their order in the array.
        shape: the shape of each kernel, (inputs, …).
    """
    rows, columns = shape[0], int(np.prod(shape[1:]))
    return Group(
        {file: (len(names) * columns, rows)},
        tuple(names),
        lambda a: tuple(part.T.reshape(shape) for part in np.split(a, len(names))),
        lambda *parts: (np.concatenate([part.reshape(rows, columns).T for part in parts]),),
    )


def fused_bias(file: str, names: Sequence[str], shape: Shape) -> Group:
    """Returns a group for one vector that holds the biases of several dense layers, one after the other.

    Args:
        file: the name of the vector.
        names: the published names of the biases, in their order in the vector.
        shape: the shape of each bias.
    """
    size = int(np.prod(shape))
    return Group(
        {file: (len(names) * size,)},
        tuple(names),
        lambda a: tuple(part.reshape(shape) for part in np.split(a, len(names))),
        lambda *parts: (np.concatenate([part.reshape(-1) for part in parts]),),
    )


def attention(layer: int) -> str:
    """Returns the published name of a layer's attention."""
    return f"Transformer/encoderblock_{layer}/MultiHeadDotProductAttention_1"


def block(layer: int) -> str:
    """Returns the published name of a layer's block."""
    return f"Transformer/encoderblock_{layer}"


def extra(layer: int) -> str:
    """Returns the prefix of the published names of those parameters of a layer that the original code lacks."""
    return f"vit_jax/encoderblock_{layer}"


def kept(groups: list[Group], arch: Architecture) -> list[Group]:
    """Returns the groups whose parameters exist in the architecture.

    A format may therefore list groups for every optional parameter, such as biases.

    Raises:
        UserError: a parameter of the architecture is in no group.
    """
    shapes = parameter_shapes(arch)
    groups = [group for group in groups if all(name in shapes for name in group.names)]
    if left := shapes.keys() - {name for group in groups for name in group.names}:
        raise UserError(f"the format has no place for {sorted(left)[0]}")
    return groups


def vit_of(arch: Architecture, format: str) -> VitArchitecture:
    """Returns `arch`. Raises UserError, naming the format, if it is not a Vision Transformer."""
    if not isinstance(arch, VitArchitecture):
        raise UserError(f"the format {format} has no place for a model of the family {arch.family}")
    return arch


def with_special_positions(
    arch: VitArchitecture, table: str, registers: str | None, rows: int, cls: str
) -> list[Group]:
    """Returns the groups of the class token, the registers and the table of position embeddings.

    In this package, a table has entries for the class token and the patches, but none for registers. The table in a
    file may also have entries for registers; these are then added to the registers themselves, which gives the same
    model. Or the table may have entries for patches only; the entry of the class token is then zero.

    Args:
        arch: the architecture.
        table: the name of the table in the file.
        registers: the name of the registers in the file; None if the format has no registers.
        rows: how many entries the file's table has before those of the patches.
        cls: the name of the class token in the file.
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
    """Returns the groups of the two first layers of a SwiGLU, which the file stores as one layer named `file`.

    Its first outputs are those of the gate, and the others are those that the gate multiplies.
    """
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
    """Returns how many entries of a table of position embeddings come before those of the patches.

    This is the number of all special tokens, that of the class token (1 or 0), or 0: the first of these that leaves as
    many patches as an image of `image_size` has, or else the first that leaves a square number of patches.

    Args:
        tokens: the number of entries of the table.
        specials: the number of special tokens: the class token and the registers.
        own: 1 if there is a class token, else 0. This is also the result if no choice fits.
        image_size: the image size in pixels, a number or (height, width); None if it is not known.
        patch: (height, width) of a patch in pixels.
    """
    choices = [rows for rows in (specials, own, 0) if rows <= tokens]
    if image_size is not None:
        height, width_px = pair(image_size)
        patches = (height // patch[0]) * (width_px // patch[1])
        if exact := [rows for rows in choices if tokens - rows == patches]:
            return exact[0]
    return next((rows for rows in choices if round((tokens - rows) ** 0.5) ** 2 == tokens - rows), own)


def number_or_pair(size: tuple[int, int]) -> int | list[int]:
    """Returns (height, width) as the configs of the libraries write it: one number if both are equal, else a list."""
    return size[0] if size[0] == size[1] else list(size)


def known(key: str, value: str, values: Mapping[str, str], about: About) -> str:
    """Returns what a config's value is called here. Raises UserError for one that no model here computes."""
    if value not in values:
        raise UserError(f"{about.name} has {key}={value}; only {', '.join(values)} can be read")
    return values[value]


def first(*values: Any) -> Any:
    """Returns the first value that is not None, or None if all are."""
    return next((value for value in values if value is not None), None)


def length(shapes: Mapping[str, Shape], name: str) -> int:
    """Returns the length of the first axis of an array, or 0 if the file does not have the array."""
    return shapes[name][0] if name in shapes else 0


def depth(shapes: Mapping[str, Shape], before: str, after: str) -> int:
    """Returns the number of layers: of arrays whose names start with `before` and end with `after`."""
    return sum(name.startswith(before) and name.endswith(after) for name in shapes)


def listed(names: Any) -> tuple[Any, ...]:
    """Returns a JSON list as a tuple, and null (None) as (). Raises TypeError if `names` is neither."""
    if names is not None and not isinstance(names, list):
        raise TypeError(f"a list of names is needed, and it is {names!r}")
    return tuple(names or ())
