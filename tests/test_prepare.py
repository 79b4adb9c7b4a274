"""The command `prepare`: from images to a data set that is read, and errors that are one sentence."""

import os
import signal
import time

import numpy as np
import pytest
from PIL import Image

from helpers import images
from helpers.folders import contents, write_images
from vit_jax import data
from vit_jax.data.spec import Spec

LIGHT = ("jax", "tensorflow", "sklearn", "matplotlib")  # prepare needs none of them


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path / "photos")
    return tmp_path / "photos"


def test_prepares_and_verifies(start, photos, tmp_path):
    args = ("--dataset=folder", f"--data_dir={photos}", "--shorter_side=6", f"--out={tmp_path}/out", "--workers=2")
    code, out, err = ended(start("prepare", *args, without=LIGHT))
    folder = f"{tmp_path}/out/photos/1.0.0"
    told = f"read it with --config.data.name=photos --config.data.data_dir={tmp_path}/out\n"
    assert (code, out, err) == (0, f"wrote {folder}: images: train 16, test 8; {told}", "")
    with data.open(Spec("photos", "test", f"{tmp_path}/out", size=(6, 6))) as dataset:
        assert next(dataset.examples(8))["mask"].sum() == 8
    verified = ended(start("prepare", f"--verify={tmp_path}", without=LIGHT))
    assert verified == (0, f"{folder}: 2 files are as they were written\n", "")


def test_help(start):
    code, out, err = ended(start("prepare", "--help", without=(*LIGHT, "numpy", "PIL", "tensorflow_datasets")))
    assert (code, err) == (0, "") and "python -m vit_jax.prepare --dataset=imagenet2012" in out
    for name in ("dataset", "data_dir", "out", "splits", "shorter_side", "quality", "verify", "preview", "config"):
        assert f"--{name}:" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which data set? add --dataset=NAME"),
        (["--dataset=folder"], "where to? add --out=DIR"),
        (["--dataset=folder", "--out={tmp}/out"], "where are the images? add --data_dir=DIR"),
        (["--dataset=folder", "--data_dir={tmp}", "--out=gs://a/b"], "--out=gs://a/b is no local folder"),
        (["--dataset=synthetic", "--out={tmp}/out"], "synthetic images are made while they are read"),
        (["--dataset=digits", "--out={tmp}/out", "--quality=80"], "nothing reads --quality without --shorter_side"),
        (["--dataset=folder", "--out={tmp}/out", "--splits=train[:10%]"], "it takes names of whole splits"),
        (["--dataset=folder", "--out={tmp}/out", "--shorter_side=0"], "--shorter_side=0: 0 is not a positive integer"),
        (["--dataset=folder", "--verify={tmp}"], "--dataset and --verify are several commands; give one"),
        (["--verify={tmp}", "--out={tmp}/out"], "nothing reads --out with --verify; leave it out"),
        (["--dataset=folder", "--config.seed=1"], "nothing reads --config.seed with --dataset; leave it out"),
        (["--preview={tmp}/a.png"], "which config? add --config=FILE.py"),
        (["folder"], "what is 'folder'? the data set is named by --dataset=NAME"),
    ],
)
def test_mistakes_are_found_before_tensorflow(start, photos, tmp_path, args, said):
    before = contents(tmp_path)
    places = {"tmp": tmp_path, "photos": photos}
    code, out, err = ended(start("prepare", *[arg.format(**places) for arg in args], without=LIGHT))
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("error: ") and said.format(**places) in err
    assert contents(tmp_path) == before and not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_written(start, photos, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "out").mkdir(mode=0o500)
    code, out, err = ended(start("prepare", "--dataset=folder", f"--data_dir={photos}", f"--out={tmp_path}/out"))
    assert (code, out) == (1, "") and f"--out {tmp_path}/out can't be written" in err


def test_a_full_disk(start, photos, tmp_path):
    rng = np.random.default_rng(0)
    for path in (photos / "train" / "a").iterdir():
        Image.fromarray(rng.integers(0, 256, (300, 300, 3), np.uint8)).save(path)
    args = ("--dataset=folder", f"--data_dir={photos}", f"--out={tmp_path}/out", "--workers=1")
    code, out, err = ended(start("prepare", *args, limit="ulimit -f 64", without=LIGHT))
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert "can't be written" in err and "File too large" in err and "start the same command again to go on" in err
    assert [path.name for path in (tmp_path / "out" / "photos").iterdir()] == ["incomplete.1.0.0"]


def test_a_worker_that_dies(start, photos, tmp_path):
    """Nothing is left behind by which the same command could not go on."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys, os\n"
        "if any('multiprocessing.spawn' in arg and 'spawn_main' in arg for arg in sys.orig_argv): os._exit(9)\n"
    )
    args = ("--dataset=folder", f"--data_dir={photos}", f"--out={tmp_path}/out", "--workers=2")
    code, out, err = ended(start("prepare", *args, limit=f"export PYTHONPATH={broken}:$PYTHONPATH"))
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert "a worker process ended without a reason" in err and "with fewer --workers" in err
    assert ended(start("prepare", *args[:-1], "--workers=1"))[0] == 0


def test_unreadable_images_are_told(start, photos, tmp_path):
    broken = photos / "train" / "a" / "0.png"
    broken.write_bytes(images.UNREADABLE["truncated.jpg"])
    args = ("--dataset=folder", f"--data_dir={photos}", f"--out={tmp_path}/out", "--workers=1")
    code, out, err = ended(start("prepare", *args, without=LIGHT))
    first, last = err.splitlines()
    assert (code, out) == (1, "") and f"{broken} can't be read (image file is truncated" in first
    assert last.startswith(f"error: 1 of 24 images can't be read: {broken} (image file is truncated")
    code, out, err = ended(start("prepare", *args, "--corrupt=skip", without=LIGHT))
    assert (
        (code, err.count("\n")) == (0, 1)
        and "2 of 2 shards are made" in err
        and "train 15, test 8, 1 left out that can't be read;" in out
    )


@pytest.mark.slow
def test_preview(start, tmp_path):
    args = ("--config=configs/digits.py", f"--config.data.data_dir={tmp_path}", "--config.augmentation.flip")
    code, out, err = ended(start("prepare", f"--preview={tmp_path}/a.png", *args, without=("tensorflow",)))
    assert (code, out) == (0, f"wrote {tmp_path}/a.png\n"), err
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) >= 8 * 8  # eight rows of images of 8x8 pixels
    code, out, err = ended(start("prepare", f"--preview={tmp_path}/b.png", *args[:2], "--config.augmentation.flop"))
    assert (code, out) == (1, "") and "nearest valid key is config.augmentation.flip" in err


@pytest.mark.slow
def test_killed_and_started_again(start, tmp_path):
    """Two worker processes, and kill -9 of the main one: they end with it, and what they had finished is kept."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos" / "all"
    folder.mkdir(parents=True)
    for i in range(120):
        Image.fromarray(rng.integers(0, 256, (300, 300, 3), np.uint8)).save(folder / f"{i}.jpg")
    args = ("--dataset=folder", f"--data_dir={folder.parent}", "--shorter_side=200", "--shards=20", "--workers=2")
    process = start("prepare", *args, f"--out={tmp_path}/out")
    begun = tmp_path / "out" / "photos" / "incomplete.1.0.0"
    deadline = time.monotonic() + 120
    while len(list((begun / ".shards").glob("*.json"))) < 4:  # the plan and three shards
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)  # ends when the workers, too, have closed stderr
    made = {path.name: path.stat().st_mtime_ns for path in begun.glob("photos*")
            if (begun / ".shards" / f"{path.name}.json").exists()}  # fmt: skip
    assert 3 <= len(made) < 20
    for place in ("out", "whole"):
        code, _, err = ended(start("prepare", *args, f"--out={tmp_path}/{place}"))
        assert code == 0, err
    once, twice = ({p.name: p.read_bytes() for p in (tmp_path / place / "photos" / "1.0.0").iterdir()}
                   for place in ("whole", "out"))  # fmt: skip
    assert once == twice
    assert {name: (begun.parent / "1.0.0" / name).stat().st_mtime_ns for name in made} == made
