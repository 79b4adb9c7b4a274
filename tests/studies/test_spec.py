"""The names of runs, and the choice of some."""

import pytest

from vit_jax.errors import UserError
from vit_jax.studies import Study, Training, run_at, spec


def test_the_names_of_runs():
    axes = {"model": "R50+B/16", "learning_rate": 1e-3, "examples": 1000}
    run = run_at(axes, Training("train", None))
    assert run.name == "R50+B_16-learning_rate0.001-examples1000"
    assert run.title == "R50+B/16, learning rate 0.001, examples 1,000"


def test_chosen_runs():
    study = Study("mine", tuple(run_at({"seed": seed}, Training("train", None)) for seed in (0, 1)), ())
    assert [run.name for run in spec.chosen(study, ["seed1"])] == ["seed1"]
    assert spec.chosen(study, []) == study.runs
    with pytest.raises(UserError, match="no run 'seed11'; the nearest is seed1"):
        spec.chosen(study, ["seed11"])
