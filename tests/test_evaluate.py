"""The command `evaluate`: it gives the same numbers as training wrote, and refuses wrong input."""

import json
import pathlib
import subprocess
import sys

import pytest

import vit_jax
from helpers.processes import free_port
from vit_jax import UserError
from vit_jax.data import Dataset, sources
from vit_jax.evaluation.judge import judge

CONFIG = pathlib.Path(__file__).with_name("small.py")


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """Returns a run's folder and its last metrics."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    return folder, vit_jax.train(small({"optimizer.average": 0.0}), folder)


def evaluate(*arguments):
    command = [sys.executable, "-m", "vit_jax.evaluate", f"--config={CONFIG}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_what_training_wrote_is_found_again(run, tmp_path):
    folder, values = run
    vit_jax.save(vit_jax.load(folder), tmp_path / "other.safetensors")
    models = [str(folder), str(tmp_path / "other.safetensors")]
    target = tmp_path / "found.json"
    lines = tmp_path / "lines.jsonl"
    code, out, err = evaluate(
        f"--model={folder}", f"--model={tmp_path}/*.safetensors", f"--json={target}", f"--predictions={lines}"
    )
    assert code == 0, err
    found = json.loads(target.read_text())
    assert list(found) == models
    for name in models:
        assert found[name].keys() == {"test"}
        measures = found[name]["test"]
        assert measures["accuracy"] == values["test/accuracy"]
        assert measures["loss"] == pytest.approx(values["test/loss"], rel=1e-5)
        assert measures["examples"] == 16 and isinstance(measures["examples"], int)
        assert f"{name}: test: accuracy {measures['accuracy']:.4f}, loss" in err
    evaluations, header, *rows = [line.split() for line in out.splitlines()]
    assert (evaluations, header) == (["test"], ["model", "accuracy", "loss", "examples"])
    assert [row[0] for row in rows] == models and {row[3] for row in rows} == {"16"}
    assert [row[1] for row in rows] == [f"{values['test/accuracy']:.4f}"] * 2
    _check_predictions([json.loads(line) for line in lines.read_text().splitlines()], found)
    for flag, place in (("json", target), ("predictions", lines)):
        before = place.read_text()
        code, _, err = evaluate(f"--model={folder}", f"--{flag}={place}")
        assert code == 1 and "is there already" in err and place.read_text() == before


def _check_predictions(lines, found):
    """Compares the lines of --predictions with the images of the data set and the measures of the table."""
    for name in found:
        rows = [line for line in lines if line["model"] == name]
        assert [row["index"] for row in rows] == list(range(16)) and {row["evaluation"] for row in rows} == {"test"}
        assert rows[3]["image"] == "synthetic image test[3]"
        right = [row["labels"] == [row["classes"][0]["label"]] for row in rows]
        assert sum(right) / len(right) == pytest.approx(found[name]["test"]["accuracy"])
        assert all(sum(each["probability"] for each in row["classes"]) == pytest.approx(1) for row in rows)
        assert {each["name"] for each in rows[0]["classes"]} == {"0", "1", "2", "3"}
    assert len(lines) == 16 * len(found)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 1), (1, 2), (2, 1), (2, 4)])
def test_the_same_for_any_devices_and_processes(start, run, tmp_path, processes, devices):
    """The run was trained and evaluated on 8 devices. The accuracy is the same to the last digit."""
    folder, values = run
    together = [f"--coordinator=127.0.0.1:{free_port()}", f"--processes={processes}"] if processes > 1 else []
    command = ["evaluate", f"--config={CONFIG}", f"--model={folder}", *together]
    command += [f"--json={tmp_path}/found.json", f"--predictions={tmp_path}/lines.jsonl"]
    started = [
        start(*command, *([f"--process_id={number}"] if together else []), JAX_NUM_CPU_DEVICES=str(devices))
        for number in range(processes)
    ]
    outputs = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * processes, outputs
    found = json.loads((tmp_path / "found.json").read_text())
    assert found[str(folder)]["test"]["accuracy"] == values["test/accuracy"]
    assert found[str(folder)]["test"]["loss"] == pytest.approx(values["test/loss"], rel=1e-5)
    assert "accuracy" in outputs[0][0] and not any("accuracy" in out for out, _ in outputs[1:])
    _check_predictions([json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()], found)


def test_python_gives_what_the_command_gives(small, run):
    folder, _ = run
    ((_, expected),) = judge([str(folder)], small())
    assert vit_jax.evaluate(folder, small()) == expected == vit_jax.evaluate(vit_jax.load(folder), small())
    with pytest.raises(UserError, match="no checkpoint nowhere"):
        vit_jax.evaluate("nowhere", small())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model=nowhere.npz"], "nowhere.npz"),
        ([], "which model? add --model"),
        (["--model=/nowhere/*.npz"], "nothing matches the pattern /nowhere/*.npz"),
        (["--model=a", "--predictions=/nowhere/found.jsonl"], "there is no folder /nowhere"),
        (["--model=a", "--predictions=found", "--json=found"], "name two files"),
        (["--model=a", "--config.model.name=B/16"], "nothing reads config.model.name: evaluate takes keys of data"),
        (["--model=a", "--model=a"], "--model=a is given more than once"),
        (["a.npz"], "what is 'a.npz'?"),
        (["--model=a", "--json=/nowhere/found.json"], "there is no folder /nowhere"),
        (["--model=a", "--config.evaluations.test.kind=fewshott"], "it can be classification"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, said):
    code, out, err = evaluate(*arguments)
    assert code == 1 and not out and said in err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[-1:]


@pytest.mark.parametrize("keywords", [{"num_classes": 5}, {"class_names": ("a", "b", "c", "d")}])
def test_other_classes_are_refused(small, tmp_path, keywords):
    names = keywords.pop("class_names", ())
    model = vit_jax.create("Ti/4", image_size=8, width=16, depth=1, mlp_dim=32, num_heads=2,
                           **{"num_classes": 4, **keywords})  # fmt: skip
    model.class_names = names
    vit_jax.save(model, tmp_path / "model.npz")
    with pytest.raises(UserError, match=r"has 5 classes, and .* has 4|calls the class 0 'a', .* calls it '0'"):
        list(judge([str(tmp_path / "model.npz")], small()))


def test_every_model_is_checked_before_an_image_is_read(small, run, tmp_path, monkeypatch):
    vit_jax.save(vit_jax.load(run[0], num_classes=5), tmp_path / "other.npz")
    monkeypatch.setattr(Dataset, "examples", lambda *_, **__: pytest.fail("an image is read"))
    with pytest.raises(UserError, match="other.npz has 5 classes, and the config's data has 4"):
        next(judge([str(run[0]), str(tmp_path / "other.npz")], small()))


def test_a_config_without_evaluations(small, run):
    config = small()
    del config.evaluations["test"]
    with pytest.raises(UserError, match="no evaluations"):
        list(judge([str(run[0])], config))


@pytest.mark.slow
def test_a_model_with_more_outputs_than_classes(small, tmp_path):
    values = vit_jax.train(small({"model.num_classes": 7, "total_steps": 2}), tmp_path / "run")
    ((_, found),) = judge([str(tmp_path / "run")], small())
    assert found["test"]["loss"] == pytest.approx(values["test/loss"], rel=1e-5)


def test_a_preprocessing_that_is_not_read_is_said(small, run, caplog):
    config = small({"preprocessing.mean": (0.1, 0.2, 0.3)})
    assert list(judge([str(run[0])], config)) == list(judge([str(run[0])], small()))
    assert "config.preprocessing is not read" in caplog.text


def test_a_model_is_judged_at_its_own_size(small, run):
    """The section `model` of the config has no effect."""
    ((_, other),) = judge([str(run[0])], small({"model.image_size": 32, "model.num_classes": 9}))
    ((_, found),) = judge([str(run[0])], small())
    assert other == found


@pytest.mark.slow
def test_each_data_set_is_opened_once(small, run, tmp_path, monkeypatch):
    """A data set is opened once for all the evaluated models, and once for all evaluations of a training run."""
    opened, really = [], sources._opened
    monkeypatch.setattr(
        sources, "_opened", lambda spec, split: opened.append((spec.name, split)) or really(spec, split)
    )
    config = small({"evaluations.test.every_steps": 2})
    list(judge([str(run[0])] * 2, config))
    assert len(opened) == len(set(opened)) > 0
    opened.clear()
    vit_jax.train(config, tmp_path / "run")
    assert len(opened) == len(set(opened)) > 0
