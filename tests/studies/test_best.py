"""A stage that trains once more what is the best of earlier trainings."""

import json
import os
import runpy
import shutil
import signal

import numpy as np
import pytest

from helpers.folders import contents
from small_study import SMALL
from vit_jax import UserError
from vit_jax import config as config_lib
from vit_jax.studies import Best, Measure, Study, Training, checks, choosing, execute, record, run_at
from vit_jax.training import loop
from vit_jax.training.run import Run

RATES = {"low": 0.01, "high": 0.03, "middle": 0.02}  # the stand-in for training finds the highest one the best
HELD_OUT = "held_out/accuracy"
DONE = "runs/ViT-seed0"


def config(rate, split, evaluated, steps=4):
    made = runpy.run_path(str(SMALL))["get_config"]()
    made.total_steps, made.checkpoint.every_steps, made.model.depth = steps, 1, 1
    made.optimizer.learning_rate, made.data.split = rate, split
    del made.evaluations["test"]
    made.evaluations[evaluated] = config_lib.evaluation(split="train[48:]" if evaluated == "held_out" else "test")
    return made


def study(*overrides, rates=RATES, final_rates=None, measure=HELD_OUT, least=False, steps=4):
    kept = [Training(name, config(rate, "train[:48]", "held_out", steps)) for name, rate in rates.items()]
    whole = {name: config(rate, "train", "test", steps) for name, rate in (final_rates or rates).items()}
    run = run_at({"model": "ViT", "seed": 0}, *kept, Best("final", whole, measure, least))
    return checks.checked(Study("best", (run,), (Measure("accuracy", "final", "test/accuracy"),)), "best.py", overrides)


def make(folder, of):
    execute.make(folder, of, of.runs, 30.0)
    execute.draw(folder, of)


def without_times(folder):
    """Returns what result.json holds, without measured times."""
    return {
        name: {key: value for key, value in stage.items() if key != "seconds"}
        for name, stage in json.loads((folder / DONE / "result.json").read_text())["stages"].items()
    }


def refused(folder, of, *said):
    before = contents(folder)
    with pytest.raises(UserError) as error:
        record.results(folder, of)
    message = str(error.value)
    assert all(words in message for words in said), message
    assert "\n" not in message and contents(folder) == before


@pytest.fixture(scope="module")
def complete(untrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("best") / "study"
    with untrained():
        make(folder, study())
    return folder


@pytest.fixture
def made(complete, tmp_path, quick):
    """Returns the folder of the study, complete."""
    return shutil.copytree(complete, tmp_path / "study")


def test_the_best_is_trained_on_everything(made):
    stages = without_times(made)
    assert [stages[name]["data"]["num_examples"] for name in (*RATES, "final")] == [48, 48, 48, 64]
    final = json.loads((made / DONE / "final" / "config.json").read_text())["config"]
    assert final["optimizer"]["learning_rate"] == RATES["high"] == max(RATES.values())
    assert (final["data"]["split"], [*final["evaluations"]]) == ("train", ["test"])
    assert (stages["final"]["kind"], stages["final"]["chosen"], stages["final"]["config"]) == ("Best", "high", final)
    (row,) = json.loads((made / "study.json").read_text())["runs"]
    assert row["accuracy"] == row["final/test/accuracy"] and row["final/chosen"] == "high"
    assert row["exaflops_total"] == pytest.approx(4 * row["exaflops"])  # the candidates' count, too
    assert "| chosen for final |" in (made / "table.md").read_text() and "| high |" in (made / "table.md").read_text()


def test_the_least_may_be_the_best(tmp_path, quick):
    make(tmp_path, study(least=True))
    assert without_times(tmp_path)["final"]["chosen"] == "low"


def test_of_equal_candidates_the_first_is_taken():
    stage = Best("final", dict.fromkeys("abcd"), HELD_OUT)
    values = {name: {HELD_OUT: value} for name, value in zip("dcbax", (0.1, 0.5, 0.5, 0.1, 0.9), strict=True)}
    assert choosing.best(stage, values) == "b"
    assert choosing.best(Best("final", stage.configs, HELD_OUT, least=True), values) == "a"


def test_a_candidate_without_the_measure(tmp_path, quick):
    said = f"^ViT-seed0, final: the candidate low has no measure {HELD_OUT}5 to choose by; it has train/loss, "
    with pytest.raises(UserError, match=said):
        make(tmp_path, study(measure=f"{HELD_OUT}5"))
    assert not (tmp_path / DONE / "final").exists()


@pytest.mark.parametrize("trainings", [1, 3, 4])
def test_it_goes_on_after_a_stop(made, tmp_path, monkeypatch, trainings):
    """The study is stopped after a candidate, before the choice, or before its result is written."""
    train, count = loop.train, 0

    def stopped(config, workdir, **keywords):
        nonlocal count
        train(config, workdir, **keywords)
        count += 1
        if count == trainings:
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", stopped)
        with pytest.raises(SystemExit):
            make(folder, study())
    assert record.states(folder, study(), record.results(folder, study())) == {"ViT-seed0": record.IN_PART}
    assert (folder / DONE / "final").exists() == (trainings == 4)
    make(folder, study())
    assert without_times(folder) == without_times(made)
    assert record.states(folder, study(), record.results(folder, study())) == {"ViT-seed0": record.DONE}


@pytest.mark.parametrize("whole", [True, False])
def test_what_has_changed_is_refused(made, whole):
    if not whole:
        (made / DONE / "result.json").unlink()
    refused(
        made,
        study(rates={**RATES, "middle": 0.05}),
        "results of another middle, take another --workdir",
        "config.optimizer.learning_rate was 0.02 and is 0.05",
    )
    refused(made, study(final_rates={**RATES, "high": 0.04}), "another final", "learning_rate was 0.03 and is ")
    refused(made, study(("init_from", "x.npz")), "config.init_from was None and is 'x.npz'")
    assert len(record.results(made, study(("log_steps", "1")))) == whole


def test_another_choice_is_refused(made):
    refused(made, study(least=True), "another final", "'least': False", "and is {'measure'")
    more = study(rates={**RATES, "highest": 0.05})
    refused(made, more, "has results of the stages low, high, middle, final, and the study now has")
    # Of a final training that has only begun it is not recorded how it was chosen, but its config is.
    (made / DONE / "result.json").unlink()
    before = contents(made / DONE / "final")
    with pytest.raises(UserError, match=r"final: .* holds a run of another config.*learning_rate was 0.03 and is 0.05"):
        make(made, more)
    assert contents(made / DONE / "final") == before


def test_a_result_without_its_choice_is_damaged(made):
    path = made / DONE / "result.json"
    value = json.loads(path.read_text())
    del value["stages"]["final"]["chosen"]
    path.write_text(json.dumps(value))
    refused(made, study(), "is no result of a run")


def test_other_data_are_noticed_before_a_run(made):
    found = record.results(made, study())
    found["ViT-seed0"]["stages"]["final"]["data"]["parts"][0]["dataset"] = "other"
    two = study()
    missing = run_at({"model": "ViT", "seed": 1}, *two.runs[0].stages)
    with pytest.raises(UserError, match="ViT-seed0 was trained on other data than ViT-seed1 would be: .*was other"):
        record.check_data(Study("best", (*two.runs, missing), two.measures), found)


@pytest.mark.slow
def test_a_killed_choice_ends_with_the_same_weights(tmp_path, monkeypatch):
    """Real trainings: the last one is killed at its third step, and goes on from its checkpoint."""
    rates = {"low": 1e-3, "high": 1e-2}
    make(tmp_path / "whole", study(rates=rates))
    folder, evaluate = tmp_path / "killed", Run.evaluate

    class Killed(Exception):
        pass

    def killed(self, chosen, done, state):
        if self.folder.name == "final" and done == 3:
            raise Killed
        evaluate(self, chosen, done, state)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", killed)
        with pytest.raises(Killed):
            make(folder, study(rates=rates))
    assert not (folder / DONE / "final" / "model.npz").exists()
    shutil.move(folder, tmp_path / "moved")
    make(tmp_path / "moved", study(rates=rates))
    one, other = (np.load(tmp_path / name / DONE / "final" / "model.npz") for name in ("whole", "moved"))
    assert sorted(one) == sorted(other) and all(np.array_equal(one[key], other[key]) for key in one)
