"""DINOv3 in timm's and transformers' naming: other image sizes, what published files say, and bad ones."""

import json
import shutil

import jax
import numpy as np
import pytest

import vit_jax
from vit_jax.checkpoints import containers, model_file
from vit_jax.models import variants
from vit_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

HEADS = {"hf_dinov3": 3, "hf_dinov3_gated": 2, "timm_dinov3": 2, "timm_dinov3_gated": 2}
TINY = {"width": 128, "depth": 1, "mlp_dim": 24, "num_classes": 0, "image_size": 32}


def rewrite(path, change):
    """Writes the file anew without metadata, its arrays by name as `change` leaves them."""
    file = containers.open_file(path)
    arrays = {name: np.array(file.read(name)) for name in file.shapes}
    change(arrays)
    shapes = {name: array.shape for name, array in arrays.items()}
    containers.write_file(file.path, ".safetensors", shapes, arrays.items(), {})


@pytest.fixture
def published(goldens, tmp_path):
    """Puts a golden and its config into a folder; `settings` change the config, of timm's its arguments."""

    def put(name, **settings):
        shutil.copy(goldens / f"{name}.safetensors", tmp_path / "model.safetensors")
        config = json.loads(str(np.load(goldens / f"{name}.npz")["config"]))
        config.get("model_args", config).update(settings)
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return put


@pytest.mark.parametrize(
    "name", [name if "gated" in name else pytest.param(name, marks=pytest.mark.slow) for name in HEADS]
)
def test_images_of_another_size(goldens, name):
    """Positions follow the images, without any table; `scan` or not."""
    golden = np.load(goldens / "dinov3_other_size.npz")
    for scan in (True, False):
        model = vit_jax.load(goldens / f"{name}.safetensors", num_heads=HEADS[name], scan=scan)
        tokens = jax.jit(model.encode)(golden[f"{name}/image"])
        np.testing.assert_allclose(tokens, golden[f"{name}/encoded"], atol=2e-5, rtol=0)


def test_what_the_configs_say(published):
    arch = model_file.read(published("hf_dinov3", rope_theta=50.0, layerscale_value=0.25)).architecture
    assert (arch.image_size, arch.rope, arch.layer_scale, arch.pool) == ((48, 48), 50.0, 0.25, "tok")
    arch = model_file.read(published("timm_dinov3", rope_temperature=50, init_values=0.25)).architecture
    assert (arch.image_size, arch.rope, arch.layer_scale, arch.pool) == ((32, 32), 50.0, 0.25, "gap")
    assert model_file.read(published("timm_dinov3", global_pool="token")).architecture.pool == "tok"


@pytest.mark.parametrize(("name", "heads"), [("DINOv3-S/16", 2), ("DINOv3-S+/16", 2)])
def test_timm_models_named_without_their_arguments(drawn, tmp_path, name, heads):
    """The hub's files name the architecture, which implies everything else."""
    model = drawn(name, **TINY, num_heads=heads, pool="gap", class_token=True)
    vit_jax.save(model, tmp_path / "model.safetensors")
    rewrite(tmp_path / "model.safetensors", lambda arrays: None)
    cfg = {"input_size": [3, 256, 256], "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "crop_pct": 1.0}
    config = {"architecture": "vit_small_patch16_dinov3_qkvb", "global_pool": "avg", "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = model_file.read(tmp_path)
    assert file.architecture == model.arch.replace(image_size=256)
    assert file.preprocessing == Preprocessing((256, 256), 256, IMAGENET_MEAN, IMAGENET_STD, "bicubic")


def test_a_gate_in_one_array_with_what_it_multiplies(goldens, tmp_path):
    """timm's models without `swiglu_align_to` have it so."""
    shutil.copy(goldens / "timm_dinov3_gated.safetensors", tmp_path / "model.safetensors")

    def pack(arrays):
        for layer in range(2):
            for kind in ("weight", "bias"):
                parts = [arrays.pop(f"blocks.{layer}.mlp.fc1_{part}.{kind}") for part in "gx"]
                arrays[f"blocks.{layer}.mlp.fc1.{kind}"] = np.concatenate(parts)

    rewrite(tmp_path / "model.safetensors", pack)
    packed, golden = (
        model_file.read(path, num_heads=2).parameters
        for path in (tmp_path / "model.safetensors", goldens / "timm_dinov3_gated.safetensors")
    )
    assert packed.keys() == golden.keys()
    for name in golden:
        np.testing.assert_array_equal(packed[name], golden[name])


def test_a_state_saved_by_hand(goldens, tmp_path):
    """Since transformers 5 a state's layers have names that begin with `model.`; `save_pretrained` takes it off."""
    shutil.copy(goldens / "hf_dinov3.safetensors", tmp_path / "model.safetensors")

    def rename(arrays):
        for name in [name for name in arrays if name.startswith("layer.")]:
            arrays[f"model.{name}"] = arrays.pop(name)

    rewrite(tmp_path / "model.safetensors", rename)
    assert model_file.read(tmp_path, num_heads=3).format == "transformers"


def test_the_mask_token_is_not_read_and_written_as_zeros(published, tmp_path):
    vit_jax.save(vit_jax.load(published("hf_dinov3_gated")), tmp_path / "new.safetensors", "transformers")
    old, new = (containers.open_file(tmp_path / name) for name in ("model.safetensors", "new.safetensors"))
    assert old.shapes.keys() == new.shapes.keys()
    assert not new.read("embeddings.mask_token").any() and old.read("embeddings.mask_token").any()


def test_the_name_is_told():
    sizes = variants.named("DINOv3-S+/16", num_classes=0, layer_scale=1.0, image_size=64)
    assert variants.name_of(sizes) == "DINOv3-S+/16"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("hf_dinov3", {"num_attention_heads": 5}, "width=48 can't be split over num_heads=5 equal heads"),
        ("hf_dinov3", {"num_attention_heads": 8}, "rope needs heads of a width divisible by 4"),
        ("hf_dinov3", {"num_attention_heads": "3"}, "num_attention_heads is '3' .str.; it takes int"),
        ("hf_dinov3", {"hidden_act": "relu"}, "has hidden_act=relu; only gelu, .* can be read"),
        ("hf_dinov3_gated", {"hidden_act": "gelu"}, "has hidden_act=gelu; only silu can be read"),
        ("timm_dinov3", {"num_heads": 5}, "width=32 can't be split over num_heads=5 equal heads"),
        ("timm_dinov3", {"global_pool": "map"}, "has global_pool=map; only token, avg can be read"),
        ("timm_dinov3", {"rope_type": "cat"}, "has rope_type=cat; only dinov3 can be read"),
        ("timm_dinov3", {"rope_temperature": 0}, "rope_coordinates=unit needs rotary positions"),
    ],
)
def test_configs_that_do_not_fit(published, name, settings, message):
    with pytest.raises(vit_jax.UserError, match=message):
        model_file.read(published(name, **settings))


@pytest.mark.parametrize("name", HEADS)
def test_heads_must_be_said(goldens, name):
    with pytest.raises(vit_jax.UserError, match="does not say how many heads it has; say it with num_heads=…"):
        model_file.read(goldens / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("hf_dinov3", "layer.1.attention.q_proj.bias", "layer.1.attention.q_proj.bias is missing"),
        ("hf_dinov3", "embeddings.register_tokens", "embeddings.register_tokens is missing"),
        ("hf_dinov3_gated", "layer.0.mlp.up_proj.weight", "layer.0.mlp.up_proj.weight is missing"),
        ("timm_dinov3", "blocks.1.attn.v_bias", "blocks.1.attn.v_bias is missing"),
        ("timm_dinov3_gated", "blocks.0.mlp.fc1_x.bias", "blocks.0.mlp.fc1_x.bias is missing"),
    ],
)
def test_arrays_that_do_not_fit(published, name, array, message):
    folder = published(name)
    path = folder / "model.safetensors"

    def misshape(arrays):
        arrays[array] = np.zeros((*arrays[array].shape[:-1], 7), np.float32)

    if not array.endswith("tokens"):  # of which any number can be
        rewrite(path, misshape)
        with pytest.raises(vit_jax.UserError, match=rf"does not fit the model: {array} has shape \(.* is needed"):
            model_file.read(folder)
    rewrite(path, lambda arrays: arrays.pop(array))
    with pytest.raises(vit_jax.UserError, match=f"does not fit the model: {message}"):
        model_file.read(folder)
    folder = published(name)
    rewrite(path, lambda arrays: arrays.update(more=np.zeros(3, np.float32)))
    with pytest.raises(vit_jax.UserError, match="does not fit the model: more is left over"):
        model_file.read(folder)
