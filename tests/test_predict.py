"""The command `predict`: class names and probabilities from a run's folder or a file, and errors of one sentence."""

import csv
import itertools
import json
import pathlib
import shutil
import time

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax
from vit_jax.data import decode

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run's folder, with a model that gives the fox the highest probability, and then the bee."""
    folder = tmp_path_factory.mktemp("run")
    model = vit_jax.create("Ti/4", image_size=8, num_classes=6, width=16, depth=1, mlp_dim=32, num_heads=2)
    model.head.bias[...] = np.array([0, 3, 0, 0, 0, 5], np.float32)
    model.class_names = NAMES
    vit_jax.save(model, folder / "model.npz")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Returns the paths of images of several formats and sizes, more than one batch holds."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{i}.{('png', 'jpg', 'webp')[i % 3]}" for i in range(32 + 3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((5 + i, 9, 3), 7 * i, np.uint8)).convert(("L", "RGB")[i % 2]).save(path)
    return [str(path) for path in paths]


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize("file", ["", pytest.param("model.npz", marks=pytest.mark.slow)])
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


@pytest.fixture
def album(tmp_path):
    """Returns a function that makes a folder of images, every so many of which can't be read."""

    def make(count, every):
        rng, folder = np.random.default_rng(0), tmp_path / "album"
        for number in range(count):
            path = folder / str(number % 7) / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
            if number % every == every - 1:
                path.write_bytes(b"no image")
        bad = sorted(str(path) for path in folder.rglob("*.png") if path.read_bytes() == b"no image")
        return folder, bad

    return make


@pytest.mark.parametrize(
    ("count", "every"), [pytest.param(*many, marks=pytest.mark.slow) for many in ((60, 20), (2000, 100))]
)
def test_all_that_can_be_read_is_in_the_files(start, run, album, tmp_path, count, every):
    """What is written is what the model makes of each image alone; the others are named in their places."""
    folder, bad = album(count, every)
    lines, arrays = tmp_path / "found.jsonl", tmp_path / "features.npz"
    flags = [f"--model={run}", "--format=jsonl", f"--output={lines}", f"--features={arrays}", "--tokens"]
    code, out, err = ended(start("predict", *flags, "--top=2", "--batch_size=16", folder, without=("tensorflow",)))
    assert (code, out) == (1, "")
    assert err == f"error: {len(bad):,} of {count:,} images can't be read; they are named in {lines}\n"
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["path"] for row in rows] == sorted(map(str, folder.rglob("*.png")))
    assert [row["path"] for row in rows if "error" in row] == bad and len(bad) == count // every
    assert all(row["error"].startswith(f"{row['path']} can't be read as an image") for row in rows if "error" in row)
    read = [row for row in rows if "error" not in row]
    model = vit_jax.load(run)
    pixels = vit_jax.read_images([row["path"] for row in read], model)
    probabilities = jax.nn.softmax(model(pixels))
    for row, expected in zip(read, probabilities, strict=True):
        assert [(each["name"], each["label"]) for each in row["classes"]] == [("fox", 5), ("bee", 1)]
        np.testing.assert_allclose([each["probability"] for each in row["classes"]], expected[np.array([5, 1])], 1e-4)
    with np.load(arrays) as found:
        assert list(found["paths"]) == [row["path"] for row in read]
        np.testing.assert_allclose(found["features"], model.features(pixels), atol=1e-4)
        np.testing.assert_allclose(found["tokens"], model.encode(pixels), atol=1e-4)


def test_csv_of_a_list_and_a_pattern(start, run, album, tmp_path):
    """A list may name files that are missing; a pattern is sorted; all rows have all columns; --overwrite replaces."""
    folder, bad = album(14, 7)
    good = sorted(set(map(str, folder.rglob("*.png"))) - set(bad))
    listed, target = tmp_path / "list.txt", tmp_path / "found.csv"
    listed.write_text(f"{good[0]}\n\nnone.png\r\n{good[1]}\n")
    target.write_text("old")
    flags = [f"--model={run}", "--format=csv", "--top=1", f"--output={target}", "--overwrite"]
    code, _, err = ended(start("predict", *flags, "-", f"{folder}/6/*.png", limit=f"exec <{listed}"))
    assert code == 1 and err.startswith("error: 3 of 5 images can't be read; ")
    header, *rows = csv.reader(target.read_text().splitlines())
    assert header == ["path", "error", "name_1", "label_1", "probability_1"]
    assert [row[0] for row in rows] == [good[0], "none.png", good[1], *bad]
    assert all(row[2:] == ["", "", ""] and "image" in row[1] for row in (rows[1], *rows[3:]))
    assert all(row[1:4] == ["", "fox", "5"] and 0.8 < float(row[4]) < 0.9 for row in (rows[0], rows[2]))


def test_features_of_a_model_that_can_not_classify(start, run, images, tmp_path):
    vit_jax.save(vit_jax.load(run, num_classes=0), tmp_path / "headless.npz")
    place = tmp_path / "found.npz"
    code, out, err = ended(start("predict", f"--model={tmp_path}/headless.npz", f"--features={place}", *images[:3]))
    assert (code, out, err) == (0, "", "")
    with np.load(place) as found:
        assert found["features"].shape == (3, 16) and set(found) == {"paths", "features"}


def test_killed_half_way_it_leaves_whole_lines(start, run, images, tmp_path):
    listed, target = tmp_path / "list.txt", tmp_path / "found.jsonl"
    listed.write_text("".join(f"{path}\n" for path in itertools.islice(itertools.cycle(images), 200_000)))
    flags = [f"--model={run}", "--format=jsonl", f"--output={target}"]
    process = start("predict", *flags, "-", limit=f"exec <{listed}")
    while process.poll() is None and not (target.exists() and target.stat().st_size > 50_000):
        time.sleep(0.01)
    process.kill()
    assert ended(process)[0] == -9
    text = target.read_text()
    assert text.endswith("\n")
    found = [json.loads(line)["path"] for line in text.splitlines()]
    assert found == list(itertools.islice(itertools.cycle(images), len(found)))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which model? add --model=FOLDER_OR_FILE"),
        (["{image}"], "which model?"),
        (["--model={run}"], "which images?"),
        (["--model={run}", "{tmp}/none.png"], "no image or folder {tmp}/none.png"),
        (["--model={run}", "{tmp}"], "no images in {tmp};"),
        (["--model={run}", "{tmp}/*.png"], "nothing matches the pattern {tmp}/*.png"),
        (["--model={run}", "-"], "standard input names no image"),
        (["--model={run}", "--format=xml", "{image}"], "format"),
        (["--model={run}", "--output={tmp}/none/a.jsonl", "{image}"], "no folder {tmp}/none"),
        (["--model={run}", "--output={image}", "{image}"], "{image} is there already"),
        (["--model={run}", "--features={tmp}/a.txt", "{image}"], "a name that ends in .npz"),
        (["--model={run}", "--features={image}.npz", "--output={image}.npz", "{image}"], "name two files"),
        (["--model={run}", "--tokens", "{image}"], "add --features"),
        (["--model={run}", "--top=0", "{image}"], "top"),
        (["--model={run}", "--size=8", "{image}"], "'size'"),
        (["--model={run}", "--config.seed=1", "{image}"], "leave out --config.seed"),
    ],
)
def test_mistakes_are_found_before_jax(start, run, images, tmp_path, args, said):
    places = {"run": run, "image": images[0], "tmp": tmp_path}
    args = [arg.format(**places) for arg in args]
    code, out, err = ended(start("predict", *args, without=("jax", "tensorflow"), limit="exec </dev/null"))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said.format(**places) in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "image", "said"),
    [
        pytest.param("{tmp}/none", "{image}", "there is no checkpoint {tmp}/none", marks=pytest.mark.slow),
        pytest.param("{tmp}", "{image}", "{tmp} is no run's folder", marks=pytest.mark.slow),
        ("{image}", "{image}", "{image} "),
        pytest.param("{tmp}/headless.npz", "{image}", "has no head", marks=pytest.mark.slow),
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
