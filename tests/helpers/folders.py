"""The folders of runs and of images: what the tests of training read in the former and write to the latter."""

import json

import numpy as np
import pytest
from PIL import Image

import vit_jax
from vit_jax import UserError
from vit_jax.training import metrics


def lines(folder):
    """Returns the lines of metrics.jsonl, all of which must be whole."""
    return [json.loads(line) for line in (folder / metrics.FILE).read_text().splitlines()]


def lines_so_far(folder):
    """Returns the whole lines of metrics.jsonl while the run writes it; there may be none yet."""
    path = folder / metrics.FILE
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def numbers(folder):
    """Returns the lines of metrics.jsonl without times and speeds."""
    timed = ("time", "train/images_per_second", "train/data_wait")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines(folder)]


def checkpoints(folder):
    """Returns the steps of the checkpoints, in order."""
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def contents(folder):
    """Returns the bytes of every file below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(config, workdir, *said):
    """Checks that training raises a UserError of one line, with all the words in `said`, and changes no file."""
    before = contents(workdir) if workdir.is_dir() else workdir.exists()
    with pytest.raises(UserError) as error:
        vit_jax.train(config, workdir)
    message = str(error.value)
    assert all(word in message for word in said), message
    assert "\n" not in message
    assert before == (contents(workdir) if workdir.is_dir() else workdir.exists())


def write_images(folder):
    """Writes 16 images for training and 8 for testing, of 8x8 pixels and four classes, from `a` to `d`."""
    rng = np.random.default_rng(0)
    for i in range(24):
        path = folder / ("train", "test")[i % 3 == 2] / "abcd"[i % 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
