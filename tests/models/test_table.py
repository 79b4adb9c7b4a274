"""The table of a model's modules, and its page in a notebook."""

import functools
import html
import re
from unittest import mock

import jax
import numpy as np
import pytest
import treescope
from flax import nnx

import vit_jax
from vit_jax import config as config_lib
from vit_jax import sharding
from vit_jax.models.functional import flatten, split


def abstract(name, **keywords):
    return nnx.eval_shape(lambda: vit_jax.create(name, **keywords))


@pytest.mark.parametrize("name", ["B/16", "R50+B/16", "BiT-R50x1", "Mixer-B/16", "DINOv3-S+/16"])
def test_counts_add_up(name):
    """The parameters of the rows, times how often their stack is repeated, are those of the model."""
    model = abstract(name)
    table, total = vit_jax.tabulate(model), sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))
    repeats = {row.path: row.repeats for row in table.rows}
    own = {
        row.path: sum(map(np.prod, row.shapes.values()))
        * np.prod([repeats[row.path[:end]] for end in range(len(row.path) + 1)])
        for row in table.rows
    }
    assert sum(own.values()) == total == table.rows[0].count
    for row in table.rows:
        assert row.count == sum(count for path, count in own.items() if path[: len(row.path)] == row.path)
    assert table.bytes == 4 * total and f"{total:,} parameters" in str(table)


def test_a_stack_is_shown_once():
    """A stack of three blocks has the rows of the blocks of one, and thrice as many parameters."""
    one, three = ({row.path: row for row in vit_jax.tabulate(abstract("Ti/16", depth=n)).rows} for n in (1, 3))
    assert list(one) == list(three)
    blocks = ("encoder", "blocks")
    assert (one[blocks].repeats, three[blocks].repeats, three[blocks].kind) == (1, 3, "Block")
    query = (*blocks, "attention", "query")
    assert one[query].shapes == three[query].shapes == {"bias": (3, 64), "kernel": (192, 3, 64)}
    assert three[query].count == 3 * one[query].count == 3 * (192 * 192 + 192)
    assert "  blocks × 3" in str(vit_jax.tabulate(abstract("Ti/16", depth=3)))


def test_outputs_and_types():
    table = vit_jax.tabulate(
        abstract("Ti/4", image_size=(8, 12), width=16, depth=2, mlp_dim=32, num_heads=2, num_classes=5)
    )
    shapes = (8, 12, 3), (2 * 3 + 1, 16), (16,), (5,)
    assert table.outputs == tuple(zip(("image", "tokens", "features", "logits"), shapes, strict=True))
    assert str(table).endswith("image 8×12×3 → tokens 7×16 → features 16 → logits 5") and repr(table) == str(table)
    assert {kind for row in table.rows for kind in row.dtypes} == {"float32"}
    assert table._repr_html_().count("<tr>") == len(table.rows) + 1
    assert "logits" not in str(vit_jax.tabulate(abstract("Ti/16", num_classes=0)))


def text_of_page(model):
    """Returns the text of a model's page, with that of the tree, which treescope compresses otherwise."""
    plain = functools.partial(treescope.render_to_html, compressed=False)
    with mock.patch.object(treescope, "render_to_html", plain):
        return html.unescape(re.sub("<[^>]*>", "", model._repr_html_()))


def test_a_page_reads_no_parameter():
    """It is made of a model whose arrays are deleted, and names all that is inside the model."""
    model = vit_jax.create("Ti/4", image_size=8, width=16, depth=2, mlp_dim=32, num_heads=2, num_classes=5)
    assert "on device cpu:0" in repr(model) and "on device cpu:0" in model._repr_html_()
    assert str(model) == repr(model)
    jax.tree.map(lambda leaf: leaf.delete(), nnx.state(model))
    page = text_of_page(model)
    for text in ("VisionTransformer", "vit at 8x8 pixels", "embedding", "LinearGeneral", "(2, 16, 2, 8,", "deleted"):
        assert text in page
    assert "shapes alone" in abstract("B/16")._repr_html_()


def test_a_traced_model_prints():
    graph, params = nnx.split(abstract("Ti/16"))
    said = []
    jax.eval_shape(lambda params: said.append(repr(nnx.merge(graph, params))), params)
    assert "traced by JAX" in said[0]


def test_where_parameters_are():
    model = vit_jax.create("Ti/4", image_size=8, width=16, depth=2, mlp_dim=32, num_heads=2, num_classes=8)
    bind, params = split(model)
    mesh = sharding.make_mesh(config_lib.Mesh(data=1, fsdp=4, tensor=2))
    split_over = bind(sharding.placed(params, sharding.state_shardings(params, mesh)))
    text = repr(split_over)
    assert "split over fsdp" in text and "of 8 cpu devices" in text and "whole on each of 8 cpu devices" in text
    assert "'fsdp'" in text_of_page(split_over)
    sizes = sum(leaf.size for leaf in flatten(params).values())
    where = text.splitlines()[-1].split("where")[1]
    counts = [int(part.split()[0].replace(",", "")) for part in where.split(";")]
    assert sum(counts) == sizes and len(counts) > 1
    assert "NumPy" in repr(bind(jax.tree.map(np.asarray, params)))
