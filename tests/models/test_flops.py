"""Compares the counted operations with formulas, with XLA's own count, and with Table 6 of the paper."""

import itertools

import jax
import numpy as np
import pytest

import vit_jax
from vit_jax import command_line, sharding
from vit_jax.models import flops
from vit_jax.models.build import abstract
from vit_jax.models.functional import split
from vit_jax.models.variants import named
from vit_jax.planning import compiling
from vit_jax.training.freeze import frozen
from vit_jax.training.state import abstract_state, resolve
from vit_jax.training.step import make_step


def model(name, **keywords):
    return abstract(named(name, **keywords))


def test_a_vision_transformer_by_its_formula():
    tokens, width, mlp, depth = 197, 768, 3072, 12
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * mlp
    products = depth * block + 196 * 16 * 16 * 3 * width + width * 1000
    # Attention computes its sums with a column of ones appended to the values, which are 64 per head.
    assert flops.forward(model("B/16"), 5) == 5 * 2 * (products + depth * 12 * tokens**2)
    assert flops.step(model("B/16"), 5) == 3 * flops.forward(model("B/16"), 5)


@pytest.mark.parametrize(
    ("name", "keywords"),
    [("Ti/16", {"pool": "gap"}), ("BiT-R50x1", {}), ("Mixer-S/16", {}), ("Ti/16", {"rope": 100.0})],
)
def test_scanned_counts_as_unrolled(name, keywords):
    scanned, unrolled = (model(name, scan=scan, **keywords) for scan in (True, False))
    assert flops.forward(scanned, 1) == flops.forward(unrolled, 1)


def test_of_an_unrolled_last_block_what_the_head_reads():
    """An unrolled last block saves the work for 196 of the 197 tokens.

    The saved work is in the queries, their scores, the sums and weighted values, the output layer, and the MLP.
    """
    width, mlp, heads = 768, 3072, 12
    token = 2 * width**2 + 2 * 197 * width + 197 * heads + 2 * width * mlp
    saved = flops.forward(model("B/16", scan=True), 1) - flops.forward(model("B/16", scan=False), 1)
    assert saved == 2 * 196 * token


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [*itertools.product([5, 8], [1, 3], [1, 2], [0, 1])])
def test_products_with_padding_do_not_count(size, kernel, stride, padding):
    """A convolution of ones with ones gives, for each output, the number of products in it."""
    image, weights = np.ones((1, size, size, 2), np.float32), np.ones((kernel, kernel, 2, 3), np.float32)

    def convolve(image, weights):
        return jax.lax.conv_general_dilated(
            image, weights, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    counted = flops.count(jax.make_jaxpr(convolve)(image, weights).jaxpr)
    assert counted == 2 * convolve(image, weights).sum()


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("S/16", {"depth": 2}),
        ("Mixer-S/16", {"depth": 2}),
        ("BiT-R50x1", {"stages": (1, 1, 1, 1)}),
        ("R26+S/32", {"depth": 1}),
    ],
)
def test_agrees_with_the_compiler(name, keywords):
    """The count agrees with XLA's for the unrolled model on a CPU.

    XLA also counts operations other than products and convolutions; they are less than 3 %.
    """
    unrolled = model(name, scan=False, **keywords)
    bind, params = split(unrolled)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), np.float32)
    lowered = jax.jit(lambda params, images: bind(params)(images)).lower(params, images)
    assert flops.forward(unrolled, 2) == pytest.approx(lowered.cost_analysis()["flops"], rel=0.03)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        *[("L/16", 1567), ("BiT-R50x1", 50), ("R50+B/16", 274)],
        *[
            pytest.param(*row, marks=pytest.mark.slow)
            for row in [
                *[("B/32", 55), ("B/16", 224), ("L/32", 196), ("H/14", 4262)],
                *[("BiT-R50x2", 199), ("BiT-R101x1", 96), ("BiT-R152x1", 141), ("BiT-R152x2", 563)],
                *[("R50+B/32", 106), ("R50+L/32", 246), ("R50+L/16", 859)],
            ]
        ],
    ],
)
def test_exaflops_of_table_6(name, published):
    """The FLOPs of a whole pre-training agree with the paper's to 5 %.

    The paper's models compute all tokens in all blocks, as scanned models do. The recipes unroll the blocks, which
    saves up to 1/12 of the work, because the last block computes only the tokens that the head reads.
    """

    def exaflops(*overrides):
        config = resolve(command_line.load_config(f"configs/pretrain.py:{name},jft300m", [*overrides]))
        return flops.step(compiling.model_of(config), config.global_batch_size) * config.total_steps / 1e18

    whole = exaflops(("model.scan", "true"))
    assert whole == pytest.approx(published, rel=0.05)
    assert 11 / 12 * whole <= exaflops() <= whole


def test_a_real_model_counts_as_an_abstract_one():
    keywords = {"image_size": 8, "width": 16, "depth": 2, "mlp_dim": 32, "num_heads": 2}
    assert flops.forward(vit_jax.create("Ti/4", **keywords), 3) == flops.forward(model("Ti/4", **keywords), 3)


PROBE = "^(?!head/)"


@pytest.fixture
def job(small):
    """The small config of a model with frozen parameters, resolved, and that model."""

    def make(name, patterns, keywords):
        config = small({"optimizer.freeze": patterns, "optimizer.average": 0.0, "global_batch_size": 8})
        for key in ("image_size", "width", "depth", "mlp_dim", "num_heads", "dropout", "drop_path"):
            config.model[key] = vit_jax.config.default().model[key]
        config.model.name, config.augmentation.mixup, config.augmentation.rotate_degrees = name, 0.0, 0.0
        for key, value in keywords.items():
            config.model[key] = value
        config = resolve(config)
        return config, compiling.model_of(config)

    return make


@pytest.mark.parametrize(
    ("name", "keywords", "patterns", "forwards"),
    [
        ("S/16", {"depth": 4}, (PROBE,), 1.0),
        # The patches' embedding is trained, below all blocks.
        pytest.param("S/16", {"depth": 4}, ("encoderblock",), 2.07, marks=pytest.mark.slow),
        ("S/16", {"depth": 4}, ("MlpBlock",), 2.40),
        pytest.param("S/16", {"depth": 4}, ("^head/",), 2.95, marks=pytest.mark.slow),
        # Half of the encoder: the stack is one array, so that only the embedding is saved.
        ("S/16", {"depth": 4}, ("encoderblock_[01]/", "^embedding/", "^cls", "pos_embedding"), 2.91),
        ("BiT-R50x1", {"stages": (1, 1, 1, 1)}, (PROBE,), 1.0),
        ("BiT-R50x1", {"stages": (1, 1, 1, 1)}, ("^root_block/", "^block[12]/"), 2.01),
        ("Mixer-S/16", {"depth": 2}, ("token_mixing",), 2.82),
    ],
)
def test_a_step_with_frozen_parameters_agrees_with_the_compiler(job, name, keywords, patterns, forwards):
    """With XLA's count of the step, unrolled; what is no product or convolution is in the 3 %."""
    config, unrolled = job(name, patterns, {"scan": False, **keywords})
    mesh = sharding.make_mesh(config.mesh)
    state, batch = abstract_state(config, unrolled, mesh), compiling.abstract_batch(config, unrolled, mesh)
    lowered = make_step(config, unrolled, mesh).lower(state, batch)
    counted = flops.step(unrolled, 8, frozen(config, unrolled))
    assert counted == pytest.approx(lowered.cost_analysis()["flops"], rel=0.03)
    assert counted / flops.forward(unrolled, 8) == pytest.approx(forwards, abs=0.01)


@pytest.mark.parametrize(
    "patterns",
    [
        (PROBE,),
        pytest.param(("MlpBlock",), marks=pytest.mark.slow),
        pytest.param(("encoderblock",), marks=pytest.mark.slow),
        ("encoderblock_0/", "^embedding/"),
    ],
)
@pytest.mark.parametrize("remat", ["none", "full"])
def test_frozen_and_scanned_counts_as_unrolled(job, patterns, remat):
    found = []
    for scan in (True, False):
        config, model = job("Ti/16", patterns, {"scan": scan, "remat": remat, "pool": "gap"})
        found.append(flops.step(model, 2, frozen(config, model)))
    assert found[0] == found[1]


def test_frozen_in_part_a_stack_counts_whole(job):
    """And a step without anything that is frozen whole is three forwards."""
    config, model = job("Ti/16", ("encoderblock_[0-5]/",), {})
    assert not frozen(config, model)
    assert flops.step(model, 2, frozen(config, model)) == 3 * flops.forward(model, 2)
