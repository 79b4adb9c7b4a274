"""Shows a model in a notebook: a summary, and a tree of its modules, which treescope draws."""

import html as escaping

import jax
import treescope
from flax import nnx
from jax.sharding import NamedSharding

from vit_jax.models.summary import Rows


def html(model: nnx.Module, lines: Rows) -> str:
    """Returns a model as HTML. No parameter is read or copied: the tree shows their shapes.

    Args:
        model: the model, which may consist of shapes alone.
        lines: the lines of the summary.
    """
    cells = "".join(
        f'<tr><th style="text-align: left; white-space: pre">{escaping.escape(word)}</th>'
        f'<td style="text-align: left">{escaping.escape(text)}</td></tr>'
        for word, text in lines
    )
    # Treescope draws a model that has a page by that page, which would never end. What is inside the model has none.
    inside = vars(_shapes_of(model)).items()
    tree = treescope.render_to_html({k: v for k, v in inside if isinstance(v, nnx.Module | nnx.Variable)})
    return f"<b>{type(model).__name__}</b><table>{cells}</table>{tree}"


def _shapes_of(model: nnx.Module) -> nnx.Module:
    """Returns a model with the shapes of the parameters in their place, and how they are split if they are."""

    def shape_of(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sharding = None if isinstance(leaf, jax.core.Tracer) else getattr(leaf, "sharding", None)
        named = sharding if isinstance(sharding, NamedSharding) else None
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=named)

    graph, params = nnx.split(model)
    return nnx.merge(graph, jax.tree.map(shape_of, params))
