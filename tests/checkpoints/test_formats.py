"""Tests every format.

Goldens compare loaded models with the results of the format's own library. Round trips write a model in every format
that can store it, and read it again.
"""

import json
import shutil
import tracemalloc
from typing import Any

import jax
import numpy as np
import pytest

import vit_jax
from vit_jax.checkpoints import containers, model_file, names
from vit_jax.checkpoints.formats import FORMATS
from vit_jax.checkpoints.formats.flax import POSITIONS
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.functional import split

# For each golden, the keywords that `load` needs and the formats that can store the model.
FLAX = {"original", "big_vision", "big_vision_scan"}
PLAIN = FLAX | {"timm", "transformers"}
GOLDENS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "vit_token.npz": ({}, PLAIN),
    "vit_token_prelogits.npz": ({}, FLAX),
    "vit_gap.npz": ({"image_size": (48, 32)}, FLAX | {"timm"}),
    "hybrid_r_stem.npz": ({}, {"original"}),
    "mixer.npz": ({}, FLAX),
    "big_vision_gap_sincos.npz": ({"image_size": 32, "posemb": "sincos2d"}, FLAX),
    "big_vision_map.npz": ({"image_size": (32, 48)}, FLAX | {"timm"}),
    "big_vision_tok_scan.npz": ({}, PLAIN),
    "bit_paper.npz": ({}, FLAX | {"bit"}),
    "timm_vit.safetensors": ({"num_heads": 4}, PLAIN),
    "timm_vit_gap_norm.safetensors": ({"num_heads": 4, "image_size": (32, 48)}, {"original", "timm"}),
    "timm_vit_map.safetensors": ({"num_heads": 4}, FLAX | {"timm"}),
    "timm_vit_reg4_layerscale_qknorm.safetensors": ({}, {"original", "timm"}),
    "timm_dinov3.safetensors": ({"num_heads": 2}, {"original", "timm"}),
    "timm_dinov3_gated.safetensors": ({"num_heads": 2}, {"original", "timm"}),
    "hf_vit.safetensors": ({"num_heads": 4}, PLAIN),
    "hf_dinov2.safetensors": ({"num_heads": 4}, {"original", "timm", "transformers"}),
    "hf_dinov3.safetensors": ({"num_heads": 3}, {"original", "timm", "transformers"}),
    "hf_dinov3_gated.safetensors": ({"num_heads": 2}, {"original", "timm", "transformers"}),
    "hf_siglip_vision.safetensors": ({"num_heads": 4}, PLAIN),
}
OF_TORCH = [name for name in GOLDENS if name.endswith(".safetensors")]

# For each model, its name, its options and the formats that can store it.
TINY = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "image_size": (16, 24), "num_classes": 3}
DINO = {**TINY, "image_size": 16, "layer_scale": 0.5, "mlp_dim": 32, "posemb_resample": "bicubic"}
DINOV3 = {
    **TINY, "posemb": "none", "rope": 50.0, "rope_coordinates": "unit", "registers": 3, "layer_scale": 0.5,
    "norm_eps": 1e-5, "key_bias": False, "mlp": "gelu_erf",
}  # fmt: skip
BARE = {**DINOV3, "num_classes": 0}
OPTIONS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("Ti/8", {**TINY, "num_classes": 0}, PLAIN),
    ("Ti/8", {**TINY, "pool": "gap", "image_size": 16}, PLAIN),
    ("Ti/8", {**TINY, "norm_eps": 1e-3}, FLAX | {"transformers"}),
    ("Ti/8", {**TINY, "registers": 2, "layer_scale": 1e-4, "mlp": "swiglu"}, {"original", "timm"}),
    ("Ti/8", {**TINY, "registers": 1, "distilled": True}, {"original", "timm", "transformers"}),
    ("Ti/8", {**TINY, "registers": 1, "norm_eps": 1e-12}, {"original", "timm", "transformers"}),
    ("Ti/8", {**TINY, "pre_logits": 12, "num_classes": 0}, FLAX | {"transformers"}),
    ("Ti/8", {**TINY, "qkv_bias": False, "mlp": "gelu_erf"}, {"original", "timm", "transformers"}),
    ("Ti/8", {**TINY, "pool": "map", "class_token": True, "posemb": "none"}, {"original", "timm"}),
    ("Ti/8", {**TINY, "pool": "map", "mlp": "swiglu"}, {"original"}),
    ("Ti/8", {**TINY, "pool": "gap", "posemb": "none", "scan": False, "dropout": 0.1}, FLAX | {"timm"}),
    ("Ti/8", {**DINO, "pool": "tok+gap"}, {"original", "transformers"}),
    ("Ti/8", {**DINO, "registers": 3, "mlp": "swiglu", "num_classes": 0}, {"original", "timm", "transformers"}),
    ("Ti/8", {**TINY, "parallel": True, "qk_norm": True, "posemb": "learned2d"}, {"original"}),
    ("Ti/8", {**TINY, "posemb": "relative", "registers": 1}, {"original"}),
    ("Ti/8", {**TINY, "posemb_at": "layers", "rope": 100.0}, {"original"}),
    ("Ti/8", {**TINY, "key_bias": False}, {"original"}),
    ("Ti/8", DINOV3, {"original", "timm"}),
    ("Ti/8", {**DINOV3, "pool": "gap", "class_token": True, "norm_after_pool": True}, {"original", "timm"}),
    ("Ti/8", {**BARE, "mlp": "swiglu", "mlp_dim": 27}, {"original", "timm", "transformers"}),
    ("Ti/8", {**BARE, "qkv_bias": False}, {"original", "timm", "transformers"}),
    ("Ti/8", {**BARE, "key_bias": True, "mlp": "gelu", "norm_eps": 1e-6}, {"original", "transformers"}),
    ("Ti/8", {**BARE, "registers": 0}, {"original"}),
    ("Ti/8", {**TINY, "attention": "axial", "pool": "gap"}, {"original"}),
    ("R+Ti/16", {**TINY, "image_size": 32, "patch_size": (2, 4), "stages": (1, 2), "stem_width": 32}, {"original"}),
    ("Mixer-S/8", {**TINY, "num_heads": None, "tokens_mlp_dim": 5}, FLAX),
    ("BiT-R50x1", {"stages": (1, 2), "stem_width": 32, "num_classes": 3, "image_size": 32}, FLAX | {"bit"}),
]


def assert_same(file, parameters, folded=False):
    """Checks that a file has exactly these parameters, bit for bit.

    With `folded`, the position embedding of the class token must be zero in the file and added to the class token.
    """
    assert file.parameters.keys() == parameters.keys()
    for name in parameters:
        expected = parameters[name]
        if folded and name == "cls":
            expected = expected + parameters[POSITIONS][:, :1]
        elif folded and name == POSITIONS:
            expected = np.concatenate([np.zeros_like(expected[:, :1]), expected[:, 1:]], axis=1)
        np.testing.assert_array_equal(file.parameters[name], expected, err_msg=name, strict=True)


def bare(path):
    """Removes this package's metadata from a file, so that it is as another program writes it."""
    file = containers.open_file(path)
    arrays = {name: np.array(file.read(name)) for name in file.shapes}
    containers.write_file(file.path, path.suffix, file.shapes, arrays.items(), {})


def agree(model, golden, name):
    @jax.jit
    def run(images):
        tokens = model.encode(images)
        return {"encoded": tokens, "pre_logits": model.pooled(tokens), "logits": model.logits(tokens)}

    values = run(golden["image"])
    if name.startswith("hf_dino"):
        values["logits"] = values["encoded"]
    for key in values.keys() & set(golden.files):
        np.testing.assert_allclose(values[key], golden[key], atol=2e-5, rtol=0, err_msg=key)


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(goldens, name):
    golden = np.load((goldens / name).with_suffix(".npz"))
    config = json.loads(str(golden["config"])) if "config" in golden else {}
    keywords = dict(GOLDENS[name][0])
    if "layer_norm_eps" in config:
        keywords["norm_eps"] = config["layer_norm_eps"]
    agree(vit_jax.load(goldens / name, **keywords), golden, name)


@pytest.mark.parametrize("name", OF_TORCH)
def test_goldens_with_their_config_beside(goldens, tmp_path, name):
    golden = np.load((goldens / name).with_suffix(".npz"))
    shutil.copy(goldens / name, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(str(golden["config"]))
    agree(vit_jax.load(tmp_path), golden, name)


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_go_through_every_format(goldens, tmp_path, name):
    keywords, places = GOLDENS[name]
    model, source = vit_jax.load(goldens / name, **keywords), model_file.read(goldens / name, **keywords)
    parameters = dict(source.parameters)
    go_through_every_format(model, parameters, places, tmp_path)
    # `convert` from file to file gives the same parameters as loading and saving a model.
    model_file.convert(goldens / name, tmp_path / "converted.npz", **keywords)
    converted = model_file.read(tmp_path / "converted.npz")
    assert_same(converted, parameters)
    assert (converted.architecture, converted.preprocessing) == (model.arch, model.preprocessing)


@pytest.mark.parametrize(
    ("name", "keywords", "places"), OPTIONS, ids=lambda value: str(sorted(value) if isinstance(value, set) else value)
)
def test_options_go_through_every_format(drawn, tmp_path, name, keywords, places):
    model = drawn(name, **keywords)
    go_through_every_format(model, dict(names.Published(split(model)[1])), places, tmp_path)


def go_through_every_format(model, parameters, places, folder):
    assert places <= FORMATS.keys()
    table = POSITIONS in parameters and "cls" in parameters
    for format, known in FORMATS.items():
        path = folder / f"{format}{known.suffix}"
        if format not in places:
            with pytest.raises(vit_jax.UserError, match=f"the format {format} has no place for"):
                vit_jax.save(model, path, format)
            assert not path.exists() and not path.with_suffix(".json").exists()
            continue
        vit_jax.save(model, path, format)
        file = model_file.read(path)
        folded = table and format.startswith("big_vision")
        assert_same(file, parameters, folded)
        described = file.architecture, file.preprocessing, file.class_names
        assert described == (model.arch, model.preprocessing, model.class_names)
        if folded:
            model_file.convert(path, folder / f"again_{format}.npz", format)
            assert_same(model_file.read(folder / f"again_{format}.npz"), dict(file.parameters))


def test_folded_positions_compute_the_same(goldens, tmp_path):
    model = vit_jax.load(goldens / "vit_token.npz")
    vit_jax.save(model, tmp_path / "folded.npz", "big_vision")
    images = np.load(goldens / "vit_token.npz")["image"]
    np.testing.assert_array_equal(vit_jax.load(tmp_path / "folded.npz")(images), model(images))


@pytest.mark.parametrize(
    ("name", "keywords", "format"),
    [(n, k, f) for n, k, places in OPTIONS for f in sorted(places & {"timm", "transformers"})],
    ids=str,
)
def test_the_json_for_other_libraries_tells_all(drawn, tmp_path, name, keywords, format):
    """The JSON files for other libraries describe a model completely, also without this package's metadata.

    A file that another program writes has only these JSON files.
    """
    model, path = drawn(name, **keywords), tmp_path / "model.safetensors"
    vit_jax.save(model, path, format)
    bare(path)
    file = model_file.read(tmp_path)
    ours = {key: getattr(model.arch, key) for key in ("posemb_resample", "dropout", "scan")}
    if format == "timm":
        ours["norm_eps"] = model.arch.norm_eps  # timm's models all have the same, so its config does not say it
    assert file.architecture.replace(**ours) == model.arch
    assert file.preprocessing == model.preprocessing and file.class_names == model.class_names
    assert_same(file, names.Published(split(model)[1]))


def test_the_original_naming_is_kept_to_the_letter(goldens, tmp_path):
    for name in ("vit_token", "vit_token_prelogits", "hybrid_r_stem", "mixer"):
        model_file.convert(goldens / f"{name}.npz", tmp_path / f"{name}.npz")
        written, golden = np.load(tmp_path / f"{name}.npz"), np.load(goldens / f"{name}.npz")
        assert {f"params/{n}" for n in written.files} == {n for n in golden.files if n.startswith("params/")}


def test_newer_numbering_loads(goldens, tmp_path):
    """Files whose names number the modules of each class from 0 load like files with the original numbers."""
    golden = np.load(goldens / "vit_token.npz")

    def rename(name):
        name = name.replace("MlpBlock_3", "MlpBlock_0").replace("Attention_1", "Attention_0")
        return name.replace("LayerNorm_2", "LayerNorm_1").removeprefix("params/")

    np.savez(tmp_path / "new.npz", **{rename(n): golden[n] for n in golden.files if n.startswith("params/")})
    parameters = dict(model_file.read(goldens / "vit_token.npz").parameters)
    assert_same(model_file.read(tmp_path / "new.npz"), parameters)


@pytest.mark.parametrize(
    ("architecture", "width", "heads"),
    [
        ("vit_base_patch16_224", 768, 12),
        ("vit_giant_patch14_dinov2", 1536, 24),
        ("vit_giantopt_patch16_siglip_384", 1536, 16),
        ("vit_so400m_patch14_siglip_224", 1152, 16),
        ("vit_medium_patch16_gap_256", 512, 8),
        ("vit_base_patch16_gap_224", 768, 16),
    ],
)
def test_timm_models_named_without_their_arguments(drawn, tmp_path, architecture, width, heads):
    """Configs of published files give only the architecture's name, which determines the heads and the activation."""
    model = drawn("Ti/8", **{**TINY, "width": width, "num_heads": heads, "depth": 1})
    vit_jax.save(model, tmp_path / "model.safetensors")
    bare(tmp_path / "model.safetensors")
    cfg = {"input_size": [3, 16, 24], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture, "pretrained_cfg": cfg}))
    file = model_file.read(tmp_path)
    assert file.architecture.num_heads == heads
    assert file.architecture.mlp == ("gelu" if "giantopt" in architecture else "gelu_erf")
    assert file.preprocessing == Preprocessing((16, 24), 17, interpolation="bicubic")


@pytest.mark.parametrize(
    ("format", "changes", "message"),
    [
        ("timm", {"act_layer": "quick_gelu"}, "has act_layer=quick_gelu; only gelu, gelu_tanh can be read"),
        ("timm", {"global_pool": "avgmax"}, "has global_pool=avgmax; only token, avg, map can be read"),
        ("transformers", {"hidden_act": "relu"}, "has hidden_act=relu; only gelu, .* can be read"),
    ],
)
def test_what_no_model_here_computes(drawn, tmp_path, format, changes, message):
    path = tmp_path / "model.safetensors"
    vit_jax.save(drawn("Ti/8", **TINY), path, format)
    bare(path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args" if format == "timm" else "vision_config"] = {**config.get("model_args", config), **changes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(vit_jax.UserError, match=message):
        model_file.read(tmp_path)


@pytest.mark.parametrize(
    ("source", "target", "most"),
    [
        (("a.npz", "original"), ("b.npz", "big_vision"), 0.3),
        (("a.npz", "original"), ("b.safetensors", "timm"), 0.3),
        (("a.npz", "big_vision_scan"), ("b.safetensors", "timm"), 1.0),
        (("a.safetensors", "timm"), ("b.npz", "big_vision_scan"), 1.1),
    ],
    ids=str,
)
def test_conversion_holds_little_and_reads_each_array_once(drawn, tmp_path, monkeypatch, source, target, most):
    model = drawn("Ti/8", image_size=16, num_classes=3, width=192, depth=6, num_heads=3, mlp_dim=768)
    vit_jax.save(model, tmp_path / source[0], source[1])
    read: list[str] = []
    for kind in (containers.Npz, containers.Safetensors):
        real = kind.read
        monkeypatch.setattr(kind, "read", lambda self, name, real=real: read.append(name) or real(self, name))
    tracemalloc.start()
    model_file.convert(tmp_path / source[0], tmp_path / target[0], target[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(read) == len(set(read))
    assert peak < most * (tmp_path / source[0]).stat().st_size
