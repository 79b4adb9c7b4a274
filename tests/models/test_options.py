"""Tests all families and options together, by pairs of models that must agree, and which options are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_jax
from helpers.models import RANDOM, arch, create, images
from vit_jax import config, randomness
from vit_jax.models.functional import flatten, split

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
QUICK = (
    "registers, scales, rope, swiglu, qk_norm, distilled", "Mixer",
)  # fmt: skip


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
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


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
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
