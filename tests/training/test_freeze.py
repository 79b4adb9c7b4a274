"""Frozen parameters: they do not change, have no moments, and there is no backward pass below them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import vit_jax
from vit_jax import data, sharding, training
from vit_jax.checkpoints import names
from vit_jax.checkpoints.store import Store
from vit_jax.config import Optimizer
from vit_jax.models.functional import flatten
from vit_jax.training import patterns
from vit_jax.training.freeze import Freeze, join

PROBE = {"optimizer.freeze": ("^(?!head/)",)}


def setting(small, changes):
    config = training.resolve(small(changes))
    model = vit_jax.create(**vars(config.model) | {"num_classes": 4})
    batch = next(iter(data.batches(config, rows=range(16))))
    return config, model, training.create_state(config, model), training.make_step(config, model), batch


@pytest.mark.parametrize("scan", [True, False])
def test_a_probe_costs_a_forward_pass(small, scan):
    """Training only the head costs a forward pass, by the compiler's count of operations.

    The averages of frozen parameters do not change.
    """
    sizes = {"model.scan": scan, "model.width": 64, "model.depth": 4, "model.mlp_dim": 256, "model.dropout": 0.0}
    changes = {**sizes, "mesh.data": 1, "model.drop_path": 0.0, "augmentation.mixup": 0.0, **PROBE}
    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: first)
        _, model, state, step, batch = setting(small, {**changes, "augmentation.rotate_degrees": 0.0})
        compiled = step.lower(state, batch).compile()
        images = model.preprocessing.normalize(batch["image"])
        forward = jax.jit(lambda model, images: model(images)).lower(model, images).compile()
    assert compiled.cost_analysis()["flops"] < 1.25 * forward.cost_analysis()["flops"]
    before = jax.tree.map(np.asarray, (state.params, state.average))
    state, _ = step(state, batch)
    moved, averaged = names.Published(state.params), names.Published(state.average)
    for name, value in names.Published(before[0]).items():
        assert np.array_equal(moved[name], value) == (not name.startswith("head/")), name
        assert np.array_equal(averaged[name], value) == (not name.startswith("head/")), name


@pytest.mark.parametrize("name", ["adam", "sgd", "lamb", "lion", "adafactor"])
def test_no_moments_of_what_is_frozen(small, name):
    _, _, state, _, _ = setting(small, {**PROBE, "optimizer.name": name})
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves(state.opt_state)]
    assert any("head/kernel" in path for path in paths)
    assert not any("encoder" in path or "embedding" in path for path in paths)


@pytest.mark.parametrize("name", ["adam", "lamb", "adafactor"])
def test_a_checkpoint_holds_the_state(small, tmp_path, name):
    """A state with frozen parameters and per-layer optimizer state is restored with the same structure and values."""
    config, model, state, _, _ = setting(small, {"optimizer.freeze": ("^embedding/",), "optimizer.name": name})
    items = {"params": state.params, "opt_state": state.opt_state, "average": state.average}
    mesh = sharding.make_mesh(config.mesh)
    abstract = training.state.abstract_state(config, model, mesh)
    with contextlib.closing(Store(epath.Path(tmp_path), 1)) as store:
        store.save(1, items)
        store.wait()
        _, found = store.restore({key: getattr(abstract, key) for key in items})
    assert jax.tree.structure(found) == jax.tree.structure(items)
    jax.tree.map(np.testing.assert_array_equal, found, items)


def leaves(tree):
    return jax.tree_util.tree_flatten_with_path(tree)[0]


@pytest.mark.slow
def test_accumulated_equals_one_batch(small):
    found = []
    for parts in (1, 2):
        changes = {"accumulation_steps": parts, "mesh.data": 4, "mesh.tensor": 2, **PROBE}
        *_, state, step, batch = setting(small, changes)
        state, metrics = step(state, batch)
        found.append((np.asarray(state.params["head"]["kernel"]), float(metrics["gradient_norm"])))
    np.testing.assert_allclose(*[kernel for kernel, _ in found], atol=1e-5)
    np.testing.assert_allclose(*[norm for _, norm in found], rtol=1e-4)


def test_a_nan_of_a_frozen_layer_does_not_spread():
    """A NaN in the gradient of a frozen layer does not reach the other layers of the same stacked array."""
    params = {"encoder": {"blocks": {"x": jnp.ones((2, 3))}}, "head": {"kernel": jnp.ones(3)}}
    freeze = Freeze(Optimizer(freeze=("encoderblock_1/",)), params)
    gradients = freeze.zero(jax.tree.map(lambda x: x.at[-1].set(jnp.nan), params))
    np.testing.assert_array_equal(gradients["encoder"]["blocks"]["x"], [[1, 1, 1], [0, 0, 0]])
    assert np.isnan(gradients["head"]["kernel"]).any()  # the head is trained
    assert patterns.scaled({"x": jnp.array(jnp.inf)}, {"x": 0.0})["x"] == 0


def test_split_and_join():
    params = {"encoder": {"norm": {"scale": jnp.ones(2)}}, "head": {"kernel": jnp.ones(3), "bias": jnp.ones(1)}}
    trained, frozen = Freeze(Optimizer(freeze=("encoder_norm", "head/bias")), params).split(params)
    assert list(flatten(trained)) == ["head/kernel"]
    assert jax.tree.structure(join(trained, frozen)) == jax.tree.structure(params)
    with pytest.raises(vit_jax.UserError, match="nothing is left to learn"):
        Freeze(Optimizer(freeze=("",)), params)
