"""Distillation: its loss against NumPy, a teacher that does not change, and what does not fit."""

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import vit_jax
from helpers.folders import lines
from helpers.models import drawn
from vit_jax import command_line, sharding, training
from vit_jax.checkpoints import names
from vit_jax.errors import UserError
from vit_jax.evaluation.judge import judge
from vit_jax.models import flops, variants
from vit_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.functional import flatten, of_model, split
from vit_jax.planning import compiling, plans, slices
from vit_jax.tasks import make_task
from vit_jax.tasks.distillation import Distillation, teacher_logits
from vit_jax.training import work

CLASSES = ("0", "1", "2", "3")
TINY = {"width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2, "patch_size": 4}


def saved(path, class_names=CLASSES, size=16, **keywords):
    """Returns the path of a teacher with random weights, which takes larger images than the student of small.py."""
    arch = variants.named("Ti/4", **{**TINY, "num_classes": 4, "image_size": size, **keywords})
    model = drawn(abstract(arch, Preprocessing((size, size), mean=IMAGENET_MEAN, std=IMAGENET_STD), class_names))
    vit_jax.save(model, path)
    return str(path)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("teacher") / "teacher.npz")


def distilling(config, teacher):
    config.task.name, config.task.teacher = "distillation", teacher
    config.model.distilled, config.model.registers = True, 1
    return config


@pytest.fixture
def distilled(plain, teacher):
    return distilling(plain, teacher)


def student(**keywords):
    return drawn(abstract(variants.named("Ti/4", **{**TINY, "num_classes": 4, "image_size": 8, **keywords})), seed=1)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("size", [pytest.param(16, marks=pytest.mark.slow), 4])
def test_the_teacher_sees_the_students_images_in_its_own_form(tmp_path, batch, size):
    """Compares with Pillow's resizing, which also widens its filter if images become smaller."""
    model, teacher = student(), vit_jax.load(saved(tmp_path / "model.npz", size=size))
    found = teacher_logits(teacher, model.preprocessing, model.preprocessing.normalize(batch["image"]))
    channels = [
        [np.asarray(Image.fromarray(image[..., c].astype(np.float32)).resize((size, size), 2)) for c in range(3)]
        for image in batch["image"]
    ]
    pixels = np.moveaxis(np.array(channels), 1, -1)
    expected = teacher(((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(("options", "loss"), [({"distilled": True, "registers": 1}, "softmax"), ({}, "sigmoid")])
def test_the_loss(config, teacher, batch, options, loss):
    """Equation 3 of 2012.12877, by NumPy from the tokens of the model; the labels are smoothed, the teacher's not.

    No gradient reaches the teacher.
    """
    smoothing = 0.1 if loss == "softmax" else 0.0
    config.task.loss, config.task.label_smoothing = loss, smoothing
    task = make_task(training.resolve(distilling(config, teacher)).task)
    model, master = student(**options), vit_jax.load(teacher)
    labels = 0.7 * batch["label"] + 0.3 * batch["label"][::-1]
    mask = np.arange(16) % 3 > 0
    images = model.preprocessing.normalize(batch["image"])
    given = {"image": images, "label": labels, "mask": mask.astype(np.float32)}
    # Noise looks alike to a random model, so its biases are chosen such that each class is predicted for some images.
    logits = jax.jit(teacher_logits, static_argnums=1)(master, model.preprocessing, images)
    master.head.bias[...] -= logits.mean(axis=0)
    bind, _ = split(nnx.eval_shape(lambda: task.modules(model.arch, nnx.Rngs(0))))

    def taught_by(own, batch):
        return task.loss(model, bind(own), batch, None)

    values, gradients = jax.jit(jax.value_and_grad(taught_by, has_aux=True))({"teacher": split(master)[1]}, given)
    found, metrics = values
    assert not any(np.any(gradient) for gradient in jax.tree.leaves(gradients))

    tokens = np.asarray(jax.jit(lambda model, images: model.encode(images))(model, images), np.float64)
    layers = [model.head, model.head_dist] if model.arch.distilled else [model.head]
    heads = [tokens[:, i] @ np.asarray(layer.kernel) + np.asarray(layer.bias) for i, layer in enumerate(layers)]
    taught = np.asarray(logits - logits.mean(axis=0)).argmax(-1)
    if loss == "softmax":
        smooth = labels * (1 - smoothing) + smoothing / 4
        ours, theirs = -(smooth * log_softmax(heads[0])).sum(-1), -log_softmax(heads[-1])[np.arange(16), taught]
    else:
        ours, theirs = (
            np.logaddexp(0, h).sum(-1) - (h * t).sum(-1)
            for h, t in zip((heads[0], heads[-1]), (labels, np.eye(4)[taught]), strict=True)
        )
    expected = {
        "label_loss": ours[mask].mean(),
        "teacher_loss": theirs[mask].mean(),
        "agreement": (np.mean(heads, axis=0).argmax(-1) == taught)[mask].mean(),
    }
    assert metrics.keys() == expected.keys() and len(set(taught[mask])) > 1
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(found, (expected["label_loss"] + expected["teacher_loss"]) / 2, rtol=1e-4)


def test_only_the_student_learns(distilled, teacher, batch):
    """The teacher has the file's values after steps, and neither moments nor averages."""
    distilled.optimizer.average, distilled.optimizer.weight_decay = 0.9, 0.1
    model = training.model_of(training.resolve(distilled))
    state, step = training.create_state(distilled, model), training.make_step(distilled, model)
    before = jax.tree.map(np.asarray, state.params)
    for _ in range(2):
        state, metrics = step(state, batch)
    assert {"loss", "label_loss", "teacher_loss", "agreement", "gradient_norm", "learning_rate"} == metrics.keys()
    expected = flatten(split(vit_jax.load(teacher))[1])
    found = flatten(state.params["task"]["teacher"])
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)
    now = names.Published(of_model(state.params))
    moved = {name for name, value in names.Published(of_model(before)).items() if not np.array_equal(now[name], value)}
    assert {"head/kernel", "vit_jax/head_dist/kernel", "cls", "vit_jax/registers"} <= moved
    assert "task" not in state.average
    paths = [sharding.path_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(state.opt_state)[0]]
    assert any("head_dist" in path for path in paths) and not any("teacher" in path for path in paths)
    saved_model = training.to_model(model, state)
    assert not hasattr(saved_model, "task") and saved_model.arch.distilled


@pytest.mark.slow
def test_one_device_and_several_agree(plain, teacher, batch):
    """With dropout and mixup, in two micro-batches; the teacher is split as a student of its kind is."""
    config = distilling(plain, teacher)
    config.model.dropout, config.augmentation.mixup, config.accumulation_steps = 0.1, 0.2, 2
    found = []
    for devices, sizes in ((jax.devices()[:1], {}), (jax.devices(), {"data": 2, "fsdp": 2, "tensor": 2})):
        for axis, size in sizes.items():
            config.mesh[axis] = size
        model = training.model_of(training.resolve(config))
        mesh = sharding.make_mesh(training.resolve(config).mesh, devices)
        state, step = training.create_state(config, model, mesh=mesh), training.make_step(config, model, mesh)
        for _ in range(2):
            state, metrics = step(state, batch)
        found.append((jax.device_get(metrics), flatten(jax.device_get(of_model(state.params)))))
    kernel = state.params["task"]["teacher"]["encoder"]["blocks"]["mlp"]["dense1"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "fsdp", "tensor")
    for name, value in found[0][0].items():
        np.testing.assert_allclose(found[1][0][name], value, rtol=1e-4, err_msg=name)
    for path, value in found[0][1].items():
        np.testing.assert_allclose(found[1][1][path], value, atol=2e-4, err_msg=path)


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_weights(small, tmp_path):
    """The checkpoint has the teacher and model.npz has not; the weights are the same as without an interruption."""
    path = tmp_path / "teacher.npz"
    saved(path)
    config, folder = distilling(small(), str(path)), tmp_path / "run"
    training.train(config, folder)
    first = lines(folder)
    assert {"train/agreement", "train/teacher_loss", "test/accuracy", "test/loss"} <= set(first[-1])
    expected = np.load(folder / "model.npz")
    assert "vit_jax/head_dist/kernel" in expected.files and not any("teacher" in name for name in expected.files)
    (folder / "checkpoints" / "12").rename(tmp_path / "12")
    (folder / "model.npz").rename(tmp_path / "model.npz")

    content = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match=r"config.task.teacher can't be read: .*teacher.npz") as error:
        training.train(config, folder)
    assert "\n" not in str(error.value)
    path.write_bytes(content)
    training.train(config, folder)
    resumed, before = np.load(folder / "model.npz"), np.load(tmp_path / "model.npz")
    assert resumed.files == before.files
    for name in before.files:
        np.testing.assert_array_equal(resumed[name], before[name])
    for one, other in zip(first, lines(folder), strict=True):
        assert all(one[key] == other[key] for key in one if key.startswith("test/") or key == "train/agreement")

    # Its model is judged without the teacher.
    config.task.teacher = None
    ((_, measures),) = judge([str(folder)], config)
    assert measures["test"]["accuracy"] == first[-1]["test/accuracy"]


def test_a_trained_student_is_judged_without_a_teacher(small, tmp_path):
    config = distilling(small(), None)
    vit_jax.save(student(distilled=True, registers=1), tmp_path / "model.npz")
    ((_, measures),) = judge([str(tmp_path / "model.npz")], config)
    assert measures["test"].keys() == {"accuracy", "loss", "examples"}


def _begin(config):
    """Does what a run does before its first step, without opening its folder."""
    resolved = training.resolve(config)
    make_task(resolved.task).check(resolved)
    training.create_state(config, training.model_of(resolved))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class_names": ("a", "b", "c", "d")}, "calls the class 0 'a', and the config's data calls it '0'; name a te"),
        ({"num_classes": 5, "class_names": ()}, "has 5 classes, and the model that learns has 4; name a teacher of"),
        ({"num_classes": 0, "class_names": ()}, "has no head; name a model that has one"),
    ],
)
def test_a_teacher_of_other_classes(distilled, tmp_path, changes, said):
    distilled.task.teacher = saved(tmp_path / "model.npz", **changes)
    with pytest.raises(UserError, match=rf"config.task.teacher=\S+model.npz {said}") as error:
        _begin(distilled)
    assert "\n" not in str(error.value)


def test_a_teacher_that_is_not_there_or_not_trained(distilled, tmp_path):
    vit_jax.save(vit_jax.create("Ti/4", **TINY | {"num_classes": 4, "image_size": 8}), tmp_path / "new.npz")
    for path, said in (
        (None, "config.task.name=distillation needs a teacher; set config.task.teacher"),
        (str(tmp_path / "none.npz"), r"config.task.teacher can't be read: .*none.npz"),
    ):
        distilled.task.teacher = path
        with pytest.raises(UserError, match=said) as error:
            _begin(distilled)
        assert "\n" not in str(error.value)
    distilled.task.teacher = str(tmp_path / "new.npz")
    with pytest.raises(UserError, match="new.npz has a head of zeros, so it predicts no classes"):
        _begin(distilled)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task.teacher": "x"}, "nothing reads config.task.teacher='x': it needs config.task.name to be distillation"),
        ({"model.distilled": True}, "distilled=True needs pool=tok and registers=1"),
        ({"model.distilled": True, "model.registers": 1, "model.pool": "gap"}, "distilled=True needs pool=tok"),
        ({"model.distilled": True, "model.name": "Mixer-S/4"}, "model.distilled=True: Mixer-S/4 has no distilled"),
        ({"task.name": "distillation", "model.num_classes": 0}, "config.model.num_classes is 0"),
        ({"task.name": "distillation", "data.max_labels": 0}, "config.data.max_labels is 0"),
    ],
)
def test_keys_that_do_not_fit(small, changes, said):
    config = small(changes)
    if "Mixer" in config.model.name:
        config.model.num_heads = None
    with pytest.raises(UserError, match=said):
        _begin(config)


def test_the_operations_of_the_teacher_count(plain, tmp_path):
    """With the compiler's count of the step; what is no product or convolution is in the 4 %."""
    sizes = {"width": 192, "mlp_dim": 768, "num_heads": 3, "image_size": 64}
    plain.model.update({**sizes, "patch_size": 16, "scan": False})
    large = {"width": 384, "mlp_dim": 1536, "num_heads": 6, "patch_size": 16}
    plain.task.name, plain.task.teacher = "distillation", saved(tmp_path / "teacher.npz", size=64, depth=3, **large)
    config = training.resolve(plain)
    model = training.model_of(config)
    mesh = sharding.make_mesh(config.mesh)
    state, batch = training.state.abstract_state(config, model, mesh), compiling.abstract_batch(config, model, mesh)
    counted = work.flops_of_step(config, model, 16)
    assert counted > 1.5 * 3 * flops.forward(model, 16)  # so that the teacher's part is seen
    lowered = training.make_step(config, model, mesh).lower(state, batch)
    assert counted == pytest.approx(lowered.cost_analysis()["flops"], rel=0.04)


def test_a_plan_reads_no_weights(small, teacher, monkeypatch):
    monkeypatch.setattr(Distillation, "given", lambda *_: pytest.fail("the teacher's weights are read"))
    config = distilling(small(), teacher)
    plan, _ = plans.make_plan(config, slices.parse("h100:8", 1))
    alone, _ = plans.make_plan(_alone(small()), slices.parse("h100:8", 1))
    assert plan.parameters == alone.parameters and plan.collectives == alone.collectives
    assert plan.flops_per_step == alone.flops_per_step + flops.forward(vit_jax.load(teacher), 16)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(split(vit_jax.load(teacher))[1]))
    assert plan.hbm_per_device.arguments == alone.hbm_per_device.arguments + size


def _alone(config):
    config.model.distilled, config.model.registers = True, 1
    return config


def test_recipe(tmp_path, teacher):
    """The recipe for the digits with a teacher of ten classes has a student of two heads."""
    overrides = [("task.teacher", saved(tmp_path / "t.npz", tuple(map(str, range(10))), num_classes=10))]
    config = training.resolve(command_line.load_config("configs/deit.py:digits,distilled", overrides))
    make_task(config.task).check(config)
    model = training.model_of(config)
    assert model.arch.distilled and model.arch.specials == 2
    training.state.abstract_state(config, model, sharding.make_mesh(config.mesh))
