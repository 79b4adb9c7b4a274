"""Each number of an analysis agrees with a calculation by definition, from weights that NumPy computes."""

import math

import jax
import numpy as np
import pytest
from scipy.special import softmax

import vit_jax
from helpers import models
from vit_jax import analysis
from vit_jax.analysis import attention, filters, measuring, positions
from vit_jax.analysis.measuring import Map, measure


def norm(x, scale, bias, eps=1e-6):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale + bias


def tokens_and_attention(golden):
    """Returns, by NumPy from a file in the original's naming, the tokens of all layers and the attention weights."""
    p = {key.removeprefix("params/"): value.astype(np.float64) for key, value in golden.items()}
    images, kernel = p["image"], p["embedding/kernel"]
    size = kernel.shape[0]
    batch, height, width_px = images.shape[:3]
    rows, columns = height // size, width_px // size
    x = np.stack(
        [
            np.tensordot(images[:, i : i + size, j : j + size], kernel, 3)
            for i in range(0, height, size)
            for j in range(0, width_px, size)
        ],
        axis=1,
    )
    x = x + p["embedding/bias"]
    if "cls" in p:
        x = np.concatenate([np.repeat(p["cls"], batch, 0), x], axis=1)
    x = x + p["Transformer/posembed_input/pos_embedding"]
    layers, weights, block = [x], [], 0
    while (prefix := f"Transformer/encoderblock_{block}/") + "LayerNorm_0/scale" in p:
        own = {key.removeprefix(prefix): value for key, value in p.items() if key.startswith(prefix)}
        y = norm(x, own["LayerNorm_0/scale"], own["LayerNorm_0/bias"])
        q, k, v = (
            np.einsum("btd,dhe->bhte", y, own[f"MultiHeadDotProductAttention_1/{name}/kernel"])
            + own[f"MultiHeadDotProductAttention_1/{name}/bias"][:, None]
            for name in ("query", "key", "value")
        )
        weights.append(softmax(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1]), axis=-1))
        out = own["MultiHeadDotProductAttention_1/out/kernel"]
        x = x + np.einsum("bhte,hed->btd", weights[-1] @ v, out) + own["MultiHeadDotProductAttention_1/out/bias"]
        y = norm(x, own["LayerNorm_2/scale"], own["LayerNorm_2/bias"])
        y = y @ own["MlpBlock_3/Dense_0/kernel"] + own["MlpBlock_3/Dense_0/bias"]
        y = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + y @ own["MlpBlock_3/Dense_1/kernel"] + own["MlpBlock_3/Dense_1/bias"]
        layers.append(x)
        block += 1
    encoded = norm(x, p["Transformer/encoder_norm/scale"], p["Transformer/encoder_norm/bias"])
    np.testing.assert_allclose(encoded, golden["encoded"], atol=2e-5)  # the calculation above is right
    return np.stack(layers), np.stack(weights), (rows, columns)


@pytest.fixture(scope="module", params=["vit_token", "vit_gap"])
def case(request, goldens):
    """Returns a model, its analysis, and tokens, attention and grid as NumPy computes them."""
    golden = np.load(goldens / f"{request.param}.npz")
    model = vit_jax.load(goldens / f"{request.param}.npz", image_size=golden["image"].shape[1:3])
    images = [(str(i), image) for i, image in enumerate(golden["image"])]
    found = measure(model, images, len(images), maps=[Map(1, 0), Map(0)])
    return model, found, *tokens_and_attention(golden)


def test_attention_distance(case):
    model, found, _, weights, grid = case
    specials, expected = model.arch.specials, np.zeros(weights.shape[:3])
    places = [(8 * row, 8 * column) for row in range(grid[0]) for column in range(grid[1])]
    for index in np.ndindex(expected.shape):
        each = []
        for query, here in enumerate(places):
            row = weights[index][specials + query, specials:]
            each.append(sum(w * math.dist(here, there) for w, there in zip(row / row.sum(), places, strict=True)))
        expected[index] = np.mean(each)
    np.testing.assert_allclose(found.arrays["attention_distance"], expected.mean(1), rtol=1e-4)


def test_rollout_and_single_heads(case):
    model, found, _, weights, grid = case
    specials = model.arch.specials
    product = np.eye(weights.shape[-1])
    for layer in weights:
        mixed = layer.mean(1) + np.eye(weights.shape[-1])
        product = mixed / mixed.sum(-1, keepdims=True) @ product

    def seen(matrix):
        rows = matrix[:, 0] if specials else matrix.mean(1)
        return rows[:, specials:].reshape(-1, *grid)

    np.testing.assert_allclose(found.arrays["rollout"], seen(product), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.arrays["attention_1_0"], seen(weights[1][:, 0]), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.arrays["attention_0_mean"], seen(weights[0].mean(1)), rtol=1e-3, atol=1e-6)
    whole = attention.rollout(np.asarray(weights, np.float32))
    np.testing.assert_allclose(whole, product, rtol=1e-3, atol=1e-6)


def test_entropy_and_norms(case):
    _, found, layers, weights, _ = case
    expected = -(weights * np.log(weights)).sum(-1).mean((1, 3))
    np.testing.assert_allclose(found.arrays["attention_entropy"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.arrays["token_norms"], np.linalg.norm(layers, axis=-1), rtol=1e-4)


def test_similarity_of_layers_is_that_of_all_tokens(case):
    """The images have fewer tokens than are sampled, so that all of them are."""
    _, found, layers, _, _ = case
    np.testing.assert_allclose(found.arrays["cka"], by_traces(layers.reshape(len(layers), -1, 32)), atol=1e-4)


def by_traces(features):
    """Returns CKA with the unbiased estimator written with traces (Song et al., 2012, equation 4)."""

    def gram(x):
        made = x @ x.T
        np.fill_diagonal(made, 0)
        return made

    def hsic(k, m):
        n, ones = len(k), np.ones(len(k))
        last = 2 / (n - 2) * (ones @ k @ m @ ones)
        return np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)) - last

    grams = [gram(x) for x in features.astype(np.float64)]
    return np.array([[hsic(a, b) / math.sqrt(hsic(a, a) * hsic(b, b)) for b in grams] for a in grams])


def test_cka_knows_rotations_and_noise():
    draw = np.random.default_rng(0).normal
    x = draw(size=(200, 30))
    rotation = np.linalg.qr(draw(size=(30, 30)))[0]
    found = analysis.cka(np.stack([x, 3 * x @ rotation + 5, draw(size=(200, 30))]))
    np.testing.assert_allclose(found[0, 1], 1, atol=1e-9)
    np.testing.assert_allclose(found[:2, 2], 0, atol=0.05)


def test_known_attention():
    """Identity attention has distance 0, uniform attention the mean distance of the grid, and a blob lights up."""
    grid, stride = (3, 4), (2, 5)
    distances = analysis.patch_distances(grid, stride)
    patches = [(2 * row, 5 * column) for row in range(3) for column in range(4)]
    mean = np.mean([math.dist(a, b) for a in patches for b in patches])
    identity, uniform = np.eye(13)[None, None], np.full((1, 1, 13, 13), 1 / 13)
    np.testing.assert_array_equal(analysis.mean_distance(identity, 1, distances), [[0]])
    np.testing.assert_allclose(analysis.mean_distance(uniform, 1, distances), [[mean]], rtol=1e-6)
    np.testing.assert_allclose(attention.entropy(np.concatenate([identity, uniform], 1)), [[0, np.log(13)]], rtol=1e-6)
    blob = np.zeros((2, 1, 2, 13, 13), np.float32)
    blob[..., 1 + 7] = 1  # everything attends to patch 7
    rolled = analysis.rollout(blob)
    seen = attention.seen_by_head(rolled, models.arch(pool="tok"))
    assert seen.argmax() == 7 and np.isclose(seen[0, 7], 0.75)


def test_queries_that_attend_to_special_tokens_alone_are_left_out():
    distances = analysis.patch_distances((1, 2), (3, 3))
    weights = np.zeros((1, 2, 3, 3), np.float32)
    weights[..., 0] = 1
    weights[0, 0, 1] = [0.5, 0, 0.5]
    np.testing.assert_array_equal(analysis.mean_distance(weights, 1, distances), [[3, np.nan]])


def test_principal_components():
    kernel = np.random.default_rng(0).normal(size=(4, 2, 3, 60)) * np.arange(1, 25).reshape(4, 2, 3, 1)
    points = kernel.reshape(24, 60)
    values, vectors = np.linalg.eigh(np.cov(points))
    components, explained = filters.principal_components(kernel, 5)
    assert components.shape == (5, 4, 2, 3)
    np.testing.assert_allclose(explained, values[::-1][:5] / values.sum(), rtol=1e-6)
    overlap = np.abs((components.reshape(5, 24) * vectors.T[::-1][:5]).sum(1))
    np.testing.assert_allclose(overlap, 1, rtol=1e-6)
    assert len(filters.principal_components(kernel)[0]) == 24  # no more than a filter has numbers


@pytest.mark.parametrize(
    ("posemb", "where"), [("learned", "stem"), ("learned2d", "shared"), ("sincos2d", "stem"), ("learned", "layers")]
)
def test_position_similarity(posemb, where):
    model = models.create(posemb=posemb, posemb_at=where, registers=2)
    table = positions.table(model)
    found = positions.similarity(table, models.GRID)
    for a, b in np.ndindex(6, 6):
        expected = table[a] @ table[b] / np.linalg.norm(table[a]) / np.linalg.norm(table[b])
        assert np.isclose(found[a // 3, a % 3, b // 3, b % 3], expected, atol=1e-6)
    if posemb == "learned" and where == "stem":
        np.testing.assert_array_equal(table, model.positions.table[0, 1:])
    if where == "layers":
        np.testing.assert_array_equal(table, model.encoder.blocks.positions.table[0, 0, 1:])


@pytest.mark.parametrize(
    "options",
    [
        {"pool": "gap", "registers": 1, "class_token": True},
        pytest.param({"pool": "tok", "registers": 1, "distilled": True, "scan": False}, marks=pytest.mark.slow),
        pytest.param({"pool": "tok+gap"}, marks=pytest.mark.slow),
        pytest.param({"pool": "map", "attention": "axial"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_batch_and_its_parts_agree(options):
    """There are eleven images, so that the last batch is filled up. The expected rows are those that the head reads."""
    model = models.create(**options)
    images = [(str(i), image) for i, image in enumerate(models.images(batch=11))]
    found = measure(model, images, 11, maps=[Map(1, 1)])
    assert found.images == 11 and found.arrays["rollout"].shape == (11, 2, 3)
    weights = np.asarray(model.encode_with_attention(np.stack([x for _, x in images])).attention)
    specials, distances = model.arch.specials, analysis.patch_distances((2, 3), (8, 4))
    for layer in range(2):
        expected = attention.mean_distance(weights[layer], specials, distances).mean(0)
        np.testing.assert_allclose(found.arrays["attention_distance"][layer], expected, rtol=1e-5)

    def read(matrix):
        patches = matrix[:, specials:].mean(1)
        rows = {"gap": patches, "map": patches, "tok": (matrix[:, 0] + matrix[:, 1]) / 2}
        return rows.get(options["pool"], (matrix[:, 0] + patches) / 2)[:, specials:].reshape(-1, 2, 3)

    np.testing.assert_allclose(found.arrays["attention_1_1"], read(weights[1][:, 1]), rtol=1e-5)
    rolled = np.asarray(attention.rollout(weights))
    np.testing.assert_allclose(found.arrays["rollout"], read(rolled), rtol=1e-5)


def test_bfloat16_measures_about_the_same():
    images = [(str(i), image) for i, image in enumerate(models.images(batch=3))]
    exact, rounded = (measure(models.create(dtype=dtype), images, 3).arrays for dtype in ("float32", "bfloat16"))
    for name in ("attention_distance", "attention_entropy", "token_norms", "rollout"):
        assert rounded[name].dtype == np.float32
        np.testing.assert_allclose(rounded[name], exact[name], rtol=0.1)


def test_the_similarity_of_layers_is_of_a_limited_number_of_tokens(monkeypatch):
    monkeypatch.setattr(measuring, "SAMPLES", 8)
    monkeypatch.setattr(measuring.tokens, "cka", lambda samples: samples)
    images = [(str(i), image) for i, image in enumerate(models.images(batch=12))]
    assert measure(models.create(), images, 12).arrays["cka"].shape == (3, 8, 32)


def test_layers_of_equal_tokens_are_similar_to_nothing():
    draw = np.random.default_rng(0).normal(size=(20, 5))
    np.testing.assert_allclose(analysis.cka(np.stack([np.ones((20, 5)), draw])), [[0, 0], [0, 1]], atol=1e-9)


def test_weights_of_a_layer_are_freed_before_the_next():
    """The temporary memory that the compiler asks for does not grow with the depth."""
    from vit_jax.analysis.observations import _observer

    def temporaries(depth):
        model = models.create(depth=depth, image_size=(128, 64), num_heads=4, scan=True)
        images = np.zeros((4, 128, 64, 3), np.float32)
        bind, params = vit_jax.models.functional.split(model)

        def observe(params):
            model = bind(params)
            seen = model.observe(images, _observer(model, np.zeros((4, 1), int), False))
            return seen.outputs

        return jax.jit(observe).lower(params).compile().memory_analysis().temp_size_in_bytes

    one_layer = 4 * 4 * 257**2 * 4
    assert temporaries(12) - temporaries(4) < one_layer


def test_dinov2_is_seen_at_the_size_of_its_images(goldens):
    """Its position embeddings may be of another size than its images."""
    model = vit_jax.load(goldens / "hf_dinov2.safetensors", **_of_dinov2(goldens))
    size = tuple(2 * side for side in model.preprocessing.size)
    seen = vit_jax.checkpoints.model_file.at_size(model.preprocessing, size)
    model.preprocessing = seen
    draw = np.random.default_rng(0)
    found = measure(model, [("a", draw.integers(0, 256, (*size, 3), np.uint8))] * 2, 2)
    grid = model.arch.grid
    assert found.arrays["rollout"].shape == (2, 2 * grid[0], 2 * grid[1])
    assert found.arrays["posemb_similarity"].shape == (*grid, *grid)


def _of_dinov2(goldens):
    import json

    config = json.loads(str(np.load(goldens / "hf_dinov2.npz")["config"]))
    return {"num_heads": config["num_attention_heads"]}
