"""The table of a study, and means over its axes."""

import statistics

import numpy as np
import pytest

from vit_jax.studies import Best, Measure, Study, Training, run_at, table

SEEDS, TASKS = (0, 1, 2), {"one": "a", "two": "a", "three": "b"}
RNG = np.random.default_rng(0)
ROWS = [
    {"group": group, "task": task, "seed": seed, "accuracy": float(RNG.uniform()), "error": float(RNG.uniform()),
     "parameters": 7, "exaflops": 2.0}
    for seed in SEEDS for task, group in TASKS.items()
]  # fmt: skip
MEASURES = Measure("accuracy", "final", "x"), Measure("error", "final", "y", percent=False)


def study(*means, stage=Training("final", None)):  # noqa: B008
    runs = [run_at({key: row[key] for key in ("group", "task", "seed")}, stage) for row in ROWS]
    return Study("s", tuple(runs), MEASURES, means=means)


def values(column, tasks, seed):
    return [row[column] for row in ROWS if row["task"] in tasks and row["seed"] == seed]


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_table():
    head, _, *body = cells(table.markdown(study(), ROWS))
    assert head == ["group", "task", "accuracy (%)", "error", "runs", "parameters", "exaflops"]
    assert len(body) == 3
    accuracy, error = (
        np.array([row[column] for row in ROWS if row["task"] == "two"]) for column in ("accuracy", "error")
    )
    shown = (
        f"{100 * accuracy.mean():.1f} ± {100 * accuracy.std(ddof=1):.1f}",
        f"{error.mean():.4g} ± {error.std(ddof=1):.4g}",
    )
    assert body[1] == ["a", "two", *shown, "3", "7", "2"]


def test_means_over_the_tasks_of_each_group_and_over_all():
    found = table.means(study(("task",), ("group", "task")), ROWS)
    assert [(row["over"], row.get("group"), row["seed"], row["runs"]) for row in found] == [
        *((("task",), group, seed, count) for seed in SEEDS for group, count in (("a", 2), ("b", 1))),
        *((("group", "task"), None, seed, 3) for seed in SEEDS),
    ]
    for row, (tasks, seed) in {0: (("one", "two"), 0), 5: (("three",), 2), 7: (tuple(TASKS), 1)}.items():
        for column in ("accuracy", "error"):
            assert found[row][column] == pytest.approx(statistics.mean(values(column, tasks, seed)))


def test_a_mean_with_a_run_missing_is_left_out():
    found = table.means(study(("task",), ("group", "task")), [row for row in ROWS[:-1] if row is not ROWS[0]])
    assert [(row.get("group"), row["seed"]) for row in found] == [("b", 0), ("a", 1), ("b", 1), ("a", 2), (None, 1)]


def test_the_lines_of_means():
    """The deviation is that of the means of the seeds, and not that of the tasks."""
    *_, group, other, whole = cells(table.markdown(study(("task",), ("group", "task")), ROWS))
    assert [line[:2] + line[4:] for line in (group, other, whole)] == [
        ["a", "mean", "6", "–", "–"],
        ["b", "mean", "3", "–", "–"],
        ["mean", "mean", "9", "–", "–"],
    ]
    of_seeds = [100 * statistics.mean(values("accuracy", TASKS, seed)) for seed in SEEDS]
    assert whole[2] == f"{statistics.mean(of_seeds):.1f} ± {statistics.stdev(of_seeds):.1f}"


def test_the_candidates_that_were_chosen():
    """Each once, in the order of the runs; a run may lack the stage."""
    chosen = {("one", 0): "rate_0.1", ("one", 1): "rate_0.3", ("one", 2): "rate_0.1", ("two", 1): "rate_0.3"}
    rows = [
        row | ({"final/chosen": chosen[at]} if (at := (row["task"], row["seed"])) in chosen else {}) for row in ROWS
    ]
    best = Best("final", {"rate_0.1": None, "rate_0.3": None}, "y")
    head, _, *body = cells(table.markdown(study(("task",), stage=best), rows))
    assert head.index("chosen for final") == 4
    assert [line[4] for line in body] == ["rate 0.1, rate 0.3", "rate 0.3", "–", "–", "–"]
