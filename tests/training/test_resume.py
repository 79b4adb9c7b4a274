"""Runs that are started again: they go on to the same end, or they refuse a damaged folder or another config."""

import logging
import shutil

import pytest

import vit_jax
from helpers.folders import checkpoints as steps
from helpers.folders import contents, lines, numbers, refused
from vit_jax.training import metrics


def halve(folder, step):
    """Truncates the arrays of a checkpoint to half, as a full disk would."""
    for path in (folder / "checkpoints" / str(step)).rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def stopped(finished, tmp_path):
    """Returns a copy of the folder `finished` without model.npz, so that the run is not complete."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "model.npz").unlink()
    return folder


def test_complete_run_started_again_changes_nothing(small, finished, caplog):
    before = contents(finished)
    with caplog.at_level(logging.INFO, "vit_jax"):
        assert vit_jax.train(small(), finished) == {}
    assert "complete" in caplog.text
    assert contents(finished) == before


def without_checkpoint(folder):
    shutil.rmtree(folder / "checkpoints" / "12")


def without_checkpoints(folder):
    shutil.rmtree(folder / "checkpoints")


def with_leftovers(folder):
    """Adds what kills leave behind: a half-written checkpoint, a half-written line, and other partial files."""
    (folder / "checkpoints" / "12").rename(folder / "checkpoints" / "12.orbax-checkpoint-tmp")
    text = (folder / metrics.FILE).read_text()
    (folder / metrics.FILE).write_text(text + text.splitlines()[-1] + "\n" + '{"step": 13, "tr')
    for name in ("config.json", metrics.FILE, "model.json", "model.npz"):
        (folder / f".{name}.partial").write_text("{")


def with_broken_checkpoint(folder):
    halve(folder, 12)
    shutil.copytree(folder / "checkpoints" / "9", folder / "checkpoints" / "12.broken")  # left by an earlier failure


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: None, "going on from the checkpoint of step 12"),
        pytest.param(without_checkpoint, "going on from the checkpoint of step 9", marks=pytest.mark.slow),
        pytest.param(without_checkpoints, "step 2 of 12", marks=pytest.mark.slow),
        (with_leftovers, "going on from the checkpoint of step 9"),
        (with_broken_checkpoint, "went back from checkpoint 12 to the one before, 9"),
    ],
)
def test_goes_on_to_the_same_end(small, finished, stopped, caplog, damage, said):
    damage(stopped)
    with caplog.at_level(logging.INFO, "vit_jax"):
        vit_jax.train(small(), stopped)
    assert said in caplog.text
    assert (stopped / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()
    assert numbers(stopped) == numbers(finished)
    assert steps(stopped) == [9, 12]
    assert not [path for path in stopped.rglob("*") if "partial" in path.name or "tmp" in path.name]


def test_no_whole_checkpoint_is_an_error(small, stopped):
    halve(stopped, 9)
    halve(stopped, 12)
    refused(small(), stopped, "none of the checkpoints 12, 9", "move the folder away")


@pytest.mark.slow
def test_goes_on_with_other_free_keys(small, finished, stopped):
    without_checkpoint(stopped)
    free = {"mesh.fsdp": 2, "data.threads": 1, "log_steps": 1, "checkpoint.every_steps": 1, "checkpoint.keep": 5,
            "evaluations.test.every_steps": None}  # fmt: skip
    vit_jax.train(small(free), stopped)
    for key in ("train/loss", "test/loss"):
        assert lines(stopped)[-1][key] == pytest.approx(lines(finished)[-1][key], rel=1e-4)
    assert [line["step"] for line in lines(stopped)] == list(range(1, 13))
    assert steps(stopped) == [9, 10, 11, 12]


def test_refuses_a_run_of_another_config(small, finished):
    changes = {"seed": 1, "model.dropout": 0.0, "checkpoint.keep": 1}
    refused(small(changes), finished, "config.seed was 0 and is 1", "config.model.dropout was 0.1 and is 0.0")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 3}', '{"format_version": 99, "config": {}}', "\0"])
def test_refuses_a_damaged_config_json(small, stopped, text):
    (stopped / "config.json").write_text(text)
    refused(small(), stopped, str(stopped / "config.json"))


@pytest.mark.parametrize("name", ["checkpoints", "model.npz"])
def test_refuses_a_folder_that_is_no_run(small, stopped, name):
    for path in [path for path in stopped.iterdir() if path.name != name]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (stopped / name).mkdir(exist_ok=True)
    refused(small(), stopped, str(stopped), name, "no config.json")
