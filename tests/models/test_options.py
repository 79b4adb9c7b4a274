"""Tests every option of every family by pairs of models that must agree, and by simple loops that define an option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_jax
from vit_jax import config, randomness
from vit_jax.models import posemb
from vit_jax.models.architecture import VitArchitecture
from vit_jax.models.attention import Attention
from vit_jax.models.encoder import Block, Scope
from vit_jax.models.functional import flatten, split, unflatten

# No size here is square, so that a swap of height and width shows: patches of 8x4 pixels, a grid of 2x3.
VIT = {
    "patch_size": (8, 4), "image_size": (16, 12), "width": 32, "depth": 2, "mlp_dim": 48, "num_heads": 2,
    "num_classes": 5, "posemb_std": 0.5,
}  # fmt: skip
HYBRID = {**VIT, "patch_size": (1, 2), "image_size": (16, 24), "stem_width": 32}
BIT = {"image_size": (20, 27), "stem_width": 32, "num_classes": 5}
MIXER = {
    "patch_size": (8, 4), "image_size": (16, 12), "width": 32, "depth": 3, "tokens_mlp_dim": 16, "mlp_dim": 48,
    "num_classes": 5,
}  # fmt: skip
RANDOM = {"dropout": 0.1, "drop_path": 0.3}
GRID = (2, 3)


def drawn(module, seed=0, std=0.3):
    """Returns an abstract module with random parameters, none of them zero. This is faster than its initialisation."""
    bind, shapes = split(module)
    draw = np.random.default_rng(seed).normal
    flat = {
        path: jnp.asarray(draw(float(path.endswith("scale")), std, leaf.shape), leaf.dtype)
        for path, leaf in flatten(shapes).items()
    }
    return bind(unflatten(flat))


def create(name="Ti/16", **keywords):
    options = {"M": MIXER, "B": BIT}.get(name[0], HYBRID if name.startswith("R") else VIT)
    return drawn(nnx.eval_shape(lambda: vit_jax.create(name, **{**options, **keywords})))


def arch(**keywords):
    return VitArchitecture.of(**{**VIT, **keywords})


def images(size=VIT["image_size"], batch=2):
    return np.random.default_rng(1).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


CASES = {  # together they use every option
    "registers, scales, rope, swiglu, qk_norm, distilled": (
        "Ti/16",
        {"registers": 2, "layer_scale": 0.1, "rope": 100.0, "mlp": "swiglu", "qk_norm": True, "distilled": True}
        | {"posemb_at": "layers"},
    ),
    "rope in unit coordinates, no bias of keys": (
        "Ti/16",
        {"rope": 100.0, "rope_coordinates": "unit", "key_bias": False, "posemb": "none", "registers": 1, "pool": "map"},
    ),
    "axial, learned2d, gelu_erf, norm_after_pool": (
        "Ti/16",
        {"attention": "axial", "posemb": "learned2d", "posemb_at": "shared", "mlp": "gelu_erf", "pool": "gap"}
        | {"norm_after_pool": True, "rope": 10.0},
    ),
    "relative, parallel, tok+gap, no qkv_bias": (
        "Ti/16",
        {"posemb": "relative", "parallel": True, "pool": "tok+gap", "qkv_bias": False, **RANDOM},
    ),
    "relative in the first layer, map with a class token, pre_logits": (
        "Ti/16",
        {"posemb": "relative", "posemb_at": "stem", "pool": "map", "class_token": True, "pre_logits": 6},
    ),
    "hybrid without stages, no positions, matmul": (
        "R+Ti/16",
        {"patch_size": (2, 1), "posemb": "none", "patchify": "matmul"},
    ),
    "hybrid with two, sincos2d, gap": (
        "R26+S/32",
        {"stages": (2, 1), "image_size": (16, 32), "depth": 1, "posemb": "sincos2d", "pool": "gap"},
    ),
    "BiT": ("BiT-R50x1", {"stages": (1, 2)}),
    "Mixer": ("Mixer-B/16", RANDOM),
}
ALSO_SCANNED = ("BiT", "Mixer")  # the ViT is in tests/training/test_step.py


@pytest.mark.parametrize("case", CASES)
def test_same_numbers_and_gradients(case):
    """The loss and the gradients do not depend on whether blocks are scanned or unrolled, nor on what is recomputed."""
    name, options = CASES[case]
    model = create(name, **options)
    x = images(model.arch.image_size)
    _, params = split(model)

    def results(**changes):
        bind, _ = split(nnx.eval_shape(lambda: vit_jax.models.build(model.arch.replace(**changes), rngs=nnx.Rngs(0))))

        def loss(params):
            logits = bind(params)(x, key=jax.random.key(1))
            assert logits.shape == (2, 5) and logits.dtype == jnp.float32
            return (logits**2).mean()

        return jax.tree.leaves(jax.jit(jax.value_and_grad(loss))(params))

    expected = results()
    index = list(CASES).index(case)
    unrolled = {"scan": False, "remat": ("dots", "full")[index % 2]}
    scanned = {"scan": True, "remat": ("full", "dots")[index % 2]}
    for changes in [unrolled, scanned] if case in ALSO_SCANNED else [unrolled]:
        for a, b in zip(results(**changes), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max() + 1e-6, err_msg=str(changes))


@pytest.mark.parametrize("case", CASES)
def test_bfloat16(case):
    """The logits in bfloat16 are finite and near those in float32."""
    name, options = CASES[case]
    model, half = create(name, **options), create(name, dtype="bfloat16", **options)
    logits, halves = jax.jit(lambda *models: [m(images(m.arch.image_size)) for m in models])(model, half)
    assert halves.dtype == jnp.float32 and np.isfinite(halves).all()
    assert 0 < np.linalg.norm(halves - logits) < 0.1 * np.linalg.norm(logits)


def test_cases_have_every_option():
    options = [create(name, **o).arch for name, o in CASES.values() if name[0] in "TR"]
    for field in ("pool", "posemb", "posemb_at", "attention", "mlp", "patchify", "rope_coordinates"):
        wanted = set(config.key_at(f"model.{field}").limits.choices)
        assert {getattr(o, field) for o in options} == wanted, field
    switches = "registers", "layer_scale", "qk_norm", "key_bias", "rope", "norm_after_pool", "parallel", "distilled"
    for field in switches:
        assert len({bool(getattr(o, field)) for o in options}) == 2, field


# Positions.


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
    [(kind, at, "full") for kind in posemb.TABLES for at in ("stem", "layers", "shared")]
    + [("learned", at, "axial") for at in ("stem", "layers", "shared")],
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


# Attention.


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_axial_attention_is_full_attention_within_lines(axis, masked):
    options = arch(attention="axial", pool="gap", qk_norm=True)
    axial = drawn(nnx.eval_shape(lambda: Attention(options, axis=axis, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 32)).astype(np.float32)
    mask = np.ones((2, 6), bool)
    if masked:
        mask[0, 1] = mask[1, 3] = False  # every row and column keeps an unmasked patch
    layers = axial.query, axial.key, axial.value
    q, k, v = (np.einsum("btw,whd->bthd", x, layer.kernel[...]) + layer.bias[...] for layer in layers)

    def normed(x, norm):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * norm.scale[...] + norm.bias[...]

    scores = np.einsum("bqhd,bkhd->bhqk", normed(q, axial.query_norm), normed(k, axial.key_norm)) / 4
    line = np.indices(GRID)[1 - axis].ravel()  # the row of each patch for axis 1, its column for axis 0
    seen = (line[:, None] == line) & mask[:, None, None]
    expected = np.exp(np.where(seen, scores, -np.inf))
    expected /= expected.sum(-1, keepdims=True)
    y, weights = axial(jnp.asarray(x), jnp.asarray(x), grid=GRID, mask=jnp.asarray(mask) if masked else None)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    out = np.einsum("bhqk,bkhd,hdw->bqw", expected, v, axial.out.kernel[...]) + axial.out.bias[...]
    np.testing.assert_allclose(y, out, atol=1e-4)


def test_axial_attention_shows_rows_and_columns_in_turn():
    """In an axial block, a patch sees its row first, and then through its column the whole image.

    The returned attention weights are therefore positive for all pairs of patches.
    """
    model = create(attention="axial", pool="gap", depth=1)
    x = jnp.asarray(images())
    weights = jax.jit(lambda x: model.encode_with_attention(x).attention)(x)
    assert weights.shape == (1, 2, 2, 6, 6) and (weights > 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    block = jax.tree.map(lambda p: p[0], model.encoder.blocks)
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 32)), jnp.float32)
    jacobian = jax.jit(jax.jacobian(lambda t: block.rows(t, 0, Scope(GRID))[0].sum(-1)))
    touched = jacobian(tokens)[0, :, 0].any(-1)
    np.testing.assert_array_equal(touched, np.kron(np.eye(2), np.ones((3, 3))))


@pytest.mark.parametrize("options", [{"rope": 10.0}, {"attention": "axial", "pool": "gap"}, {"posemb": "relative"}])
def test_masked_patches_are_not_seen(options):
    """Masked patches have no influence on the others, even if they are a whole row."""
    model, x = create(**options), images()
    changed = x.copy()
    changed[:, 8:] = 7  # the second row of patches
    mask = jnp.asarray(np.arange(6)[None].repeat(2, 0) < 3)
    tokens = jax.jit(lambda x, mask: model.encode_with_attention(x, mask=mask).tokens)
    seen = model.arch.specials + 3
    np.testing.assert_allclose(tokens(x, mask)[:, :seen], tokens(changed, mask)[:, :seen], atol=1e-5)
    everything = mask | True
    assert not np.allclose(tokens(x, everything)[:, :seen], tokens(changed, everything)[:, :seen], atol=1e-3)


# Blocks, special tokens and pooling.


def test_layer_scale():
    """A layer scale of 0 leaves the tokens unchanged, and one of 1 has no effect."""
    model, x = create(layer_scale=0.5), images()
    _, params = split(model)
    blocks = params["encoder"]["blocks"]
    encode = jax.jit(lambda model: model.encode(x))
    for scale in (0.0, 1.0):
        blocks["scale1"], blocks["scale2"] = jnp.full((2, 32), scale), jnp.full((2, 32), scale)
        nnx.update(model, nnx.State(params))
        if scale == 0:
            cls = jnp.broadcast_to(model.cls[...], (2, 1, 32))
            tokens = jnp.concatenate([cls, model.embedding(jnp.asarray(x)).reshape(2, 6, 32)], 1)
            expected = model.encoder.norm(tokens + model.positions(GRID))
        else:
            plain = create()
            nnx.update(plain, nnx.State({**params, "encoder": {**params["encoder"], "blocks": {
                name: value for name, value in blocks.items() if not name.startswith("scale")
            }}}))  # fmt: skip
            expected = encode(plain)
        np.testing.assert_allclose(encode(model), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["gelu", "gelu_erf", "swiglu"])
@pytest.mark.parametrize("parallel", [False, True])
def test_block_by_hand(kind, parallel):
    options = arch(mlp=kind, parallel=parallel, layer_scale=0.1)
    block = drawn(nnx.eval_shape(lambda: Block(options, rngs=nnx.Rngs(0))))
    x = np.random.default_rng(0).normal(size=(2, 7, 32)).astype(np.float32)

    def norm(x, layer):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * layer.scale + layer.bias

    def mlp(x):
        y = x @ block.mlp.dense1.kernel[...] + block.mlp.dense1.bias[...]
        if kind == "swiglu":
            gate = x @ block.mlp.gate.kernel[...] + block.mlp.gate.bias[...]
            y = gate / (1 + np.exp(-gate)) * y
        elif kind == "gelu_erf":
            y = y * (1 + jax.scipy.special.erf(y / np.sqrt(2))) / 2
        else:
            y = y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) / 2
        return y @ block.mlp.dense2.kernel[...] + block.mlp.dense2.bias[...]

    normed = norm(x, block.norm1)
    attended = x + block.attention(normed, normed)[0] * block.scale1[...]
    expected = attended + mlp(normed if parallel else norm(attended, block.norm2)) * block.scale2[...]
    np.testing.assert_allclose(block(jnp.asarray(x), 0, Scope())[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("specials", [{}, {"registers": 2}, {"class_token": True, "registers": 1}], ids=str)
@pytest.mark.parametrize("pool", ["tok", "gap", "tok+gap", "map"])
def test_pooling(pool, specials):
    """Average and attention pooling read only the patches, not the special tokens."""
    model = create(pool=pool, **specials)
    n = specials.get("registers", 0) + bool(pool.startswith("tok") or specials.get("class_token"))
    assert model.arch.specials == n
    tokens = np.random.default_rng(0).normal(size=(2, n + 6, 32)).astype(np.float32)
    features = model.pooled(jnp.asarray(tokens))
    mean = tokens[:, n:].mean(1)
    if pool == "map":
        changed = tokens.copy()
        changed[:, :n] = 0
        np.testing.assert_array_equal(features, model.pooled(jnp.asarray(changed)))
    else:
        expected = {"tok": tokens[:, 0], "gap": mean, "tok+gap": np.concatenate([tokens[:, 0], mean], 1)}[pool]
        np.testing.assert_allclose(features, expected, atol=1e-6)


def test_norm_after_pool():
    model = create(pool="gap", norm_after_pool=True)
    assert not hasattr(model.encoder, "norm")
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 32)), jnp.float32)
    mean = tokens.mean(1)
    expected = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(mean.var(-1, keepdims=True) + 1e-6)
    expected = expected * model.fc_norm.scale[...] + model.fc_norm.bias[...]
    np.testing.assert_allclose(model.pooled(tokens), expected, atol=1e-5)


@pytest.mark.parametrize("how", ["conv", "matmul"])
def test_patches_by_a_loop(how):
    model, x = create(patchify=how), images()
    embedded = model.embedding(jnp.asarray(x))
    kernel = np.asarray(model.embedding.kernel[...]).reshape(-1, 32)
    for row in range(2):
        for column in range(3):
            patch = x[:, 8 * row : 8 * row + 8, 4 * column : 4 * column + 4].reshape(2, -1)
            np.testing.assert_allclose(embedded[:, row, column], patch @ kernel + model.embedding.bias[...], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "size", "positions"),
    [
        ("Ti/16", {"registers": 2}, (16, 12), 3 + 6),
        ("Ti/16", {"registers": 2}, (8, 40), 3 + 10),
        ("R+Ti/16", {}, (16, 24), 1 + 4 * 3),
        ("R26+S/32", {"stages": (1, 1), "image_size": (16, 32)}, (24, 48), 1 + 3 * 3),
        ("BiT-R50x1", {"stages": (1, 1)}, (20, 27), 3 * 4),  # odd sizes are halved and rounded up
        ("Mixer-B/16", {}, (16, 12), 6),
    ],
)
def test_sizes_that_are_not_square(name, options, size, positions):
    model = create(name, **options)
    encoded = jax.eval_shape(model.encode, jnp.zeros((2, *size, 3)))
    assert encoded.shape[:2] == (2, positions)


def test_rows_draw_their_own_randomness():
    """Equal images give different results with different keys, and equal results without, in families with dropout."""
    for name, options in (("Ti/16", {"attention_dropout": 0.5}), ("Mixer-B/16", {"drop_path": 0.5})):
        model = create(name, **options)
        x = images(model.arch.image_size, batch=4)
        x[:] = x[0]
        call = jax.jit(lambda key, model=model, x=x: model(x, key=key))
        rows = call(randomness.row_keys(jax.random.key(0), 4))
        assert np.ptp(rows, axis=0).max() > 1e-3
        np.testing.assert_allclose(np.ptp(call(None), axis=0), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "axial"}, "axial needs pool=gap or map"),
        ({"attention": "axial", "pool": "gap", "registers": 1}, "axial needs registers=0"),
        ({"attention": "axial", "pool": "gap", "class_token": True}, "axial needs class_token=False"),
        ({"attention": "axial", "pool": "gap", "posemb": "relative"}, "another posemb than relative"),
        ({"rope": 10.0, "width": 12}, "rope needs heads of a width divisible by 4"),
        ({"rope_coordinates": "unit"}, "rope_coordinates=unit needs rotary positions; set rope to 100, say"),
        ({"rope_coordinates": "polar", "rope": 10.0}, "rope_coordinates is 'polar'; it can be grid or unit"),
        ({"posemb": "learned2d", "width": 9, "num_heads": 1}, "needs an even width"),
        ({"distilled": True}, "distilled=True needs pool=tok and registers=1"),
        ({"class_token": False}, "pool=tok reads a class token"),
        ({"pool": "map", "norm_after_pool": True}, "norm_after_pool goes with pool=tok or gap"),
        ({"depth": 0}, "depth is 0; it must be at least 1"),
        ({"num_heads": 0}, "num_heads is 0; it must be at least 1"),
        ({"registers": -1}, "registers is -1; it must be at least 0"),
        ({"drop_path": 1.0}, "drop_path is 1.0; it must be at least 0 and below 1"),
        ({"stages": (0, 1), "patch_size": 1, "image_size": 16}, r"stages is \(0, 1\); it must be at least 1"),
        ({"posemb_at": "head"}, "posemb_at is 'head'; it can be stem, layers or shared"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(vit_jax.UserError, match=message):
        arch(**options)


def test_sizes_of_other_families_that_do_not_fit():
    for name, options in (
        ("Mixer-B/16", {"depth": 0}),
        ("Mixer-B/16", {"mlp_dim": 0}),
        ("BiT-R50x1", {"stem_width": 0}),
    ):
        with pytest.raises(vit_jax.UserError, match="must be at least 1"):
            create(name, **options)


def test_without_any_biases_key_bias_says_nothing():
    assert arch(qkv_bias=False, key_bias=False) == arch(qkv_bias=False)
    paths = flatten(split(create(key_bias=False))[1])
    assert "encoder/blocks/attention/query/bias" in paths and "encoder/blocks/attention/key/bias" not in paths
