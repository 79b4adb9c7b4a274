"""A table of a model's modules, with the shapes and the numbers of their parameters.

`flax.nnx.tabulate` can't be used: it recognises a module that is called by its identity, and fails with a KeyError for
our blocks, each of which is a new object that `stack.run` takes from a stack.
"""

import dataclasses
import html
import math
from typing import Any

import jax

from vit_jax.models.functional import Params, flatten, is_stacked, split
from vit_jax.models.model import Model

_HEADS = ("module", "class", "parameters", "type", "count")


@dataclasses.dataclass(frozen=True)
class Row:
    """A module."""

    path: tuple[str, ...]  # from the model; () is the model itself
    repeats: int  # how many equal modules this stack has; 1 for a module that is no stack
    kind: str  # the name of its class
    shapes: dict[str, tuple[int, ...]]  # of its own parameters; in a stack, those of a single module
    dtypes: tuple[str, ...]  # of its own parameters
    count: int  # the numbers in its parameters and in those of the modules inside it; in a stack, of all its modules


@dataclasses.dataclass(frozen=True, repr=False)
class Table:
    """The modules of a model, from the outside to the inside. It prints as text, and a notebook shows it as HTML."""

    rows: tuple[Row, ...]
    bytes: int  # of all parameters
    outputs: tuple[tuple[str, tuple[int, ...]], ...]  # the image, and what the model makes of it, with their shapes

    def __str__(self) -> str:
        cells = [_HEADS, *map(_cells, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADS))]
        lines = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1].rjust(widths[-1])]) for row in cells]
        lines.insert(1, "-" * len(lines[0]))
        return "\n".join([*lines, *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(row: tuple[str, ...], tag: str) -> str:
            style = [*["text-align: left; white-space: pre"] * (len(row) - 1), "text-align: right"]
            cells = zip(map(html.escape, row), style, strict=True)
            return "<tr>" + "".join(f'<{tag} style="{each}">{text}</{tag}>' for text, each in cells) + "</tr>"

        body = "".join(line(_cells(row), "td") for row in self.rows)
        notes = "<br>".join(map(html.escape, self._notes()))
        return f"<table><thead>{line(_HEADS, 'th')}</thead><tbody>{body}</tbody></table><p>{notes}</p>"

    def _notes(self) -> list[str]:
        total = f"{self.rows[0].count:,} parameters, {self.bytes / 1e6:,.1f} MB"
        return [total, " → ".join(f"{name} {_by(shape)}" for name, shape in self.outputs)]


def tabulate(model: Model) -> Table:
    """Returns a table of a model's modules: the shapes, types and numbers of their parameters.

    Equal blocks, which are stacked, are one row that says how many there are, such as `blocks × 12`. The last line says
    the shapes of what an image becomes: tokens, features, logits.

    Args:
        model: the model, which may consist of shapes alone (see `nnx.eval_shape`).
    """
    params = flatten(split(model)[1])
    rows: dict[tuple[str, ...], Row] = {}
    for path, leaf in params.items():
        *parents, name = path.split("/")
        for depth in range(len(parents) + 1):
            inside = tuple(parents[:depth])
            row = rows.setdefault(inside, Row(inside, *_told(model, inside, leaf.shape), {}, (), 0))
            rows[inside] = dataclasses.replace(row, count=row.count + math.prod(leaf.shape))
        row, stacked = rows[tuple(parents)], is_stacked(path)
        rows[row.path] = dataclasses.replace(
            row,
            shapes={**row.shapes, name: leaf.shape[1:] if stacked else leaf.shape},
            dtypes=tuple(dict.fromkeys([*row.dtypes, str(leaf.dtype)])),
        )
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in params.values())
    return Table(tuple(rows.values()), size, _outputs(model))


def _told(model: Model, path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, str]:
    """Returns how often the module at a path is repeated, and its class, given a shape of a parameter inside it."""
    module: Any = model
    for name in path:
        module = getattr(module, name) if hasattr(module, name) else module[int(name)]
    first = is_stacked(f"{'/'.join(path)}/") and not is_stacked(f"{'/'.join(path[:-1])}/")
    return shape[0] if first else 1, type(module).__name__


def _outputs(model: Model) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Returns the shapes of an image, and of what the model makes of it; nothing is computed."""
    bind, params = split(model)

    def made(params: Params, images: jax.Array) -> dict[str, jax.Array]:
        model = bind(params)
        tokens = model.encode(images)
        found = {"tokens": tokens, "features": model.pooled(tokens)}
        return {**found, "logits": model.logits(tokens)} if model.arch.num_classes else found

    image = jax.ShapeDtypeStruct((1, *model.arch.image_size, 3), "float32")
    found = jax.eval_shape(made, params, image)
    order = [name for name in ("tokens", "features", "logits") if name in found]
    return (("image", image.shape[1:]), *((name, found[name].shape[1:]) for name in order))


def _cells(row: Row) -> tuple[str, ...]:
    name = "  " * (len(row.path) - 1) + row.path[-1] if row.path else "the model"
    times = f" × {row.repeats}" if row.repeats > 1 else ""
    shapes = ", ".join(f"{name} {_by(shape)}" for name, shape in row.shapes.items())
    return name + times, row.kind, shapes, ", ".join(row.dtypes), f"{row.count:,}"


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
