"""Tests `load` and `save`: changed fields, what describes a model beside its file, and errors for broken files."""

import json
import logging
import shutil

import numpy as np
import pytest
from etils import epath

import vit_jax
from vit_jax.checkpoints import containers, files, model_file, names
from vit_jax.checkpoints.formats.flax import POSITIONS
from vit_jax.errors import UserError
from vit_jax.models.functional import flatten, split, unflatten


@pytest.fixture(scope="module")
def saved(tmp_path_factory, drawn):
    """Returns a folder with `model.npz` and, in timm's format, `model.safetensors`, and the JSON files of both."""
    folder, model = tmp_path_factory.mktemp("saved"), drawn()
    vit_jax.save(model, folder / "model.npz")
    vit_jax.save(model, folder / "model.safetensors")
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def write(path, arrays):
    """Writes a file as another program does, without this package's metadata."""
    containers.write_file(
        files.epath.Path(path), path.suffix, {n: a.shape for n, a in arrays.items()}, arrays.items(), {}
    )


def arrays_of(path):
    file = containers.open_file(path)
    return {name: np.array(file.read(name)) for name in file.shapes}


def test_architecture_is_read_from_the_arrays_alone(tmp_path, drawn):
    model = drawn(pool="map", qk_norm=True, qkv_bias=False)
    vit_jax.save(model, tmp_path / "model.npz")
    (tmp_path / "model.json").unlink()
    assert vit_jax.load(tmp_path / "model.npz").arch == model.arch


def test_another_size_and_another_head(goldens):
    model = vit_jax.load(goldens / "vit_token_prelogits.npz", image_size=64, num_classes=9)
    assert model.arch.grid == (4, 4) and model.preprocessing.size == (64, 64) and model.arch.pre_logits == 0
    np.testing.assert_array_equal(model(np.ones((2, 64, 64, 3))), np.zeros((2, 9)))
    same = vit_jax.load(goldens / "vit_token_prelogits.npz", num_classes=7)
    assert np.any(same(np.ones((1, 32, 32, 3))))
    # A model resamples its positions for images of another size in the same way as `load`.
    at_64 = vit_jax.load(goldens / "vit_token_prelogits.npz", image_size=64)
    images = np.random.default_rng(0).random((2, 64, 64, 3))
    np.testing.assert_allclose(same(images), at_64(images), atol=1e-5)


def test_a_table_with_as_many_tokens_is_taken_as_it_is(goldens):
    model = vit_jax.load(goldens / "vit_token.npz", image_size=(16, 64))
    kept = np.load(goldens / "vit_token.npz")[f"params/{POSITIONS}"]
    np.testing.assert_array_equal(model.positions.table[...], kept)


def test_preprocessing_follows_the_size(saved):
    model = vit_jax.load(saved / "model.npz")
    larger = vit_jax.load(saved / "model.npz", image_size=32, num_classes=4)
    assert (larger.preprocessing.size, larger.preprocessing.shorter_side) == ((32, 32), 64)
    assert larger.preprocessing.mean == model.preprocessing.mean
    assert model.class_names == ("a", "ä", "ß") and larger.class_names == ()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_models_config_stays(copy, caplog, drawn):
    """A second model saved in the same folder does not replace the config.json of the first.

    It is described in its own metadata, and in a JSON file with another name.
    """
    config = (copy / "config.json").read_text()
    deeper = drawn(depth=3)
    vit_jax.save(deeper, copy / "second.safetensors")
    assert (copy / "config.json").read_text() == config and "config.json is another model's" in caplog.text
    assert "what describes second.safetensors is in second.config.json" in caplog.text
    assert json.loads((copy / "second.config.json").read_text())["model_args"]["depth"] == 3
    assert vit_jax.load(copy / "second.safetensors").arch.depth == 3
    vit_jax.save(deeper, copy / "model.safetensors", overwrite=True)
    assert (copy / "config.json").read_text() != config


@pytest.mark.parametrize("file", ["model.npz", "model.safetensors"])
def test_nothing_is_written_over_unasked(copy, file, drawn):
    before, deeper = contents(copy), drawn(depth=3)
    with pytest.raises(UserError, match=rf"{file} is there already; add --overwrite .overwrite=True."):
        vit_jax.save(deeper, copy / file)
    assert contents(copy) == before
    vit_jax.save(deeper, copy / file, overwrite=True)
    assert vit_jax.load(copy / file).arch.depth == 3


def test_what_describes_something_else_stays(copy, drawn):
    """A JSON file of another program, or a folder, is never replaced, not even with `overwrite`."""
    (copy / "free.json").write_text('{"notes": 1}')
    before = contents(copy)
    with pytest.raises(UserError, match="free.json is there and describes something else"):
        vit_jax.save(drawn(), copy / "free.npz", overwrite=True)
    with pytest.raises(UserError, match="copy is a folder; name a file in it|no suffix"):
        vit_jax.save(drawn(), copy)
    (copy / "folder.npz").mkdir()
    with pytest.raises(UserError, match="folder.npz is a folder; name a file in it"):
        vit_jax.save(drawn(), copy / "folder.npz", overwrite=True)
    (copy / "folder.npz").rmdir()
    with pytest.raises(UserError, match="there is no folder .*/none to write to; make it first"):
        vit_jax.save(drawn(), copy / "none" / "model.npz")
    with pytest.raises(UserError, match="model.npz is read while it would be written; name another file"):
        model_file.convert(copy / "model.npz", copy / "model.npz", overwrite=True)
    assert contents(copy) == before


def test_a_move_that_fails_changes_nothing(copy, drawn, monkeypatch):
    """If the last of the new files can't be moved to its place, all files in the folder stay as they were."""
    before, replace = contents(copy), type(epath.Path(copy)).replace

    def failing(self, target):
        if str(target).endswith("/model.npz") and self.name.endswith(".partial"):
            raise OSError(30, "Read-only file system")
        return replace(self, target)

    monkeypatch.setattr(type(epath.Path(copy)), "replace", failing)
    with pytest.raises(UserError, match="model.npz can't be written .Read-only file system.; mend that"):
        vit_jax.save(drawn(depth=3), copy / "model.npz", overwrite=True)
    assert contents(copy) == before


@pytest.mark.parametrize("file", ["model.npz", "model.safetensors"])
def test_a_failure_changes_nothing(copy, file, drawn):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    other = drawn(depth=3)

    class Failing(dict):
        def __getitem__(self, name):
            if name.endswith("_1/LayerNorm_2/bias"):
                raise OSError("the disk is full")
            return super().__getitem__(name)

    parameters = Failing(names.Published(split(other)[1]))
    description = model_file.Description(other.arch, other.preprocessing)
    with pytest.raises(UserError, match="can't be written .the disk is full."):
        model_file.write(copy / file, parameters, description, overwrite=True)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_head_of_zeros_is_told(saved, goldens, tmp_path, caplog):
    """A warning says that a file's head is zero, as in the ImageNet-21k files of the original."""
    caplog.set_level(logging.WARNING)
    model = vit_jax.load(saved / "model.npz", num_classes=5)
    vit_jax.save(model, tmp_path / "zeros.npz")
    vit_jax.load(goldens / "vit_token.npz")
    assert not caplog.records
    vit_jax.load(tmp_path / "zeros.npz")
    assert "zeros.npz has a head of zeros: its features are of use, its 5 classes not" in caplog.text


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_that_do_not_fit_are_listed(copy, suffix):
    path = copy / f"model{suffix}"
    arrays = arrays_of(path)
    gone, bent = [n for n in arrays if "Norm_0/bias" in n or "norm1.bias" in n]
    del arrays[gone]
    arrays |= {bent: np.ones(3, np.float32), "tail/kernel": np.ones(3, np.float32)}
    write(path, arrays)
    with pytest.raises(vit_jax.UserError) as error:
        vit_jax.load(path, num_heads=2)
    for said in (
        f"{path} does not fit",
        f"{gone} is missing",
        f"{bent} has shape (3,) where (16,)",
        "tail/kernel is left",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize("file", ["model.npz", "model.safetensors"])
def test_broken_off_files(copy, file):
    path = copy / file
    whole = path.read_bytes()
    for length in [*range(0, 300, 7), *np.linspace(300, len(whole) - 1, 20).astype(int)]:
        path.write_bytes(whole[:length])
        with pytest.raises(vit_jax.UserError, match=f"{path} is no whole {path.suffix} file"):
            model_file.read(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_bytes_are_found(copy, compressed):
    """A changed byte anywhere in an .npz file raises an error, or has no effect on the arrays."""
    path, rng = copy / "model.npz", np.random.default_rng(0)
    kept = arrays_of(path)
    (np.savez_compressed if compressed else np.savez)(path, **kept)
    whole = path.read_bytes()
    for at in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read = dict(model_file.read(path).parameters)
        except vit_jax.UserError:
            continue
        assert read.keys() == kept.keys()  # the byte was in a date or in a field that is not read
        assert all(np.array_equal(read[name], kept[name]) for name in kept)


def edited(path, changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


BROKEN = {
    "text": (lambda d: (d / "model.npz").write_text("hello"), "model.npz is no whole .npz file"),
    "pickle": (lambda d: np.savez(d / "model.npz", x=np.array([{}], dtype=object)), "pickled object x.*refused"),
    "member": (lambda d: shutil.make_archive(d / "z", "zip", d) and (d / "z.zip").rename(d / "model.npz"), "no array"),
    "other": (lambda d: np.savez(d / "model.npz", x=np.ones(3)), "no model of a known format; it has x"),
    "empty": (lambda d: np.savez(d / "model.npz"), "no model of a known format; it has no arrays"),
    "json": (lambda d: (d / "model.json").write_text("{"), "model.json is not valid JSON"),
    "latin": (lambda d: (d / "model.json").write_bytes(b'"\xff"'), "model.json is not valid JSON"),
    "list": (lambda d: (d / "model.json").write_text("[]"), "model.json does not describe a model"),
    "newer": (lambda d: edited(d / "model.json", {"format_version": 99}), "model.json is of format 99.*newer vit_jax"),
    "family": (lambda d: edited(d / "model.json", {"family": "x"}), "model.json does not describe a model"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(copy, kind):
    breaks, message = BROKEN[kind]
    breaks(copy)
    with pytest.raises(vit_jax.UserError, match=message):
        vit_jax.load(copy / "model.npz")


def test_an_unreadable_config_beside(copy):
    path = copy / "model.safetensors"
    arrays = arrays_of(path)
    containers.write_file(
        files.epath.Path(path), ".safetensors", containers.open_file(path).shapes, arrays.items(), {"vit_jax": "{"}
    )
    with pytest.raises(vit_jax.UserError, match="model.safetensors is not valid JSON"):
        vit_jax.load(path)
    write(path, arrays)
    (copy / "config.json").write_text("{")
    with pytest.raises(vit_jax.UserError, match="config.json is not valid JSON"):
        vit_jax.load(path)


def test_what_the_file_cannot_tell(goldens, tmp_path):
    with pytest.raises(vit_jax.UserError, match="24 position embeddings, which are no square grid.*image_size"):
        vit_jax.load(goldens / "vit_gap.npz")
    with pytest.raises(vit_jax.UserError, match="24 position embeddings, which are no square grid.*image_size"):
        vit_jax.load(goldens / "timm_vit_gap_norm.safetensors", num_heads=4)
    for name in ("timm_vit", "hf_vit"):
        with pytest.raises(vit_jax.UserError, match="does not say how many heads.*num_heads=…"):
            vit_jax.load(goldens / f"{name}.safetensors")
    with pytest.raises(vit_jax.UserError, match="posemb=sincos2d or posemb=none"):
        vit_jax.load(goldens / "big_vision_gap_sincos.npz")


def test_places_and_formats(saved, tmp_path, drawn):
    model = drawn()
    for path in (tmp_path / "nothing.npz", tmp_path / "nothing.safetensors", tmp_path / "nothing"):
        with pytest.raises(vit_jax.UserError, match=f"there is no checkpoint {path}"):
            vit_jax.load(path)
    with pytest.raises(vit_jax.UserError, match="neither model.npz nor model.safetensors nor checkpoints"):
        vit_jax.load(tmp_path)
    (tmp_path / "model.bin").touch()
    with pytest.raises(vit_jax.UserError, match="is a pickle of PyTorch"):
        vit_jax.load(tmp_path / "model.bin")
    for name, format, message in [
        ("model.bin", None, "no suffix that says a format; .npz or .safetensors can be written"),
        ("model.npz", "pickle", "unknown format 'pickle'; there are original, big_vision,"),
        ("model.npz", "timm", "can't be of the format timm, whose files end in .safetensors"),
        ("model.safetensors", "big_vision", "can't be of the format big_vision, whose files end in .npz"),
    ]:
        with pytest.raises(vit_jax.UserError, match=message):
            vit_jax.save(model, tmp_path / name, format)
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_published_names(drawn):
    params = split(drawn(pool="map"))[1]
    assert {n for n in names.Published(params) if n.startswith("vit_jax/")} == set()
    assert unflatten(flatten(params)).keys() == params.keys()
    assert names.layer_names("encoder/blocks/mlp/dense2/bias", 2) == [
        f"Transformer/encoderblock_{i}/MlpBlock_3/Dense_1/bias" for i in (0, 1)
    ]
    assert names.layer_names("novel/kernel", 1) == ["vit_jax/novel/kernel"]


def test_the_config_of_a_run_stays(tmp_path, drawn, caplog):
    record = '{"format_version": 1, "config": {}}'
    (tmp_path / "config.json").write_text(record)
    vit_jax.save(drawn(), tmp_path / "model.safetensors")
    assert (tmp_path / "config.json").read_text() == record
    assert "config.json is another model's or a run's and stays" in caplog.text
    vit_jax.save(drawn(depth=3), tmp_path / "model.safetensors", overwrite=True)
    assert (tmp_path / "config.json").read_text() == record
    assert json.loads((tmp_path / "model.config.json").read_text())["model_args"]["depth"] == 3
