"""The training step: expected numbers from a reference implementation, and pairs of settings that must agree."""

import json

import jax
import numpy as np
import pytest

import vit_jax
from vit_jax import config as config_lib
from vit_jax import data, training
from vit_jax.checkpoints import names
from vit_jax.errors import UserError
from vit_jax.models import functional
from vit_jax.tasks import make_task


def run(config, model=None, batches=None, steps=20):
    """Returns the losses, gradient norms and learning rates (steps, 3), and the last state."""
    resolved = training.resolve(config)
    if model is None:
        model = vit_jax.create(**{**vars(resolved.model)}, seed=resolved.seed)
    state, step = training.create_state(config, model), training.make_step(config, model)
    batches = data.batches(config, rows=range(config.global_batch_size)) if batches is None else batches
    rows = []
    for _, batch in zip(range(steps), batches, strict=False):
        state, metrics = step(state, {key: batch[key] for key in ("image", "label", "mask")})
        rows.append([float(metrics[key]) for key in ("loss", "gradient_norm", "learning_rate")])
    return np.array(rows), state


@pytest.mark.parametrize("name", ["steps_sgd_cosine", "steps_adam_linear"])
def test_goldens(goldens, name):
    golden = np.load(goldens / f"{name}.npz")
    settings = json.loads(str(golden["config"]))
    config = config_lib.default()
    config.total_steps, config.schedule.warmup_steps = settings["total_steps"], settings["warmup_steps"]
    config.schedule.name, config.schedule.end_learning_rate = settings["decay"], settings.get("linear_end", 0.0)
    optimizer = config.optimizer
    optimizer.name, optimizer.learning_rate = settings["optimizer"], settings["learning_rate"]
    optimizer.weight_decay, optimizer.grad_clip_norm = settings.get("weight_decay", 0.0), settings["grad_clip_norm"]
    batches = [
        {"image": images, "label": np.eye(5, dtype=np.float32)[labels], "mask": np.ones(16, np.float32)}
        for images, labels in zip(golden["images"], golden["labels"], strict=True)
    ]
    rows, state = run(config, vit_jax.load(goldens / f"{name}.npz"), batches)
    for found, key in zip(rows.T, ("losses", "gradient_norms", "learning_rates"), strict=True):
        np.testing.assert_allclose(found, golden[key], atol=1e-5, err_msg=key)
    for parameter, found in names.Published(state.params).items():
        if not parameter.endswith("key/bias"):  # its exact gradient is zero, so Adam amplifies rounding errors
            np.testing.assert_allclose(found, golden[f"after/{parameter}"], atol=1e-5, err_msg=parameter)


MESHES = [
    {"data": 8},
    {"fsdp": 8, "data": 1},
    {"tensor": 2, "data": 4},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 2, "data": 2, "sequence": 2},
]


@pytest.fixture(scope="module")
def whole(small_config):
    """Returns the result of 20 steps on one device, with dropout, drop path, flips, rotation and mixup."""
    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: first)
        return run(small_config())[0]


@pytest.mark.parametrize(
    "mesh", [pytest.param(mesh, marks=[] if "sequence" in mesh else pytest.mark.slow) for mesh in MESHES], ids=str
)
def test_sharded_equals_whole(config, whole, mesh):
    assert jax.device_count() == 8
    for axis, size in mesh.items():
        config.mesh[axis] = size
    sharded, state = run(config)
    np.testing.assert_allclose(sharded, whole, atol=1e-5)
    assert whole[-1, 0] < whole[0, 0]
    for leaf in (state.params["encoder"]["blocks"]["mlp"]["dense1"]["kernel"], state.opt_state[2].mu["head"]["kernel"]):
        # The axis `data` replicates parameters; the other axes split them.
        assert leaf.is_fully_replicated == (mesh == {"data": 8})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"accumulation_steps": 4, "mesh.data": 4, "mesh.tensor": 2}, marks=pytest.mark.slow),
        pytest.param({"accumulation_steps": 2, "mesh.data": 1, "mesh.fsdp": 8}, marks=pytest.mark.slow),
        pytest.param({"model.scan": False}, marks=pytest.mark.slow),
        pytest.param({"model.remat": "full"}, marks=pytest.mark.slow),
        pytest.param({"model.remat": "dots", "model.scan": False}, marks=pytest.mark.slow),
        pytest.param(
            {"model.remat": "offload", "optimizer.offload": True, "mesh.data": 2, "mesh.fsdp": 4},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_what_does_not_change_the_mathematics(config, whole, changes):
    """Accumulation, unrolling and rematerialisation do not change the result, with all kinds of randomness on."""
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = config[sections[0]] if sections else config
        section[name] = value
    found, _ = run(config)
    np.testing.assert_allclose(found, whole, atol=1e-5)


@pytest.mark.slow
def test_accumulation_counts_every_masked_row_once(config, batch):
    batch["mask"][:5] = 0
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = 2, 2, 2
    whole, _ = run(config, batches=[batch] * 3)
    config.accumulation_steps = 4
    parts, _ = run(config, batches=[batch] * 3)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    config.augmentation.mixup = 0.0
    masked, _ = run(config, batches=[batch] * 3)
    batch["image"][:5], batch["label"][:5] = 0, 1
    np.testing.assert_array_equal(masked, run(config, batches=[batch] * 3)[0])


def test_randomness_is_a_function_of_seed_and_step(config, batch):
    batches = [batch] * 3
    first, _ = run(config, batches=batches)
    np.testing.assert_array_equal(first, run(config, batches=batches)[0])
    assert first[0, 1] != first[1, 1]  # the learning rate of step 0 is 0, so only the random numbers differ
    model = vit_jax.create(**vars(config_lib.typed(config).model), seed=0)
    config.seed = 1
    assert first[0, 1] != run(config, model, batches)[0][0, 1]


def test_frozen_and_scaled_layers(plain, batch):
    """Patterns match the names of single layers, although the layers are stacked."""
    plain.optimizer.weight_decay = 0.1
    plain.optimizer.grad_clip_norm = 0.0
    plain.optimizer.freeze = ("encoderblock_0/", "^embedding/")
    plain.optimizer.learning_rate_scale = (("encoderblock_1/LayerNorm_0", 0.5), ("encoderblock_1/", 0.1))
    model = vit_jax.create(**vars(config_lib.typed(plain).model))
    model.head.kernel[...] = np.random.default_rng(0).normal(size=model.head.kernel.shape)
    before = names.Published(training.create_state(plain, model).params)
    _, state = run(plain, model, [batch])
    after = names.Published(state.params)
    plain.optimizer.freeze, plain.optimizer.learning_rate_scale = (), ()
    _, state = run(plain, model, [batch])
    free = names.Published(state.params)
    for name, start in before.items():
        if "encoderblock_0/" in name or name.startswith("embedding/"):
            np.testing.assert_array_equal(after[name], start)
            assert name.endswith("key/bias") or not np.array_equal(free[name], start)
        elif "encoderblock_1/" in name and not name.endswith("key/bias"):
            factor = 0.5 if "LayerNorm_0" in name else 0.1
            np.testing.assert_allclose(after[name] - start, factor * (free[name] - start), atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("freeze", ("nothing",), "'nothing', which finds no parameter"),
        ("freeze", ("(",), "no regular expression"),
        ("learning_rate_scale", (("embeding/", 0.1),), "'embeding/', which finds no parameter"),
    ],
)
def test_patterns_that_cannot_be_meant(config, key, value, message):
    config.optimizer[key] = value
    with pytest.raises(vit_jax.UserError, match=message):
        training.make_step(config, vit_jax.create(**vars(config_lib.typed(config).model)))


def test_weight_decay_is_on_kernels_and_multiplied_by_the_learning_rate(plain, batch):
    plain.schedule.name = "constant"
    model = vit_jax.create(**vars(config_lib.typed(plain).model))
    before = names.Published(training.create_state(plain, model).params)
    without = names.Published(run(plain, model, [batch])[1].params)
    plain.optimizer.weight_decay = 0.3
    decayed = names.Published(run(plain, model, [batch])[1].params)
    for name, start in before.items():
        expected = -1e-3 * 0.3 * start if name.endswith("/kernel") else np.zeros_like(start)
        np.testing.assert_allclose(decayed[name] - without[name], expected, atol=1e-7, err_msg=name)


def test_average(plain, batch):
    plain.optimizer.average = 0.75
    model = vit_jax.create(**vars(config_lib.typed(plain).model))
    _, state = run(plain, model, [batch])
    np.testing.assert_allclose(state.average["head"]["kernel"], 0.25 * state.params["head"]["kernel"], atol=1e-7)
    assert np.any(state.params["head"]["kernel"])  # the head starts at zero


@pytest.mark.parametrize("name", ["adam", pytest.param("sgd", marks=pytest.mark.slow)])
def test_first_moment_in_bfloat16(plain, batch, name):
    plain.optimizer.name, plain.optimizer.moment_dtype = name, "bfloat16"
    _, state = run(plain, batches=[batch])
    moments = state.opt_state[2].mu if name == "adam" else state.opt_state[2].trace
    assert {leaf.dtype.name for leaf in jax.tree.leaves(moments)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}


def test_sigmoid_is_summed_over_classes_and_averaged_over_examples(plain, batch):
    plain.task.loss, plain.model.head_bias = "sigmoid", -10.0
    rows, _ = run(plain, batches=[batch])
    # With a head of zeros every class has the logit -10, and the right class adds 10 to the loss.
    np.testing.assert_allclose(rows[0, 0], 4 * np.log1p(np.exp(-10)) + 10, rtol=1e-5)


def test_label_smoothing(config, batch):
    config.task.label_smoothing = 0.4
    config.model.head_bias = 0.0
    task = make_task(config_lib.typed(config).task)
    logits = np.array([[2.0, 0, 0, 0]])
    batch = {"image": logits, "label": np.array([[1.0, 0, 0, 0]]), "mask": np.ones(1, np.float32)}
    loss, _ = task.loss(lambda image, key=None: image, None, batch, None)
    log_probabilities = np.array([2, 0, 0, 0]) - np.log(np.exp(2) + 3)
    np.testing.assert_allclose(loss, -(0.7 * log_probabilities[0] + 0.1 * log_probabilities[1:].sum()), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", [0, 0.5, 1, 0.5 * (1 + np.cos(np.pi / 8)), 0.5]),
        ("linear", [0, 0.5, 1, 1 - 0.9 / 8, 0.55]),
        ("constant", [0, 0.5, 1, 1, 1]),
    ],
)
def test_schedules(name, expected):
    config = config_lib.default()
    config.total_steps, config.schedule.warmup_steps, config.optimizer.learning_rate = 10, 2, 1.0
    config.schedule.name = name
    if name == "linear":
        config.schedule.end_learning_rate = 0.1
    schedule = training.schedule.make_schedule(training.resolve(config))
    np.testing.assert_allclose([schedule(step) for step in (0, 1, 2, 3, 6)], expected, atol=1e-6)


def test_state_is_created_sharded_from_an_abstract_model(config):
    """Each device draws the values of its own shard, and they equal those of a model that is not sharded."""
    from flax import nnx

    config.mesh.data, config.mesh.fsdp = 1, 8
    keywords = vars(config_lib.typed(config).model)
    abstract = nnx.eval_shape(lambda: vit_jax.create(**keywords))
    state = training.create_state(config, abstract)
    kernel = state.params["encoder"]["blocks"]["mlp"]["dense1"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "fsdp", "tensor")
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 2, 32)}
    config.mesh.data, config.mesh.fsdp = 8, 1
    whole = training.create_state(config, abstract)
    jax.tree.map(np.testing.assert_array_equal, state.params, whole.params)


def test_the_models_own_arrays_survive(plain, batch):
    model = vit_jax.create(**vars(config_lib.typed(plain).model))
    run(plain, model, [batch])
    assert np.isfinite(model.positions.table[...]).all()


@pytest.mark.slow
def test_labels_as_numbers_and_a_missing_mask(small):
    """An integer label means the same as its one-hot row, and without a mask all rows count.

    A label that is not a class makes the loss NaN.
    """
    batch = next(iter(data.batches(small(), rows=range(16))))
    numbers = batch["label"]
    one_hot = np.eye(4, dtype=np.float32)[numbers]

    def loss(**changed):
        model = vit_jax.create(**vars(training.resolve(small()).model) | {"num_classes": 4})
        state, step = training.create_state(small(), model), training.make_step(small(), model)
        return float(step(state, {"image": batch["image"], **changed})[1]["loss"])

    expected = loss(label=one_hot, mask=batch["mask"])
    assert loss(label=numbers) == loss(label=numbers.astype(np.uint8)) == loss(label=one_hot) == expected
    wrong = np.where(np.arange(16) == 3, 4, numbers)
    assert np.isnan(loss(label=wrong))
    assert np.isfinite(loss(label=wrong, mask=(np.arange(16) != 3).astype(np.float32)))
    with pytest.raises(UserError, match=r"label has the shape .16, 3..*give the weights of the classes .16, 4."):
        loss(label=np.zeros((16, 3), np.float32))
    with pytest.raises(UserError, match="the type float32"):
        loss(label=numbers.astype(np.float32))


def test_a_state_becomes_a_model(small):
    config = training.resolve(small({"optimizer.average": 0.5}))
    model = vit_jax.create(**vars(config.model) | {"num_classes": 4})
    state, step = training.create_state(config, model), training.make_step(config, model)
    batch = next(iter(data.batches(config, rows=range(16))))
    state, _ = step(state, batch)
    made = training.to_model(model, state)
    average = jax.tree.map(np.asarray, state.average)
    step(state, batch)  # deletes the buffers of `state`
    for name, value in names.Published(functional.split(made)[1]).items():
        np.testing.assert_array_equal(value, names.Published(average)[name])
    assert made(batch["image"]).shape == (16, 4) and {"TrainState", "to_model", "make_step"} <= set(dir(training))
