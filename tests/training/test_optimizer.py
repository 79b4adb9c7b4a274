"""The optimizers, their treatment of stacked layers, and the warm-up of the average."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vit_jax
from vit_jax import config as config_lib
from vit_jax import data, training
from vit_jax.checkpoints import names
from vit_jax.models.functional import flatten, is_stacked, split, unflatten
from vit_jax.training import average
from vit_jax.training.optimizer import OPTIMIZERS, make_optimizer


def settings(**changes):
    return config_lib.typed({"optimizer": changes}).optimizer


def made(small, name, **changes):
    """Returns the state after two steps."""
    config = small({"optimizer.name": name, "optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 0.1, **changes})
    model = vit_jax.create(**vars(training.resolve(config).model) | {"num_classes": 4})
    state, step = training.create_state(config, model), training.make_step(config, model)
    for _, batch in zip(range(2), data.batches(config, rows=range(16)), strict=False):
        state, metrics = step(state, batch)
    assert np.isfinite(metrics["loss"])
    return state


@pytest.fixture(scope="module")
def params():
    """Returns parameters whose layers differ so much in size that a norm over several layers would be noticed."""
    model = vit_jax.create("Ti/4", image_size=8, width=64, depth=3, mlp_dim=128, num_heads=2, num_classes=4)
    rng = np.random.default_rng(0)
    shape = lambda path, leaf: (3, *(1,) * (leaf.ndim - 1)) if is_stacked(path) else ()  # noqa: E731
    return unflatten(
        {
            path: jnp.asarray(rng.normal(size=leaf.shape) * rng.uniform(0.1, 10, shape(path, leaf)), jnp.float32)
            for path, leaf in flatten(split(model)[1]).items()
        }
    )


def _lamb(step):
    return optax.lamb(1.0, weight_decay=0.1, eps=1e-8)


def _adafactor(step):
    cap = lambda step, power: jnp.minimum(0.999, 1 - (step + 1.0) ** -power)  # noqa: E731
    return optax.chain(
        optax.scale_by_factored_rms(min_dim_size_to_factor=32, decay_rate_fn=cap),
        optax.ema(0.9, debias=False),
        optax.add_decayed_weights(0.1),
        optax.scale(-1),
    )


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        pytest.param("lamb", _lamb, marks=pytest.mark.slow),
        pytest.param("adafactor", _adafactor, marks=pytest.mark.slow),
    ],
)
def test_stacked_layers_are_what_single_layers_are(params, name, reference):
    """Our optimizers on stacks give the same as those of optax on each layer, after two updates."""
    stacked = [path for path in flatten(params) if is_stacked(path) and path.endswith("/kernel")]
    optimizer = make_optimizer(settings(name=name, weight_decay=0.1), params)
    gradients = jax.tree.map(jnp.sin, params)
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(gradients, state, params)
    for path in stacked:
        for layer in range(3):
            single, gradient = ({"x": flatten(tree)[path][layer]} for tree in (params, gradients))
            its = reference(name)
            its_state = its.init(single)
            for _ in range(2):
                expected, its_state = its.update(gradient, its_state, single)
            found = flatten(updates)[path][layer]
            np.testing.assert_allclose(found, -expected["x"], rtol=2e-5, atol=1e-5, err_msg=f"{path} {layer}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_scanned_equals_unrolled_and_sharded_equals_whole(small, name):
    """For each optimizer, scanning and sharding do not change the result, also with one layer of the stack frozen."""
    still = {"optimizer.freeze": ("encoderblock_1/", "^embedding/")}
    scanned = made(small, name, **still)
    others = [
        made(small, name, **still, **{"model.scan": False}),
        made(small, name, **still, **{"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}),
    ]
    for other in others:
        for path, value in names.Published(scanned.params).items():
            if not path.endswith("key/bias"):  # its exact gradient is zero, so only rounding errors move it
                # Lion's updates are signs, which rounding can flip if a gradient is almost zero.
                near = np.isclose(names.Published(other.params)[path], value, atol=2e-5)
                assert near.mean() > (0.98 if name == "lion" else 0.9999), path


def test_factored_moments_are_those_of_layers(params):
    state = make_optimizer(settings(name="adafactor"), params).init(params)[1]
    kernel = state["stacks_of_3"].v_row["encoder"]["blocks"]["mlp"]["dense1"]["kernel"]
    assert kernel.shape in {(3, 64), (3, 128)} and state["stacks_of_3"].count.shape == (3,)


def test_warmup_of_the_average():
    short = settings(average=0.5, average_warmup=True)
    np.testing.assert_allclose([average.decay_at(short, step) for step in (0, 1, 8, 9)], [0.1, 2 / 11, 0.5, 0.5])
    assert average.decay_at(settings(average=0.9), 0) == 0.9
    with pytest.raises(vit_jax.UserError, match="nothing reads config.optimizer.average_warmup"):
        settings(average_warmup=True)


def test_the_average_of_the_first_step_with_a_warmup(small):
    config = small({"optimizer.average": 0.75, "optimizer.average_warmup": True})
    model = vit_jax.create(**vars(training.resolve(config).model) | {"num_classes": 4})
    batch = next(iter(data.batches(config, rows=range(16))))
    state, _ = training.make_step(config, model)(training.create_state(config, model), batch)
    np.testing.assert_allclose(
        state.average["head"]["kernel"], 0.9 * state.params["head"]["kernel"], atol=1e-6
    )  # the average starts at zero
    assert np.any(state.params["head"]["kernel"])
