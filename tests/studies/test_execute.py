"""Runs of a study: what is kept of them, and how a study goes on."""

import json
import logging
import os
import shutil
import signal

import jax
import pytest

import vit_jax
from helpers.folders import contents, lines
from vit_jax import UserError, config_file
from vit_jax.models import flops
from vit_jax.models.functional import split
from vit_jax.studies import checks, execute, record
from vit_jax.training import loop, start


def rows(folder):
    """Returns the rows of study.json without what is measured in seconds."""
    timed = ("seconds", "train/images_per_second", "train/data_wait")
    found = json.loads((folder / "study.json").read_text())["runs"]
    return [{key: value for key, value in row.items() if not key.endswith(timed)} for row in found]


def test_the_files_of_a_study(study, tmp_path):
    """One run of two trainings, from start to end."""
    folder, one = tmp_path / "study", study("16")
    execute.make(folder, one, one.runs, 30.0)
    execute.draw(folder, one)
    (row,) = json.loads((folder / "study.json").read_text())["runs"]
    run = folder / "runs" / "ViT-examples16-seed0"
    assert (row["name"], row["model"], row["examples"], row["seed"], row["steps"]) == (run.name, "ViT", 16, 0, 2)
    assert row["accuracy"] == row["first/test/accuracy"] == lines(run / "first")[-1]["test/accuracy"]
    assert row["transfer"] == lines(run / "second")[-1]["test/accuracy"]
    assert row["curves"]["accuracy"] == [[line["step"], line["test/accuracy"]] for line in lines(run / "first")]
    recorded = json.loads((run / "first" / "config.json").read_text())
    assert recorded["data"]["num_examples"] == recorded["config"]["data"]["subset"] == 16
    assert json.loads((run / "second" / "config.json").read_text())["config"]["init_from"] == f"{run}/first"
    model = start.model_of(one.runs[0].stages[0].config)
    assert row["exaflops"] == pytest.approx(flops.step(model, 16) * 2 / 1e18)
    assert row["exaflops_total"] == pytest.approx(1.5 * row["exaflops"])
    assert row["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(split(vit_jax.load(run / "first"))[1]))
    assert 0 < row["seconds"] < 600
    assert (folder / "table.md").read_text().count("\n| ViT | 16 | ") == 1
    assert (folder / "accuracy_by_examples.png").stat().st_size and (folder / "accuracy_by_examples.pdf").stat().st_size


def test_the_time_of_a_study(made):
    """By the stand-in 16 images take 2 seconds: 3 steps take 6, however often the runs were interrupted."""
    assert [row["seconds"] for row in json.loads((made / "study.json").read_text())["runs"]] == [6.0, 6.0]


def test_runs_that_are_done_are_not_made_again(study, made, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained again"))
    before = contents(made)
    execute.make(made, study(), study().runs, 30.0)
    execute.draw(made, study())
    assert contents(made) == before


def test_it_goes_on_after_a_stop(study, made, tmp_path, monkeypatch, quick):
    """The study is stopped between the two stages of a run; the results are the same."""
    folder = tmp_path / "study"
    train = loop.train

    def after(config, workdir, **keywords):
        train(config, workdir, **keywords)
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", after)
        with pytest.raises(SystemExit) as ended:
            execute.make(folder, study(), study().runs, 30.0)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == handler
    assert record.states(folder, study(), record.results(folder, study())) == {
        "ViT-examples16-seed0": record.IN_PART, "ViT-examples32-seed0": record.MISSING,
    }  # fmt: skip
    execute.make(folder, study(), study().runs[:1], 30.0)
    assert rows(folder) == rows(made)[:1]
    assert json.loads((folder / "study.json").read_text())["missing"] == ["ViT-examples32-seed0"]
    execute.make(folder, study(), study().runs, 30.0)
    assert rows(folder) == rows(made)


def test_a_run_that_fails_keeps_the_others(study, made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "study")
    folder = tmp_path / "study"
    shutil.rmtree(folder / "runs" / "ViT-examples32-seed0")

    def fails(*_, **__):
        raise UserError("train/loss is nan at step 3")

    monkeypatch.setattr(loop, "train", fails)
    with pytest.raises(UserError, match="^ViT-examples32-seed0, first: train/loss is nan at step 3"):
        execute.make(folder, study(), study().runs, 30.0)
    execute.draw(folder, study())
    assert rows(folder) == rows(made)[:1]


def test_runs_that_left_the_study_are_named_and_kept(study, made, tmp_path, caplog):
    shutil.copytree(made, tmp_path / "study")
    with caplog.at_level(logging.INFO, "vit_jax"):
        execute.make(tmp_path / "study", study("32"), study("32").runs, 30.0)
        execute.draw(tmp_path / "study", study("32"))
    assert "1 runs that are not in the study and are left out: ViT-examples16-seed0" in caplog.text
    assert rows(tmp_path / "study") == rows(made)[1:]
    assert (tmp_path / "study" / "runs" / "ViT-examples16-seed0" / "result.json").exists()


def test_the_progress_of_a_finished_run(study, made, tmp_path, quick, caplog):
    shutil.copytree(made, tmp_path / "study")
    (tmp_path / "study" / "runs" / "ViT-examples32-seed0" / "result.json").unlink()
    with caplog.at_level(logging.INFO, "vit_jax"):
        execute.make(tmp_path / "study", study(), study().runs, 30.0)
    accuracy = rows(made)[1]["accuracy"]
    assert f"2 of 2: ViT, examples 32, seed 0: accuracy {100 * accuracy:.1f} % in " in caplog.text
    assert rows(tmp_path / "study") == rows(made)


@pytest.mark.slow
def test_speeds_are_measured_in_rounds(tmp_path):
    path = tmp_path / "speeds.py"
    path.write_text(
        "from vit_jax import config as config_lib\n"
        "from vit_jax.studies import Measure, Speed, Study, run_at\n"
        "def get_study():\n"
        "    config = config_lib.default()\n"
        "    config.global_batch_size, config.model.name, config.model.image_size = 8, 'Ti/4', 8\n"
        "    config.model.width, config.model.depth, config.model.mlp_dim, config.model.num_heads = 16, 1, 32, 2\n"
        "    runs = tuple(run_at({'model': 'Ti/4', 'round': i}, Speed('speed', config, 0.01)) for i in range(2))\n"
        "    measure = Measure('images_per_second', 'speed', 'images_per_second', percent=False)\n"
        "    return Study('speeds', runs, (measure,), over='round')\n"
    )
    speeds = checks.checked(config_file.result_of(str(path), "get_study"), str(path))
    execute.make(tmp_path / "study", speeds, speeds.runs, 30.0)
    execute.draw(tmp_path / "study", speeds)
    found = json.loads((tmp_path / "study" / "study.json").read_text())["runs"]
    assert [row["round"] for row in found] == [0, 1] and all(row["images_per_second"] > 0 for row in found)
    assert "| Ti/4 |" in (tmp_path / "study" / "table.md").read_text()
    result = tmp_path / "study" / "runs" / "Ti_4-round0" / "result.json"
    result.write_text(result.read_text().replace(execute.measuring.devices(), "4 x TPU v3"))
    execute.make(tmp_path / "study", speeds, speeds.runs, 30.0)  # nothing is missing, and the figures can be redrawn
    (tmp_path / "study" / "runs" / "Ti_4-round1" / "result.json").unlink()
    with pytest.raises(UserError, match="Ti_4-round0 was measured on 4 x TPU v3, and these devices are 8 x cpu"):
        execute.make(tmp_path / "study", speeds, speeds.runs, 30.0)
