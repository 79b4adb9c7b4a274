"""Tests files of other programs. They load, or raise an error of one sentence that says what to do."""

import io
import json
import logging
import pathlib
import sys
import types
import zipfile

import numpy as np
import pytest

import vit_jax
from vit_jax.checkpoints import containers, hints, info
from vit_jax.errors import UserError


@pytest.fixture
def file(tmp_path, drawn):
    """Returns a `.safetensors` file in timm's format, without this package's metadata but with a config.json."""
    vit_jax.save(drawn(), tmp_path / "model.safetensors", format="timm")
    rewrite(tmp_path / "model.safetensors", lambda arrays: arrays)
    return tmp_path / "model.safetensors"


def arrays_of(path):
    container = containers.open_file(path)
    return {name: np.array(container.read(name)) for name in container.shapes}


def write(path, arrays):
    containers.write_file(path, path.suffix, {n: a.shape for n, a in arrays.items()}, arrays.items(), {})


def rewrite(path, change):
    write(path, change(arrays_of(path)))


def in_shards(path):
    """Replaces a file by two shards and an index, and returns the path of the index."""
    arrays, places = arrays_of(path), {}
    for number in range(2):
        shard = path.parent / f"model-0000{number + 1}-of-00002.safetensors"
        part = dict(list(arrays.items())[number::2])
        write(shard, part)
        places |= dict.fromkeys(part, shard.name)
    index = path.parent / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    path.unlink()
    return index


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


def test_shards_are_one_model(file):
    logits = vit_jax.load(file)(IMAGES)
    index = in_shards(file)
    for path in (index, index.parent):
        np.testing.assert_array_equal(vit_jax.load(path)(IMAGES), logits)


def test_wrong_shards(file):
    index = in_shards(file)
    first = index.parent / "model-00001-of-00002.safetensors"
    with pytest.raises(UserError, match="one of 2 shards of a checkpoint; name its index, .*index.json"):
        vit_jax.load(first)
    content = json.loads(index.read_text())
    name = next(name for name, shard in content["weight_map"].items() if shard == first.name)
    for places, message in (
        ({**content["weight_map"], "x": first.name}, "says that model-00001-of-00002.safetensors holds x"),
        ({n: s for n, s in content["weight_map"].items() if n != name}, "does not say that .* holds"),
        ({**content["weight_map"], name: "../other.safetensors"}, "does not lie beside it"),
        ({**content["weight_map"], name: "other.safetensors"}, "names 3 shards, of which are missing: other.safe"),
        ([], "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(UserError, match=message):
            vit_jax.load(index)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "backbone.model."])
def test_wrappers_are_seen_through(file, prefix, caplog):
    logits = vit_jax.load(file)(IMAGES)
    rewrite(file, lambda arrays: {prefix + name: array for name, array in arrays.items()})
    with caplog.at_level(logging.INFO, "vit_jax"):
        np.testing.assert_array_equal(vit_jax.load(file)(IMAGES), logits)
    assert f"begin with {prefix}" in caplog.text
    rewrite(file, lambda arrays: {(name if "cls" in name else f"{prefix}x{name}"): a for name, a in arrays.items()})
    with pytest.raises(UserError, match="no model of a known format"):
        vit_jax.load(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", "is a pickle of PyTorch.* python -c .*weights_only=True.*/model.safetensors"),
        ("vit.pth", "is a pickle of PyTorch.*/vit.pth .*/vit.safetensors"),
        ("pytorch_model.bin.index.json", "the index of a PyTorch checkpoint in shards"),
        ("tf_model.h5", "a file of TensorFlow"),
        ("model", "no suffix that says a format"),
    ],
)
def test_other_programs_files(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        vit_jax.load(tmp_path / name)
    if name.partition(".")[0] in ("pytorch_model", "tf_model"):  # names that folders of the Hugging Face hub have
        with pytest.raises(UserError, match=f"has no .safetensors: .*{message}"):
            vit_jax.load(tmp_path)


def test_folders_without_a_model(tmp_path):
    with pytest.raises(UserError, match="holds nothing"):
        vit_jax.load(tmp_path)
    (tmp_path / "a.npz").touch()
    with pytest.raises(UserError, match="holds 1 checkpoints under names of their own; name one, such as .*a.npz"):
        vit_jax.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("B/16", "the name of a model and not of a file.*augreg:B/16"),
        ("BiT-R50x1", "the name of a model"),
        ("google/vit-base-patch16-224", "if it names a model of the hub: .*hf download"),
        ("vit_base_patch16_224.augreg_in21k", "hf download"),
        ("hf://google/vit-base-patch16-224", "can't be opened from here.*NAME is google/vit-base-patch16-224"),
        ("hf-hub:timm/vit_tiny", "NAME is timm/vit_tiny"),
        ("nowhere.npz", "^there is no checkpoint nowhere.npz$"),
    ],
)
def test_names_instead_of_files(name, message):
    with pytest.raises(UserError, match=message):
        vit_jax.load(name)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: np.zeros((0, *a.shape[1:]), np.float32), r"holds 1 empty arrays, such as {name}"),
        (lambda a: a.astype(np.int32), "{name} has the type int32 where floating-point numbers are needed"),
        (lambda a: a.astype(bool), "{name} has the type bool where"),
    ],
    ids=["empty", "integers", "booleans"],
)
def test_arrays_that_are_no_parameters(tmp_path, drawn, suffix, change, message):
    path = tmp_path / f"model{suffix}"
    vit_jax.save(drawn(), path)
    name = "head/kernel" if suffix == ".npz" else "head.weight"
    arrays = arrays_of(path)
    arrays[name] = change(arrays[name])
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        kinds = {"float32": "F32", "int32": "I32", "bool": "BOOL"}
        header, end = {}, 0
        for key, array in arrays.items():
            begin, end = end, end + array.nbytes
            header[key] = {"dtype": kinds[str(array.dtype)], "shape": array.shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values()))
    with pytest.raises(UserError, match=message.format(name=name)):
        vit_jax.load(path)


def test_float8_is_told_apart(file):
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["head.bias"] |= {"dtype": "F8_E4M3"}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(UserError, match="holds head.bias as F8_E4M3, which is not read here; convert it to BF16"):
        vit_jax.load(file)


def test_values_that_are_not_finite_are_counted(tmp_path, drawn, caplog):
    vit_jax.save(drawn(), tmp_path / "model.npz")
    arrays = arrays_of(tmp_path / "model.npz")
    arrays["head/bias"][:2], arrays["cls"][0, 0, 0] = np.nan, np.inf
    np.savez(tmp_path / "model.npz", **arrays)
    vit_jax.load(tmp_path / "model.npz")
    assert "has 3 values in 2 arrays that are not finite" in caplog.text and "head/bias" in caplog.text


def test_an_array_of_a_quintillion_numbers_takes_no_memory(file):
    path = file.with_name("huge.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cls.npy", header.getvalue() + bytes(64))
    with pytest.raises(UserError, match="is no whole .npz file .cls has not the bytes of its shape"):
        vit_jax.load(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("posemb_std", "x", "posemb_std is 'x' .str.; it takes float"),
        ("width", 16.0, "width is 16.0 .float.; it takes int"),
        ("num_heads", True, "num_heads is True .bool.; it takes int"),
        ("image_size", [16, "x"], "image_size is .16, 'x'.; it takes a number"),
        ("image_size", [16.5, 16], "image_size is .16.5, 16."),
        ("depth", 10**9, "depth is 1000000000; it must be at most 10000"),
        ("layer_scale", float("nan"), "layer_scale is nan; it must be a finite number"),
        ("stages", [1, None], "stages is"),
    ],
)
def test_a_side_files_values_have_types(tmp_path, drawn, key, value, message):
    vit_jax.save(drawn(), tmp_path / "model.npz")
    side = tmp_path / "model.json"
    content = json.loads(side.read_text())
    content["architecture"][key] = value
    side.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"model.json does not describe a model: {message}"):
        vit_jax.load(tmp_path / "model.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "config.json is no JSON object"),
        ({"num_heads": "x", "embed_dim": 16}, "num_heads is 'x' .str.; it takes int"),
        (
            {"pretrained_cfg": {"input_size": 3}, "num_heads": 2, "embed_dim": 16},
            "input_size is 3 .int.; it takes a tuple",
        ),
        ({"num_heads": 2, "model_args": 3}, "model_args is 3 .int.; it takes dict"),
        ({"num_heads": 2, "embed_dim": 16, "architecture": 3}, "architecture is 3 .int.; it takes str"),
        ({"num_heads": 2, "embed_dim": 16, "act_layer": ["x"]}, "act_layer is"),
        ({"num_heads": 2, "embed_dim": 16, "label_names": ["a"]}, "1 names of classes where 3 are needed"),
        ({"num_heads": 2, "embed_dim": 16, "label_names": "abc"}, "none of a known model"),
    ],
)
def test_a_librarys_config_has_types(file, content, message):
    (file.parent / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        vit_jax.load(file)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vision_config", [1], "vision_config is .1. .list.; it takes dict"),
        ("hidden_act", {}, "hidden_act is .* .dict.; it takes str"),
        ("image_size", "16", "image_size is '16' .str.; it takes int or a tuple"),
        ("id2label", ["a", "b", "c"], "id2label is .* .list.; it takes dict"),
        ("id2label", {"5": "a", "7": "b", "9": "c"}, "the keys of id2label are not the numbers from 0 to 2"),
        ("id2label", {"0": "a"}, "1 names of classes where 3 are needed"),
    ],
)
def test_transformers_config_has_types(tmp_path, drawn, key, value, message):
    path = tmp_path / "model.safetensors"
    vit_jax.save(drawn(mlp="gelu_erf"), path, format="transformers")
    rewrite(path, lambda arrays: arrays)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(UserError, match=message):
        vit_jax.load(path)


def test_info(file, drawn):
    told = info.describe(file)
    assert f"size           {file.stat().st_size:,} bytes" in told
    for line in ("format         timm", "num_heads=2", "classes        3: a, ä, ß", "vit at 16x16 pixels"):
        assert line in told
    count = sum(array.size for array in arrays_of(file).values())
    assert f"parameters     {count:,}" in told and "shorter side to 32, then the centre of 16x16" in told
    vit_jax.save(vit_jax.create("Ti/16", image_size=32, num_classes=0, qkv_bias=False), file.with_name("ti.npz"))
    told = info.describe(file.with_name("ti.npz"))
    assert "Ti/16 at 32x32" in told and "qkv_bias=False" in told and "no head" in told and "width" not in told


def test_the_command_for_pytorch_runs(monkeypatch):
    """The command that an error suggests for converting a PyTorch file runs.

    It finds the weights at the top level or under any key, and exits with an error if there are none. PyTorch and
    safetensors are replaced by stubs.
    """
    sentence = hints.other_suffix(pathlib.Path("a b.pth"))
    assert sentence.endswith(" 'a b.pth' 'a b.safetensors'")
    program = sentence[sentence.index('-c "') + 4 : sentence.rindex('" ')]
    saved: list = []
    loaded: dict = {}
    torch = types.ModuleType("torch")
    torch.load = lambda path, map_location, weights_only: loaded["it"] if weights_only else None
    torch.is_tensor = lambda value: isinstance(value, Tensor)
    package, module = types.ModuleType("safetensors"), types.ModuleType("safetensors.torch")
    package.torch, module.save_file = module, lambda arrays, path: saved.append((sorted(arrays), path))
    for name, stub in (("torch", torch), ("safetensors", package), ("safetensors.torch", module)):
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.setattr(sys, "argv", ["-c", "in", "out"])
    weights = {"w": Tensor(), "v": Tensor()}
    for content in (weights, {"state_dict": weights}, {"model_ema": weights, "loss": Tensor(), "epoch": 1}):
        loaded["it"] = content
        exec(program, {})
        assert saved.pop() == (["v", "w"], "out")
    loaded["it"] = {"model": {"state_dict": weights}}
    with pytest.raises(SystemExit, match="no weights found in in"):
        exec(program, {})
    assert not saved


class Tensor:
    contiguous = clone = lambda self: self
