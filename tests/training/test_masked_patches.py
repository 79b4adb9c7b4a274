"""Masked patch prediction: what is corrupted, what is predicted, and a run that other runs start from."""

import functools
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_jax
from helpers import evaluations
from helpers.folders import lines, numbers, refused
from helpers.models import drawn
from vit_jax import config as config_lib
from vit_jax import data, training
from vit_jax.checkpoints import names
from vit_jax.models import flops, variants
from vit_jax.models.architecture import Preprocessing
from vit_jax.randomness import fold_in, row_keys
from vit_jax.tasks import make_task
from vit_jax.tasks.masked_patches import colours, corruption, patches_of
from vit_jax.training import start, work

PLAIN = {
    "task.name": "masked_patches", "data.max_labels": 0, "model.image_size": 16, "model.depth": 1, "model.dropout": 0.0,
    "model.drop_path": 0.0, "optimizer.average": 0.0, "augmentation.mixup": 0.0, "augmentation.flip": False,
    "augmentation.rotate_degrees": 0.0,
}  # fmt: skip
LONG = {"total_steps": 40, "checkpoint.every_steps": 20, "evaluations.test.every_steps": 20}
corrupted = jax.jit(corruption, static_argnums=(1, 2))
TARGETS = ["mean_colour", "downsized", "pixels"]


def task(**settings):
    return make_task(config_lib.Task(name="masked_patches", **settings))


@pytest.fixture
def masked(small):
    """Returns a function that makes the config of a small run: 16 patches an image, of which 8 are corrupted."""
    return lambda changes=(): small({**PLAIN, **dict(changes)})


def keys(count, seed=0):
    return row_keys(jax.random.key(seed), count)


@pytest.mark.parametrize(("patches", "count"), [(9, 4), (2, 1), (6, 6)])
def test_which_patches_are_corrupted_and_how(patches, count):
    """Exactly `count`, each as often; of these 80 % are masked, 10 % replaced by any other patch, and the rest stay."""
    rows = 4000
    at, source, masked = map(np.asarray, corrupted(keys(rows), patches, count))
    assert at.shape == (rows, count) and source.shape == masked.shape == (rows, patches)
    chosen = np.zeros((rows, patches), bool)
    chosen[np.arange(rows)[:, None], at] = True
    assert (chosen.sum(axis=1) == count).all()
    replaced = source != np.arange(patches)
    assert not ((masked | replaced) & ~chosen).any() and not (masked & replaced).any()
    four = 4 * np.sqrt(0.25 / (rows * count))  # more than four standard deviations of each share
    np.testing.assert_allclose(masked.sum() / chosen.sum(), 0.8, atol=four)
    np.testing.assert_allclose(replaced.sum() / chosen.sum(), 0.1, atol=four)
    np.testing.assert_allclose(chosen.mean(axis=0), count / patches, atol=4 * np.sqrt(0.25 / rows))
    steps = ((source - np.arange(patches)) % patches)[replaced]
    shares = np.bincount(steps, minlength=patches)[1:] / len(steps)
    np.testing.assert_allclose(shares, 1 / (patches - 1), atol=4 * np.sqrt(0.25 / len(steps)))


def test_what_is_corrupted_depends_on_the_key_of_the_row_alone():
    whole = corrupted(keys(6), 16, 8)
    for one, other in zip(corrupted(keys(6)[2:4], 16, 8), whole, strict=True):
        np.testing.assert_array_equal(one, other[2:4])
    assert (np.asarray(corrupted(keys(6, seed=1), 16, 8).at) != np.asarray(whole.at)).any()


def numpy_colours(image, grid, cells):
    """Returns the colours of an image's patches, (patches, cells * cells), by loops over the definition."""
    height, width_px = image.shape[0] // grid[0], image.shape[1] // grid[1]
    h, w = height // cells, width_px // cells
    found = []
    for row, column in np.ndindex(*grid):
        patch = image[row * height : (row + 1) * height, column * width_px : (column + 1) * width_px]
        means = [patch[i * h : (i + 1) * h, j * w : (j + 1) * w].mean((0, 1)) for i, j in np.ndindex(cells, cells)]
        found.append([int(r // 32) * 64 + int(g // 32) * 8 + int(b // 32) for r, g, b in means])
    return np.array(found)


@pytest.mark.parametrize("cells", [1, 4])
def test_colours(cells):
    """Those of the definition, also of pixels that were normalised, and where a mean is just at a level's limit."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 16, 24, 3), np.uint8)
    images[1::2] = rng.integers(0, 9, (20, 1, 1, 3)) * 31.9  # of one colour each, most just below a limit
    images[10:] //= rng.integers(1, 5, (30, 1, 1, 3), np.uint8)
    images[0], images[2] = 255, np.where(np.arange(24)[:, None] % 2, 31, 33)  # the mean is 32
    expected = np.array([numpy_colours(image, (2, 3), cells) for image in images])
    assert expected.shape == (40, 6, cells**2) and len(np.unique(expected)) > 40 and expected.max() == 511
    about = Preprocessing((16, 24), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    for given in (images, about.normalize(images)):
        np.testing.assert_array_equal(colours(about.to_pixels(given), (2, 3), cells), expected)


def test_the_values_of_patches():
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 3))
    found = np.asarray(patches_of(images, (3, 2)))
    for row, column in np.ndindex(3, 2):
        patch = images[:, row * 2 : row * 2 + 2, column * 4 : column * 4 + 4]
        np.testing.assert_allclose(found[:, row * 2 + column], patch.reshape(2, -1), rtol=1e-6)


@pytest.mark.parametrize(
    ("variant", "target"),
    [
        *(("vit", target) for target in TARGETS if target != "downsized"),
        pytest.param("vit", "downsized", marks=pytest.mark.slow),
        pytest.param("hybrid", "downsized", marks=pytest.mark.slow),
        pytest.param("mixer", "pixels", marks=pytest.mark.slow),
    ],
)
def test_measures_are_those_of_the_definition(variant, target):
    """The measures of each image by NumPy; the encoder returns the corrupted patches as they are."""
    arch = {
        "vit": lambda: variants.named("Ti/16", patch_size=(8, 4), image_size=(16, 24), num_classes=0),
        "hybrid": lambda: variants.named("R+Ti/16", patch_size=(2, 1), image_size=(16, 24), num_classes=0),
        "mixer": lambda: variants.named("Mixer-S/16", patch_size=(8, 4), image_size=(16, 24), num_classes=0),
    }[variant]()
    assert arch.grid == (2, 6)
    rng, patches, count = np.random.default_rng(0), 12, 5  # round(0.45 * 12)
    embedded = rng.normal(size=(3, patches, arch.width)).astype(np.float32)
    images = rng.integers(0, 256, (3, 16, 24, 3), np.uint8)
    about = Preprocessing((16, 24), std=(0.25, 0.5, 0.75))
    model = SimpleNamespace(
        arch=arch, preprocessing=about, encode_patches=lambda x, change, key: change(jnp.asarray(embedded[: len(x)]))
    )
    learned = task(target=target, masked_share=0.45)
    own = drawn(nnx.eval_shape(lambda: learned.modules(arch, nnx.Rngs(0))))
    batch = {"image": images, "mask": jnp.array([1.0, 0.0, 1.0])}
    measures = jax.jit(lambda images, keys: learned.measures(model, own, {"image": images}, keys))
    found = measures(images, keys(3))

    at, source, masked = map(np.asarray, corrupted(fold_in(keys(3), "masked_patches"), patches, count))
    kernel, bias, mask = (np.asarray(x[...], np.float64) for x in (own.head.kernel, own.head.bias, own.mask))
    loss, accuracy = np.zeros((3, count)), np.zeros((3, count))
    for row, number in np.ndindex(3, count):
        place = at[row, number]
        seen = mask if masked[row, place] else embedded[row, source[row, place]]
        predicted = seen @ kernel + bias
        if target == "pixels":
            y, x = divmod(place, 6)
            patch = about.normalize(images)[row, y * 8 : y * 8 + 8, x * 4 : x * 4 + 4]
            loss[row, number] = np.mean((predicted - np.asarray(patch).reshape(-1)) ** 2)
            continue
        cells = {"mean_colour": 1, "downsized": 4}[target]
        right = numpy_colours(images[row], (2, 6), cells)[place]
        logits = predicted.reshape(cells**2, 512)
        loss[row, number] = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(cells**2), right])
        accuracy[row, number] = np.mean(logits.argmax(axis=1) == right)
    np.testing.assert_allclose(found["loss"], loss.mean(axis=1), rtol=1e-5)
    assert set(found) == ({"loss"} if target == "pixels" else {"loss", "accuracy"})
    if target != "pixels":
        np.testing.assert_allclose(found["accuracy"], accuracy.mean(axis=1), rtol=1e-6)

    fewer = measures(images[:2], keys(3)[:2])
    for name in found:
        np.testing.assert_allclose(fewer[name], found[name][:2], rtol=1e-6)
    total, metrics = jax.jit(lambda batch, keys: learned.loss(model, own, batch, keys))(batch, keys(3))
    np.testing.assert_allclose(total, loss.mean(axis=1)[[0, 2]].mean(), rtol=1e-5)  # of the rows that count
    assert set(metrics) == set(found) - {"loss"}


@pytest.fixture(scope="module")
def source(small, tmp_path_factory):
    """Returns the folder of a run without labels."""
    folder = tmp_path_factory.mktemp("masked") / "run"
    training.train(small({**PLAIN, **LONG}), folder)
    return folder


@pytest.mark.slow
def test_a_run(source):
    """The loss falls, the evaluation tells the task's measures, and the model has neither head nor decoder."""
    found = lines(source)
    assert found[-1]["train/loss"] < 0.8 * found[0]["train/loss"]
    assert {"train/accuracy", "test/accuracy", "test/loss"} <= set(found[-1])
    with np.load(source / "model.npz") as file:
        assert not [name for name in file.files if "task" in name or "head" in name or "mask" in name]
    model = vit_jax.load(source)
    assert model.arch.num_classes == 0 and model.class_names == ()
    assert model.features(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 16)


@pytest.mark.parametrize(("target", "outputs"), [("mean_colour", 512), ("downsized", 16 * 512), ("pixels", 4 * 4 * 3)])
@pytest.mark.parametrize("scan", [True, False])
def test_all_tokens_and_the_decoder_count(masked, target, outputs, scan):
    """The operations of a step are those of all tokens, as in a model whose head reads them all, and of the decoder."""
    changes = {"model.scan": scan, "task.target": target, "model.depth": 2}
    config = training.resolve(masked(changes))
    every = training.model_of(training.resolve(masked({**changes, "model.pool": "gap", "model.class_token": True})))
    model, decoder = training.model_of(config), 2 * 8 * config.model.width * outputs
    assert work.flops_of_step(config, model, 5) == flops.step(every, 5) + 5 * 3 * decoder
    assert flops.step(model, 5) < flops.step(every, 5) or scan


def test_its_own_parameters_are_in_the_state(masked):
    config = masked()
    state = training.create_state(config, training.model_of(training.resolve(config)))
    assert jax.tree.map(jnp.shape, state.params["task"]) == {
        "head": {"kernel": (16, 512), "bias": (512,)},
        "mask": (16,),
    }
    assert float(jnp.abs(state.params["task"]["mask"]).max()) > 0 and "head" not in state.params


def test_classification_starts_from_its_encoder(small, source):
    config = small({"init_from": str(source), "model.image_size": 16, "model.depth": 1})
    model = training.model_of(training.resolve(config))
    params = start.initial_params(config_lib.typed(config), model)
    old, new = dict(np.load(source / "model.npz")), names.Published(params)
    assert set(new) - set(old) == {"head/kernel", "head/bias"} and new["head/kernel"].shape == (16, 4)
    assert model.class_names == ("0", "1", "2", "3")
    for name in old:
        np.testing.assert_array_equal(new[name], old[name], err_msg=name)


@pytest.mark.slow
def test_labels_change_nothing(masked, source, tmp_path):
    training.train(masked({**LONG, "data.max_labels": 1}), tmp_path / "labelled")
    assert numbers(tmp_path / "labelled") == numbers(source)


@pytest.mark.slow
def test_resumed_equals_uninterrupted(small, source, tmp_path):
    shutil.copytree(source, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "40")
    (tmp_path / "run" / "model.npz").unlink()
    training.train(small({**PLAIN, **LONG}), tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(source)
    first, second = np.load(source / "model.npz"), np.load(tmp_path / "run" / "model.npz")
    assert first.files == second.files
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.slow
def test_sharded_and_accumulated_equal_whole(masked):
    results = []
    for mesh, accumulation in ((("data", 8),), 1), ((("data", 2), ("tensor", 2), ("sequence", 2)), 4):
        config = masked({"accumulation_steps": accumulation, "model.dropout": 0.1})
        for axis, size in mesh:
            config.mesh[axis] = size
        model = training.model_of(training.resolve(config))
        state, step = training.create_state(config, model), training.make_step(config, model)
        batch = next(data.batches(config, rows=range(16)))
        for _ in range(2):  # two steps, because the learning rate of the first is 0
            state, metrics = step(state, batch)
        results.append((np.asarray(state.params["task"]["mask"]), metrics))
    np.testing.assert_allclose(results[0][0], results[1][0], atol=5e-6)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(results[0][1][name], results[1][1][name], rtol=1e-5)


@pytest.mark.slow
def test_evaluations_depend_on_the_example_alone(small):
    """The measures are the same with batches of another size."""
    sizes = {f"of_{size}": {"batch_size": size} for size in (8, 16)}
    config = evaluations.config(small, PLAIN.items(), **sizes)
    model = training.model_of(training.resolve(config))
    params = training.create_state(config, model).params
    found = evaluations.measures(config, model=model, params=params)
    assert found["of_8"]["examples"] == found["of_16"]["examples"] == 16
    np.testing.assert_allclose(found["of_8"]["loss"], found["of_16"]["loss"], rtol=1e-6)
    assert found["of_8"]["accuracy"] == found["of_16"]["accuracy"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model.name": "BiT-R50x1"},
            "the task masked_patches needs a model with patches, and the family bit has none",
        ),
        ({"task.target": "downsized", "model.patch_size": 2}, "cuts a patch into 4x4 parts, and the model's have 2x2"),
        ({"task.masked_share": 0.03}, "config.task.masked_share=0.03 of 4x4 patches is 0"),
        ({"task.masked_share": 1.0, "model.image_size": 4}, "of 1x1 patches is 1, and at least one must be predicted"),
        ({"model.num_classes": 4}, "nothing reads config.model.num_classes=4: the task masked_patches trains no head"),
        (
            {"augmentation.mixup": 0.2, "data.max_labels": 1},
            "config.augmentation.mixup mixes labels, and the task has none",
        ),
        ({"augmentation.cutmix": 1.0}, "config.augmentation.cutmix mixes labels, and the task"),
        ({"data.labels_per_class": 2}, "nothing reads config.data.labels_per_class=2: it needs config.data.max_labels"),
        ({"task.loss": "sigmoid"}, "nothing reads config.task.loss='sigmoid': it needs config.task.name to be"),
        (
            {"task.label_smoothing": 0.1},
            "nothing reads config.task.label_smoothing=0.1: it needs config.task.name to be",
        ),
        (
            {"task.name": "classification", "data.max_labels": 1, "task.target": "pixels"},
            "needs config.task.name to be masked_patches",
        ),
        ({"task.name": "classification", "model.num_classes": 0}, "config.model.num_classes is 0; it must be above 0"),
        ({"evaluations.test.more_measures": ("top5",)}, "because the task masked_patches does not classify"),
    ],
)
def test_what_is_refused(masked, tmp_path, changes, said):
    config = masked()
    if changes.get("model.name"):
        for key in ("width", "depth", "mlp_dim", "num_heads"):
            config.model[key] = None
        config.model.dropout = config.model.drop_path = None
    for key, value in changes.items():
        *sections, name = key.split(".")
        functools.reduce(getattr, sections, config)[name] = value
    refused(config, tmp_path / "run", said)
