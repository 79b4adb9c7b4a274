"""Tests the kinds of positions, and where they act, by simple loops and by pairs of models that must agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from helpers.models import GRID, arch, create, drawn, images
from vit_jax.models import posemb
from vit_jax.models.encoder import Scope
from vit_jax.models.functional import flatten, split, unflatten


def naive_table(positions, options, grid):
    """Returns position embeddings (tokens, width), computed by a loop over the patches; those of registers are zero."""
    rows = []
    special = int(bool(options.class_token))
    for y in range(grid[0]):
        for x in range(grid[1]):
            if options.posemb == "learned":
                rows.append(positions.table[0, special + y * grid[1] + x])
            elif options.posemb == "learned2d":
                rows.append(jnp.concatenate([positions.rows[0, y], positions.columns[0, x]]))
            else:
                frequencies = 10_000 ** -(np.arange(8) / 7)
                rows.append(np.concatenate([f(p * frequencies) for p in (x, y) for f in (np.sin, np.cos)]))
    cls = {"learned": "table", "learned2d": "cls"}.get(options.posemb)
    first = [getattr(positions, cls)[0, 0] if cls else np.zeros(32)] if special else []
    return np.stack([*first, *[np.zeros(32)] * options.registers, *map(np.asarray, rows)])


TABLES = pytest.mark.parametrize("kind", ["learned", "learned2d", "sincos2d"])


@TABLES
@pytest.mark.parametrize("specials", [{}, {"registers": 2}, {"pool": "gap", "registers": 1}, {"pool": "gap"}], ids=str)
def test_tables_by_a_loop(kind, specials):
    options = arch(posemb=kind, **specials)
    positions = drawn(nnx.eval_shape(lambda: posemb.TABLES[kind](options, rngs=nnx.Rngs(0))))
    np.testing.assert_allclose(positions(GRID)[0], naive_table(positions, options, GRID), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "at", "attention"),
    [("learned", at, attention) for at in ("stem", "layers", "shared") for attention in ("full", "axial")]
    + [
        pytest.param(kind, at, "full", marks=() if at == "layers" else pytest.mark.slow)
        for kind in posemb.TABLES
        if kind != "learned"
        for at in ("stem", "layers", "shared")
    ],
)
def test_where_positions_are_added(kind, at, attention):
    """Position embeddings are added where `posemb_at` says.

    `stem` adds them once, `layers` adds to every block those of its own table, and `shared` adds the same ones to every
    block.
    """
    axial = attention == "axial"
    options = {"pool": "gap", "attention": attention} if axial else {"registers": 1}
    model, x = create(posemb=kind, posemb_at=at, **options), images()

    @jax.jit
    def by_hand(model):
        tokens = model.embedding(jnp.asarray(x)).reshape(2, 6, 32)
        if not axial:
            specials = jnp.concatenate([model.cls[...], model.registers[...]], 1)
            tokens = jnp.concatenate([jnp.broadcast_to(specials, (2, 2, 32)), tokens], 1)
        if at == "stem":
            tokens = tokens + model.positions(GRID)
        for layer in range(2):
            block = jax.tree.map(lambda p, layer=layer: p[layer], model.encoder.blocks)
            first = block.rows if axial else block
            if at == "layers":
                tokens = tokens + first.positions(GRID)
                del first.positions  # so that the block itself adds no positions
            elif at == "shared":
                tokens = tokens + model.positions(GRID)
            tokens, _ = block(tokens, layer, Scope(GRID))
        return model.encoder.norm(tokens)

    encoded = jax.jit(lambda model: model.encode(x))(model)
    np.testing.assert_allclose(encoded, by_hand(model), atol=1e-4)
    tables = [path for path in flatten(split(model)[1]) if "positions" in path]
    assert bool(tables) == (kind != "sincos2d") and all(("blocks" in path) == (at == "layers") for path in tables)


@pytest.mark.parametrize("specials", [{}, {"registers": 2}, {"pool": "gap"}], ids=str)
def test_relative_by_a_loop(specials):
    options = arch(posemb="relative", **specials)
    relative = drawn(nnx.eval_shape(lambda: posemb.Relative(options, rngs=nnx.Rngs(0))))
    n = options.specials
    queries = jnp.asarray(np.random.default_rng(0).normal(size=(2, n + 6, 2, 16)), jnp.float32)
    offsets = np.asarray(relative.offsets[...]).reshape(3, 5, 2, 16)  # from -1 to 1 and from -2 to 2
    special = np.asarray(relative.special[0]) if n else None
    expected = np.zeros((2, 2, n + 6, n + 6))
    for i in range(n + 6):
        for j in range(n + 6):
            if i < n or j < n:
                key = special[2 if i < n and j < n else 0 if i < n else 1]
            else:
                (y, x), (to_y, to_x) = divmod(i - n, 3), divmod(j - n, 3)
                key = offsets[to_y - y + 1, to_x - x + 2]
            expected[:, :, i, j] = np.einsum("bhd,hd->bh", queries[:, i], key)
    np.testing.assert_allclose(relative(queries, GRID), expected, atol=1e-5)


@pytest.mark.parametrize("at", ["stem", "layers", "shared"])
def test_where_relative_positions_count(at):
    """Relative positions act where `posemb_at` says.

    `stem` uses them only in the first layer, `layers` has a table for every layer, and `shared` has one for all layers.
    """
    model, other = create(posemb="relative", posemb_at=at), create(posemb="relative", posemb_at=at)
    place = other.encoder.blocks.relative if at == "layers" else other.relative
    encode = jax.jit(lambda model, x: model.encode_with_attention(x))
    x = images()
    _, params = split(model)
    bare = params["encoder"]["blocks"].pop("relative") if at == "layers" else params.pop("relative")
    assert bare["offsets"].shape == ((2,) if at == "layers" else ()) + (1, 15, 2, 16)
    plain = create(posemb="none")
    nnx.update(plain, nnx.State(params))
    place.offsets[...], place.special[...] = 0 * place.offsets[...], 0 * place.special[...]
    np.testing.assert_allclose(encode(other, x).tokens, encode(plain, x).tokens, atol=1e-5)
    # The attention weights of the second layer for given tokens.
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 32)), jnp.float32)
    second = lambda model: jax.tree.map(lambda p: p[1], model.encoder.blocks)(  # noqa: E731
        tokens, 1, Scope(GRID, relative=getattr(model, "relative", None))
    )[1]
    assert np.allclose(second(model), second(plain), atol=1e-5) == (at == "stem")
    assert not np.allclose(encode(model, x).attention[0], encode(plain, x).attention[0], atol=1e-3)


def test_rope_by_complex_numbers():
    """Features i and i + head_dim / 2 are a complex number. Half of these turn with the row, half with the column."""
    x = np.random.default_rng(0).normal(size=(2, 9, 2, 16)).astype(np.float32)  # 3 special tokens
    turned = np.asarray(posemb.rotate(jnp.asarray(x), GRID, 3, 50.0))
    expected = x[..., :8] + 1j * x[..., 8:]
    for token in range(6):
        for pair in range(8):
            position = divmod(token, 3)[pair // 4]
            expected[:, 3 + token, :, pair] *= np.exp(1j * position * 50.0 ** -((pair % 4) / 4))
    np.testing.assert_allclose(turned, np.concatenate([expected.real, expected.imag], -1), atol=1e-5)
    np.testing.assert_array_equal(turned[:, :3], x[:, :3])


def test_rope_scores_depend_on_offsets_alone():
    q, k = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    grid = (4, 5)
    q, k = (
        np.asarray(posemb.rotate(jnp.broadcast_to(x, (1, 20, 1, 16)), grid, 0, 100.0)).reshape(*grid, 16)
        for x in (q, k)
    )
    scores = np.einsum("yxd,vud->yxvu", q, k)
    np.testing.assert_allclose(scores[1:, :, 1:], scores[:-1, :, :-1], atol=1e-5)
    np.testing.assert_allclose(scores[:, 1:, :, 1:], scores[:, :-1, :, :-1], atol=1e-5)
    assert np.ptp(scores[0, 0]) > 0.1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"posemb": "learned2d", "posemb_at": "layers", "registers": 1},
        {"posemb": "relative"},
        {"posemb": "relative", "posemb_at": "shared", "posemb_resample": "bicubic", "pool": "gap"},
        {"posemb": "sincos2d", "rope": 100.0},
        {"posemb": "none", "rope": 100.0, "rope_coordinates": "unit"},
        {"posemb": "learned2d", "posemb_at": "shared", "attention": "axial", "pool": "gap"},
    ],
    ids=str,
)
def test_another_resolution(options):
    """A model gives images of another size the same results as a model made for that size.

    The other model has the position tables of the first, resampled on the host.
    """
    size, grid = (32, 8), (4, 2)
    model, larger = create(**options), create(image_size=size, **options)
    how = model.arch.posemb_resample

    def resampled(path, table):
        between = {
            "table": (GRID, grid),
            "rows": ((2, 1), (4, 1)),
            "columns": ((3, 1), (2, 1)),
            "offsets": ((3, 5), (7, 3)),
        }.get(path.rpartition("/")[2])
        if between is None:
            return table
        table = np.asarray(table)
        stacked = table if "blocks" in path else table[None]
        tables = stacked.reshape(*stacked.shape[:3], -1)  # (depth, 1, positions, …)
        tables = np.stack([posemb.resample(t, *between, how) for t in tables])
        tables = tables.reshape(*tables.shape[:3], *stacked.shape[3:])
        return tables if "blocks" in path else tables[0]

    params = flatten(split(model)[1])
    bind, shapes = split(larger)
    params = {path: resampled(path, leaf) for path, leaf in params.items()}
    assert {p: v.shape for p, v in params.items()} == {p: v.shape for p, v in flatten(shapes).items()}
    encode = jax.jit(lambda model: model.encode(images(size)))
    np.testing.assert_allclose(encode(model), encode(bind(unflatten(params))), atol=1e-4)
