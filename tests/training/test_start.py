"""Fine-tuning from files of others: what the config leaves open is the file's."""

import json

import numpy as np
import pytest
from etils import epath

import vit_jax
from vit_jax import UserError
from vit_jax import config as config_lib
from vit_jax.checkpoints import fetch
from vit_jax.models import names
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


def make(init_from, **model):
    config = config_lib.default()
    config.total_steps, config.global_batch_size, config.log_steps = 2, 8, 1
    config.init_from, config.log.tensorboard = str(init_from), False
    for key, value in model.items():
        config.model[key] = value
    return config


@pytest.mark.parametrize("file", CASES)
def test_from_a_file(goldens, file, tmp_path):
    """Everything but the head and the positions is the file's, and the run's own file rebuilds the same model."""
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
    """By its short name, picked by the index."""
    monkeypatch.setattr(fetch, "_AUGREG", f"{tmp_path}/")
    index = "name,ds,final_val,filename\nTi/8,i21k,0.3,worse\nTi/8,i21k,0.4,best\nTi/8,i1k,0.9,other\n"
    (tmp_path / "index.csv").write_text(index)
    (tmp_path / "best.npz").write_bytes((goldens / "vit_token.npz").read_bytes())
    source = vit_jax.load("augreg:Ti/8", image_size=(48, 32))
    model = {key: getattr(source.arch, key) for key in ("width", "depth", "mlp_dim", "num_heads", "patch_size")}
    config = make("augreg:Ti/8", name="Ti/8", image_size=(48, 32), **model)
    vit_jax.train(config, tmp_path / "run")
    assert vit_jax.load(tmp_path / "run").arch.width == source.arch.width
