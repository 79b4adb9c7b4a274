"""The command `predict`: class names and probabilities from a run's folder or a file, and errors of one sentence."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax
from vit_jax import predict
from vit_jax.data import decode

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run's folder, with a model that gives the fox the highest probability, and then the bee."""
    folder = tmp_path_factory.mktemp("run")
    model = vit_jax.create("Ti/4", image_size=8, num_classes=6, width=16, depth=1, mlp_dim=32, num_heads=2)
    model.head.bias[...] = np.array([0, 3, 0, 0, 0, 5], np.float32)
    vit_jax.save(model, folder / "model.npz")
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**described, "class_names": NAMES}))
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Returns the paths of images of several formats and sizes, more than one batch holds."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{i}.{('png', 'jpg', 'webp')[i % 3]}" for i in range(predict._BATCH + 3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((5 + i, 9, 3), 7 * i, np.uint8)).convert(("L", "RGB")[i % 2]).save(path)
    return [str(path) for path in paths]


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize("file", ["", "model.npz"])
def test_prints_names(start, run, images, file):
    code, out, err = ended(start("predict", f"--model={run / file}", "--top=2", *images, without=("tensorflow",)))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[::3] == images
    assert all(line.split()[1] == "fox" for line in lines[1::3])
    assert all(line.split()[1] == "bee" for line in lines[2::3])
    assert lines[1].split()[0] == "86.0%"


def test_without_names_there_are_numbers(start, run, images, tmp_path):
    shutil.copy(run / "model.npz", tmp_path / "published.npz")
    code, out, err = ended(start("predict", f"--model={tmp_path}/published.npz", "--top=99", images[0]))
    assert (code, err) == (0, "")
    assert [line.split()[1:] for line in out.splitlines()[1:3]] == [["class", "5"], ["class", "1"]]
    assert len(out.splitlines()) == 7


def test_preprocessing_comes_with_the_weights(start, goldens, images, tmp_path):
    """For a folder of transformers, the mean and deviation in its preprocessor_config.json are applied."""
    shutil.copy(goldens / "hf_vit.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(str(np.load(goldens / "hf_vit.npz")["config"]))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    processor = {"image_mean": mean, "image_std": std, "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    code, out, err = ended(start("predict", f"--model={tmp_path}", "--top=1", images[7]))
    assert (code, err) == (0, "")
    pixels = decode.for_evaluation(pathlib.Path(images[7]).read_bytes(), (32, 32), None) / 255
    logits = vit_jax.load(tmp_path)(((pixels - mean) / std).astype(np.float32)[None])[0]
    assert out.splitlines()[1].split() == [f"{jax.nn.softmax(logits).max():.1%}", "class", str(logits.argmax())]


def test_goes_on_after_what_can_not_be_read(start, run, images, tmp_path):
    """Images that can't be read are named and counted, and all the others are classified."""
    bad = [tmp_path / name for name in ("text.png", "empty.png", "cut.png")]
    for path, content in zip(bad, (b"hello", b"", pathlib.Path(images[0]).read_bytes()[:40]), strict=True):
        path.write_bytes(content)
    code, out, err = ended(start("predict", f"--model={run}", "--top=1", bad[0], *images, bad[1], images[0], bad[2]))
    assert code == 1
    assert out.splitlines()[::2] == [*images, images[0]]
    *named, last = err.splitlines()
    assert [line.split(" can't be read as an image (")[0] for line in named] == list(map(str, bad))
    assert last == f"error: 3 of {len(images) + 4} images can't be read; they are named above"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which model? add --model=FOLDER_OR_FILE"),
        (["{image}"], "which model?"),
        (["--model={run}"], "which images?"),
        (["--model={run}", "{tmp}/none.png"], "no image file {tmp}/none.png"),
        (["--model={run}", "{tmp}"], "no image file {tmp}"),
        (["--model={run}", "--top=0", "{image}"], "top"),
        (["--model={run}", "--size=8", "{image}"], "'size'"),
        (["--model={run}", "--config.seed=1", "{image}"], "leave out --config.seed"),
    ],
)
def test_mistakes_are_found_before_jax(start, run, images, tmp_path, args, said):
    places = {"run": run, "image": images[0], "tmp": tmp_path}
    code, out, err = ended(start("predict", *[arg.format(**places) for arg in args], without=("jax", "tensorflow")))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said.format(**places) in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "image", "said"),
    [
        ("{tmp}/none", "{image}", "there is no checkpoint {tmp}/none"),
        ("{tmp}", "{image}", "{tmp} is no run's folder"),
        ("{image}", "{image}", "{image} "),
        ("{tmp}/headless.npz", "{image}", "has no head"),
        ("{tmp}/zeros.npz", "{image}", "has a head of zeros, as the public ImageNet-21k files do"),
    ],
)
def test_what_can_not_be_read(start, run, images, tmp_path, model, image, said):
    if "headless" in model:
        vit_jax.save(vit_jax.load(run, num_classes=0), tmp_path / "headless.npz")
    if "zeros" in model:
        vit_jax.save(vit_jax.load(run, num_classes=21_843), tmp_path / "zeros.npz")
    places = {"run": run, "image": images[0], "tmp": tmp_path}
    code, out, err = ended(start("predict", f"--model={model.format(**places)}", image.format(**places)))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said.format(**places) in err
    assert len(err.splitlines()) == 1
