"""The metrics of runs as a table and as a figure have the numbers of `metrics.jsonl`."""

import json
import math
import sys

import numpy as np
import pytest

import vit_jax
from vit_jax import UserError

LINES = [
    {"step": 2, "time": 1.0, "train/loss": 2.0, "train/learning_rate": 0.1},
    {"step": 4, "time": 2.0, "train/loss": 1.5, "train/learning_rate": 0.2, "test/loss": 1.75, "test/accuracy": 0.5},
    {"step": 6, "time": 3.0, "train/loss": 1.0, "train/learning_rate": 0.1},
]


def write(folder, lines=LINES, more=""):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + more)
    return folder


def drawn(figure):
    """Returns the points of each line of a figure, by the title of its panel and its label, "" for none."""
    return {
        (axes.get_title(), str(line.get_label()).removeprefix("_child0")): list(zip(*line.get_data(), strict=True))
        for axes in figure.axes
        for line in axes.lines
    }


def test_table(tmp_path, caplog):
    table = vit_jax.read_metrics(write(tmp_path / "run", more='{"step": 8, "trai'))
    assert list(table.index) == [2, 4, 6] and table.index.name == "step"
    assert list(table.columns) == ["train/loss", "train/learning_rate", "test/loss", "test/accuracy"]
    for line in LINES:
        for name in table.columns:
            np.testing.assert_equal(table.loc[line["step"], name], line.get(name, math.nan))
    assert "1 damaged lines (17 bytes) are dropped" in caplog.text


def test_figure_of_a_run(tmp_path):
    assert drawn(vit_jax.plot_metrics(str(write(tmp_path / "run")))) == {
        ("loss", "train"): [(2, 2.0), (4, 1.5), (6, 1.0)],
        ("loss", "test"): [(4, 1.75)],
        ("test/accuracy", ""): [(4, 0.5)],
        ("train/learning_rate", ""): [(2, 0.1), (4, 0.2), (6, 0.1)],
    }
    assert set(drawn(vit_jax.plot_metrics(tmp_path / "run", "test/*"))) == {("test/loss", ""), ("test/accuracy", "")}


def test_figure_of_several_runs(tmp_path):
    write(tmp_path / "a"), write(tmp_path / "b", LINES[1:])
    figure = vit_jax.plot_metrics([tmp_path / "a", tmp_path / "b"], ["*/loss"])
    assert drawn(figure) == {
        ("loss", "a train"): [(2, 2.0), (4, 1.5), (6, 1.0)],
        ("loss", "a test"): [(4, 1.75)],
        ("loss", "b train"): [(4, 1.5), (6, 1.0)],
        ("loss", "b test"): [(4, 1.75)],
    }
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["a train", "a test", "b train", "b test"]
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 4 and len({colour for colour, _ in looks}) == 2
    write(tmp_path / "more" / "a")
    labels = {
        label for _, label in drawn(vit_jax.plot_metrics([tmp_path / "a", tmp_path / "more" / "a"], "train/loss"))
    }
    assert labels == {str(tmp_path / "a"), str(tmp_path / "more" / "a")}


def test_refusals(tmp_path, monkeypatch):
    run = write(tmp_path / "run")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_text("{}")
    for folders, names, said in [
        (tmp_path / "missing", None, "there is no folder .*missing"),
        (tmp_path, None, "has no metrics.jsonl, so it is no run's folder"),
        (tmp_path / "new", None, "has no metrics yet"),
        (run, "loss", "no metric 'loss'; there are train/loss, train/learning_rate, test/loss, test/accuracy"),
        (run, [], "got no names"),
        ([], None, "got no folder"),
        ([run, run], None, "twice"),
    ]:
        with pytest.raises(UserError, match=said):
            vit_jax.plot_metrics(folders, names)
    with pytest.raises(UserError, match="has no metrics yet"):
        vit_jax.read_metrics(tmp_path / "new")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="needs pandas; pip install"):
        vit_jax.read_metrics(run)
