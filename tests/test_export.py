"""The command `export`: the file and its description, and errors of one sentence that leave nothing behind."""

import json
import sys

import numpy as np
import onnxruntime
import pytest

import vit_jax
from helpers import models
from vit_jax.errors import UserError
from vit_jax.exporting import check, onnx_file
from vit_jax.models.architecture import Preprocessing

NAMES = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns the file of a model with class names and a crop."""
    model = models.create()
    model.class_names = NAMES
    model.preprocessing = Preprocessing(model.arch.image_size, shorter_side=18, mean=(0.4, 0.5, 0.6))
    path = tmp_path_factory.mktemp("model") / "model.npz"
    vit_jax.save(model, path)
    return path


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_writes_a_file_and_its_description(start, saved, tmp_path):
    target = tmp_path / "model.onnx"
    flags = [f"--model={saved}", "--uint8", "--output=probabilities"]
    code, out, err = ended(start("export", *flags, target, without=("tensorflow", "matplotlib")))
    assert (code, err) == (0, "")
    assert out.startswith(f"wrote {target} and {target}.json; it differs from the model by ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]
    about = json.loads((tmp_path / "model.onnx.json").read_text())
    assert (about["format_version"], about["vit_jax"], about["format"]) == (1, vit_jax.__version__, "onnx")
    assert about["input"]["shape"] == ["batch", 16, 12, 3] and about["input"]["dtype"] == "uint8"
    assert about["input"]["range"] == [[0, 255]] * 3
    assert about["output"]["name"] == "probabilities" and about["output"]["shape"] == ["batch", 5]
    assert about["class_names"] == list(NAMES)
    assert about["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
    assert "just covers 24x18" in about["resize"] and "crop its centre of 16x12" in about["resize"]
    assert 0 <= about["agreement"]["difference"] <= about["agreement"]["limit"] == 1e-4
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 12, 3), np.uint8)
    (found,) = session.run([about["output"]["name"]], {about["input"]["name"]: pixels})
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_size_dtype_and_batch_of_stablehlo(start, saved, tmp_path):
    target = tmp_path / "model.stablehlo"
    (tmp_path / "model.stablehlo").write_text("old")
    flags = [f"--model={saved}", "--image_size=24x20", "--dtype=bfloat16", "--batch=2", "--overwrite"]
    assert ended(start("export", *flags, target, without=("tensorflow", "onnx", "jax2onnx")))[0] == 0
    about = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert about["input"]["shape"] == [2, 24, 20, 3] and about["platforms"] == ["cpu", "cuda", "tpu"]
    assert about["input"]["range"][0] == pytest.approx([-0.8, 1.2]) and about["agreement"]["batches"] == [2]
    assert about["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which model? add --model=FOLDER_OR_FILE"),
        (["--model={model}"], "export takes one file to write"),
        (["--model={model}", "{tmp}/a.onnx", "{tmp}/b.onnx"], "export takes one file to write"),
        (["--model={model}", "{tmp}/a.pb"], "name a file that ends in .onnx or .stablehlo"),
        (["--model={model}", "{tmp}/none/a.onnx"], "there is no folder {tmp}/none"),
        (["--model={model}", "{tmp}/there.onnx"], "{tmp}/there.onnx is there already; add --overwrite"),
        (["--model={model}", "{tmp}/other.onnx"], "{tmp}/other.onnx.json is there and describes no exported file"),
        (["--model={model}", "{tmp}/other.onnx", "--overwrite"], "describes no exported file"),
        (["--model={model}", "{tmp}/a.onnx", "--batch=0"], "--batch=0 is no number of images"),
        (["--model={model}", "{tmp}/a.onnx", "--batch=many"], "--batch=many is no number of images"),
        (["--model={model}", "{tmp}/a.onnx", "--output=classes"], "output"),
        (["--model={model}", "{tmp}/a.onnx", "--image_size=1,2,3"], "--image_size takes a number or HEIGHT,WIDTH"),
        (["--model={model}", "{tmp}/a.onnx", "--config.seed=1"], "leave out --config.seed"),
    ],
)
def test_mistakes_are_found_before_jax(start, saved, tmp_path, args, said):
    (tmp_path / "there.onnx").write_text("kept")
    (tmp_path / "other.onnx.json").write_text('{"kept": true}')
    places = {"model": saved, "tmp": tmp_path}
    process = start("export", *[arg.format(**places) for arg in args], without=("jax", "tensorflow"))
    code, out, err = ended(process)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("error: ") and said.format(**places) in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.onnx.json", "there.onnx"]


def refused(model, path, said, **options):
    """Checks that an export is refused with a sentence, and that the folder of the file stays as it was."""
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(UserError, match=said):
        vit_jax.export(model, path, **options)
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


def test_a_package_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    refused(models.create(), tmp_path / "a.onnx", "need the package jax2onnx; pip install 'vit_jax.export.'")


@pytest.mark.parametrize("suffix", ["onnx", "stablehlo"])
def test_a_file_that_differs_is_not_kept(monkeypatch, tmp_path, suffix):
    """What stood there before is kept."""
    path = tmp_path / f"a.{suffix}"
    path.write_text("kept")
    monkeypatch.setattr(check, "LIMIT", -1.0)
    refused(models.create(), path, "differs from the model by .* on batches of 3 and 1 random images", overwrite=True)


@pytest.mark.parametrize("wrong", [1e-3, np.nan])
def test_differences_are_measured(wrong):
    """A difference of one output of one image is seen; so is a value that is not a number."""
    model = models.create()
    what = check.Exported(model)

    def run(images):
        found = np.array(model(images))
        found[-1, 2] += wrong if len(images) == 1 else 0
        return found

    found = check.agreement(what, run)
    assert found.difference == pytest.approx(1e-3, rel=1e-2) if wrong == 1e-3 else found.difference == np.inf
    with pytest.raises(UserError, match="may by"):
        check.check(found, "a.onnx")


def test_the_limit_grows_with_large_outputs():
    model = models.create()
    model.head.kernel[...] = 1000 * model.head.kernel[...]
    found = check.agreement(check.Exported(model), lambda images: np.asarray(model(images)))
    assert found.largest > 100 and found.limit == pytest.approx(1e-4 * found.largest)


def test_a_part_that_can_not_be_converted(monkeypatch, tmp_path):
    """The message names the operation."""
    onnx_file._load_plugins()
    from jax2onnx.plugins.plugin_system import PLUGIN_REGISTRY

    monkeypatch.delitem(PLUGIN_REGISTRY, "tanh")
    said = "jax2onnx can't convert this model .*'tanh'.*; take OUT.stablehlo"
    refused(models.create(pre_logits=8), tmp_path / "a.onnx", said)


def test_what_a_model_has_not(tmp_path):
    refused(models.create(num_classes=0), tmp_path / "a.onnx", "the model has no head, so it has no logits")
    zeros = vit_jax.create("Ti/16", image_size=16, width=16, depth=1, mlp_dim=16, num_heads=1, num_classes=3)
    refused(
        zeros,
        tmp_path / "a.onnx",
        "a head of zeros, as the public ImageNet-21k files do, so it has no probabilities",
        output="probabilities",
    )
    refused(zeros, tmp_path / "a.onnx", "output is 'tokens'; it takes logits, probabilities or", output="tokens")
    refused(zeros, tmp_path / "a.onnx", "batch is 0; a batch has at least one image", batch=0)


def test_a_model_that_is_too_large(monkeypatch, tmp_path):
    from vit_jax.exporting import job

    monkeypatch.setattr(job, "_MOST", 10_000)
    refused(models.create(), tmp_path / "a.onnx", ".onnx files hold at most 2; add --dtype=bfloat16")
    refused(models.create(), tmp_path / "a.stablehlo", "hold at most 2; export a smaller model")
