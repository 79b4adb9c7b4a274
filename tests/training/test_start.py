"""Fine-tuning from other people's files: settings that the config does not set are taken from the file."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from etils import epath

import vit_jax
from vit_jax import UserError, training
from vit_jax import config as config_lib
from vit_jax.checkpoints import fetch, names
from vit_jax.data import decode
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.functional import split
from vit_jax.training import start

VIT = {"name": "Ti/8", "width": 32, "depth": 2, "mlp_dim": 64, "num_heads": 4, "image_size": 16}
CASES = {
    "timm_vit.safetensors": VIT,
    "timm_vit_reg4_layerscale_qknorm.safetensors": VIT,
    "timm_vit_map.safetensors": VIT,
    "hf_vit.safetensors": VIT,
    "hf_dinov2.safetensors": {**VIT, "patch_size": 14, "image_size": 28},
    "hf_siglip_vision.safetensors": VIT,
    "big_vision_map.npz": {**VIT, "num_heads": 2, "image_size": (32, 48)},
    "big_vision_tok_scan.npz": {**VIT, "width": 24, "depth": 3, "mlp_dim": 48, "num_heads": 2},
    "hybrid_r_stem.npz": {
        **VIT, "name": "R+Ti/16", "stages": (1,), "stem_width": 32, "patch_size": 1, "depth": 1, "num_heads": 2,
    },
    "mixer.npz": {
        "name": "Mixer-S/8", "width": 32, "depth": 2, "tokens_mlp_dim": 16, "mlp_dim": 64, "image_size": 32,
    },
    "bit_paper.npz": {"name": "BiT-R50x1", "stages": (1, 1), "stem_width": 32, "image_size": 32},
}  # fmt: skip

QUICK = ("big_vision_tok_scan.npz",)


def make(init_from, **model):
    config = config_lib.default()
    config.total_steps, config.global_batch_size, config.log_steps = 2, 8, 1
    config.init_from, config.log.tensorboard = str(init_from), False
    for key, value in model.items():
        config.model[key] = value
    return config


@pytest.mark.parametrize(
    "file", [file if file in QUICK else pytest.param(file, marks=pytest.mark.slow) for file in CASES]
)
def test_from_a_file(goldens, file, tmp_path):
    """All the weights except the head and the position embeddings come from the file.

    The run's own model.npz gives the same model.
    """
    loaded = vit_jax.load(goldens / file, **({"num_heads": 4} if "safetensors" in file else {}), **image_size(file))
    config = make(goldens / file, **CASES[file])
    vit_jax.train(config, tmp_path / "run")
    model = start.model_of(config_lib.typed(config), epath.Path(tmp_path / "none"))
    params = start.initial_params(config_lib.typed(config), model)
    before, after = names.Published(split(loaded)[1]), names.Published(params)
    for name in after:
        if "pos_embedding" not in name and not name.startswith("head/"):
            np.testing.assert_array_equal(after[name], before[name], name)
    assert not np.any(after["head/kernel"])
    ours, theirs = (json.loads(json.dumps(vars(m.arch))) for m in (vit_jax.load(tmp_path / "run"), loaded))
    free = {"image_size", "num_classes", "pre_logits"}
    assert {k: v for k, v in ours.items() if k not in free} == {k: v for k, v in theirs.items() if k not in free}


def image_size(file):
    return {"image_size": (32, 48)} if file == "big_vision_map.npz" else {}


def test_mean_and_deviation_are_the_files(goldens, tmp_path):
    config = config_lib.typed(make(goldens / "hf_dinov2.safetensors", **CASES["hf_dinov2.safetensors"]))
    preprocessing = start.model_of(config, epath.Path(tmp_path)).preprocessing
    assert (preprocessing.size, preprocessing.mean) == ((28, 28), (0.485, 0.456, 0.406))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Preprocessing((32, 32), 35, interpolation="bicubic")),
        ({"shorter_side": 0}, Preprocessing((32, 32), interpolation="bicubic")),
        ({"shorter_side": 40, "interpolation": "box"}, Preprocessing((32, 32), 40, interpolation="box")),
        (
            {"keep_aspect": False, "mean": (0.0, 0.25, 0.5), "std": (1.0, 0.5, 0.25)},
            Preprocessing((32, 32), 35, (0.0, 0.25, 0.5), (1.0, 0.5, 0.25), "bicubic", keep_aspect=False),
        ),
    ],
)
def test_preprocessing_is_the_configs_then_the_files(goldens, tmp_path, said, expected):
    """The file is from timm, whose default for this model is to resize to 35 pixels and crop 32."""
    config = make(goldens / "timm_vit.safetensors", **{**VIT, "image_size": 32})
    config.preprocessing.update(said)
    config.evaluations.first = config_lib.evaluation(shorter_side=50)  # changes this evaluation only, not the model
    config = config_lib.typed(config)
    model = start.model_of(config, epath.Path(tmp_path))
    assert model.preprocessing == expected
    resolved = training.preprocessed(config, model)
    assert resolved.preprocessing == config_lib.Preprocessing(
        expected.shorter_side or 0, expected.keep_aspect, expected.interpolation, expected.mean, expected.std, True
    )
    assert training.preprocessed(resolved, model) == resolved
    assert dataclasses.replace(resolved, preprocessing=config.preprocessing) == config


def test_preprocessing_from_scratch(small, tmp_path):
    config = small({"evaluations.test.shorter_side": 10})
    model = start.model_of(config_lib.typed(config), epath.Path(tmp_path))
    assert model.preprocessing == Preprocessing((8, 8))
    config.preprocessing.shorter_side = 7
    with pytest.raises(
        UserError, match=r"config.preprocessing can't be used: shorter_side=7 is smaller than the image of 8x8"
    ):
        vit_jax.train(config, tmp_path / "run")
    config.preprocessing.shorter_side, config.preprocessing.keep_aspect = 0, False
    with pytest.raises(
        UserError, match=r"nothing reads config.preprocessing.keep_aspect=False: it needs a shorter_side"
    ):
        vit_jax.train(config, tmp_path / "run")


def test_a_run_sees_what_its_model_will(goldens, tmp_path, monkeypatch, caplog):
    """Training and evaluations preprocess images as the saved model does; the file's crop is scaled to the new size.

    The run records the config as it was given, and resumes with it.
    """
    sides, kinds = [], set()

    def record(image, size, *rest, **options):
        sides.append(options.get("shorter_side"))
        kinds.add(options["interpolation"])
        return np.zeros((*size, 3), np.uint8)

    monkeypatch.setattr(decode, "for_evaluation", record)
    config = make(goldens / "timm_vit.safetensors", **VIT)
    config.data.name, config.data.num_examples, config.checkpoint.every_steps = "synthetic", 8, 1
    config.evaluations.test = config_lib.evaluation()
    config.evaluations.wide = config_lib.evaluation(shorter_side=20)
    with caplog.at_level(logging.INFO):
        vit_jax.train(config, tmp_path / "run")
    assert kinds == {"bicubic"}
    assert set(sides) == {None, 18, 20}  # None is from training, which resizes the whole image
    assert "the evaluation wide sees images of another shorter_side, 20, than the saved model's, 18" in caplog.text
    assert "the evaluation test" not in caplog.text
    assert vit_jax.load(tmp_path / "run").preprocessing == Preprocessing((16, 16), 18, interpolation="bicubic")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert set(recorded["preprocessing"].values()) == {None}
    (tmp_path / "run" / "model.npz").unlink()
    vit_jax.train(config, tmp_path / "run")
    config.preprocessing.shorter_side = 19
    (tmp_path / "run" / "model.npz").unlink()
    with pytest.raises(UserError, match=r"config.preprocessing.shorter_side was None and is 19"):
        vit_jax.train(config, tmp_path / "run")


def test_another_patch_size_is_resized(goldens, tmp_path):
    config = config_lib.typed(make(goldens / "timm_vit.safetensors", **{**VIT, "patch_size": 4}))
    model = start.model_of(config, epath.Path(tmp_path))
    assert start.initial_params(config, model)["embedding"]["kernel"].shape == (4, 4, 3, 32)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("mixer.npz", VIT, "a model of the family mixer, and config.model.name is of the family vit"),
        ("timm_vit.safetensors", {**VIT, "width": 64}, "width is 32 there and 64 here"),
        ("timm_vit.safetensors", {**VIT, "pool": "gap"}, "pool is tok there and gap here"),
        ("timm_vit.safetensors", {**VIT, "registers": 2}, "vit_jax/registers is missing"),
        ("bit_paper.npz", {**CASES["bit_paper.npz"], "pool": "gap"}, "nothing reads config.model.pool='gap'"),
        ("bit_paper.npz", {**CASES["bit_paper.npz"], "dropout": 0.1}, "BiT-R50x1 has no dropout"),
        (
            "hybrid_r_stem.npz",
            {**CASES["hybrid_r_stem.npz"], "stages": (2,)},
            r"stages is \(1,\) there",
        ),
    ],
)
def test_another_model_is_refused(goldens, file, changes, said, tmp_path):
    with pytest.raises(UserError, match=said):
        vit_jax.train(make(goldens / file, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_recommended_augreg_checkpoint(goldens, tmp_path, monkeypatch):
    """`augreg:VARIANT` loads the checkpoint that the published index recommends."""
    monkeypatch.setattr(fetch, "_AUGREG", f"{tmp_path}/")
    index = "name,ds,final_val,filename\nTi/8,i21k,0.3,worse\nTi/8,i21k,0.4,best\nTi/8,i1k,0.9,other\n"
    (tmp_path / "index.csv").write_text(index)
    (tmp_path / "best.npz").write_bytes((goldens / "vit_token.npz").read_bytes())
    source = vit_jax.load("augreg:Ti/8", image_size=(48, 32))
    model = {key: getattr(source.arch, key) for key in ("width", "depth", "mlp_dim", "num_heads", "patch_size")}
    config = make("augreg:Ti/8", name="Ti/8", image_size=(48, 32), **model)
    vit_jax.train(config, tmp_path / "run")
    assert vit_jax.load(tmp_path / "run").arch.width == source.arch.width


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (3, ("a", "b", "d"), "calls the class 2 'c', and the config's data calls it 'd'; leave init_head out"),
        (3, ("b", "a", "c"), "calls the class 0 'a', and the config's data calls it 'b'"),
        (4, ("a", "b", "c", "d"), "model.npz has 3 classes, and the config's data has 4; leave init_head out"),
    ],
)
def test_a_head_of_other_classes_is_not_kept(tmp_path, classes, names, message):
    model = vit_jax.create("Ti/8", **{k: v for k, v in VIT.items() if k != "name"}, num_classes=3)
    model.class_names = ("a", "b", "c")
    vit_jax.save(model, tmp_path / "model.npz")
    config = config_lib.default()
    config.total_steps, config.init_from, config.init_head = 1, str(tmp_path / "model.npz"), "keep"
    config.model.update(VIT)
    with pytest.raises(UserError, match=message):
        start.model_of(config, class_names=names)
    assert start.model_of(config, class_names=("a", "b", "c")).arch.num_classes == 3


def test_keep_without_init_from_is_refused():
    config = config_lib.default()
    config.init_head = "keep"
    with pytest.raises(UserError, match="nothing reads config.init_head='keep': it needs config.init_from"):
        config_lib.typed(config)
