"""What a study may be, and which keys of its configs flags may set."""

import dataclasses
import re

import pytest

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.studies import Axis, Figure, Measure, Study, Training, run_at, spec


def config(**changes):
    made = config_lib.default()
    made.total_steps = 4
    for key, value in changes.items():
        made[key] = value
    return made


MEASURES = (Measure("accuracy", "train", "test/accuracy"),)


def of(*runs, measures=MEASURES, figures=()):
    return Study("mine", runs, measures, figures)


def training(name="train", starts_from="", **changes):
    return Training(name, config(**changes), starts_from)


def two(**second):
    return of(run_at({"seed": 0}, training()), run_at({"seed": 1}, training(**second)))


def refused(study, said, *overrides):
    with pytest.raises(UserError, match=re.escape(said)) as error:
        spec.checked(study, "mine.py", overrides)
    assert "\n" not in str(error.value)


def test_the_names_of_runs():
    axes = {"model": "R50+B/16", "learning_rate": 1e-3, "examples": 1000}
    run = run_at(axes, training())
    assert run.name == "R50+B_16-learning_rate0.001-examples1000"
    assert run.title == "R50+B/16, learning rate 0.001, examples 1,000"


def test_overrides_apply_to_every_stage_of_every_run():
    study = of(*(run_at({"seed": s}, training(seed=s), training("tune", "train", seed=s)) for s in (0, 1)))
    made = spec.checked(study, "mine.py", [("log_steps", "7"), ("optimizer.learning_rate", "0.5")])
    configs = [stage.config for run in made.runs for stage in run.stages]
    assert len(configs) == 4 and all(isinstance(c, config_lib.Config) for c in configs)
    assert {c.log_steps for c in configs} == {7} and {c.optimizer.learning_rate for c in configs} == {0.5}
    assert [c.seed for c in configs] == [0, 0, 1, 1]


def test_keys_that_the_study_varies_are_not_overridden():
    refused(two(seed=1), "gives config.seed several values itself, as in seed0/train and seed1/train", ("seed", "3"))
    refused(two(total_steps=8), "config.total_steps several values", ("total_steps", "3"))
    refused(two(total_steps=8), "config.total_epochs several values", ("total_epochs", "3"))  # it would clear the steps
    chained = of(run_at({"seed": 0}, training(), training("tune", "train", global_batch_size=8)))
    refused(chained, "config.global_batch_size several values", ("global_batch_size", "4"))
    refused(chained, "config.init_from is set by the study itself", ("init_from", "x.npz"))
    assert spec.checked(two(seed=1), "mine.py", [("init_from", "x.npz")]).runs[1].stages[0].config.init_from == "x.npz"


def test_keys_that_do_not_change_the_result_are_overridden_even_if_they_vary():
    made = spec.checked(two(log_steps=9), "mine.py", [("log_steps", "3"), ("mesh.fsdp", "2")])
    assert {(r.stages[0].config.log_steps, r.stages[0].config.mesh.fsdp) for r in made.runs} == {(3, 2)}


def test_a_key_that_a_stage_lacks_is_not_overridden():
    study = two()
    study.runs[0].stages[0].config.evaluations.test = config_lib.evaluation()
    said = "seed1/train has no config.evaluations.test.split"
    refused(study, said, ("evaluations.test.split", "train"))


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (None, "gives no study"),
        (of(), "has no runs"),
        (of(run_at({"seed": 0}, training()), run_at({"seed": 0}, training())), "two runs of the name seed0"),
        (of(run_at({"model": "a"}, training()), run_at({"model": "A"}, training())), "two runs of the name A"),
        (of(spec.Run("a/b", {"seed": 0}, (training(),))), "'a/b', which can't be a folder's name"),
        (of(spec.Run("..", {"seed": 0}, (training(),))), "'..', which can't be a folder's name"),
        (of(run_at({"seed": 0}, training(), training())), "stages of different names"),
        (of(run_at({"seed": 0})), "stages of different names"),
        (of(run_at({"seed": 0}, training()), run_at({"size": 0}, training())), "have other axes"),
        (of(run_at({"seed": 0}, training()), measures=()), "no measures"),
        (of(run_at({"seed": 0}, training("other"))), "of the stage 'train', which is no stage"),
        (of(run_at({"accuracy": 0}, training())), "two columns the name 'accuracy'"),
        (of(run_at({"steps": 0}, training())), "two columns the name 'steps'"),
        (of(run_at({"seed": 0}, training("train", "later"), training("later"))), "starts from 'later'"),
        (two(total_steps=0), "config.total_steps is 0"),
        (two(init_head="keep"), "nothing reads config.init_head"),
    ],
)
def test_a_wrong_study_is_one_sentence(study, said):
    refused(study, said)


def test_a_figure_of_nothing():
    study = two()
    wrong = Figure("wrong", Axis("examples", ""), Axis("accuracy", ""), lines="seed")
    refused(dataclasses.replace(study, figures=(wrong,)), "the figure wrong draws 'examples'; there are seed, accuracy")


def test_chosen_runs():
    study = two(seed=1)
    assert [run.name for run in spec.chosen(study, ["seed1"])] == ["seed1"]
    assert spec.chosen(study, []) == study.runs
    with pytest.raises(UserError, match="no run 'seed11'; the nearest is seed1"):
        spec.chosen(study, ["seed11"])
