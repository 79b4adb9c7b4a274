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
    made.evaluations.test = config_lib.evaluation()
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
    study.runs[0].stages[0].config.evaluations.other = config_lib.evaluation()
    said = "seed1/train has no config.evaluations.other.split"
    refused(study, said, ("evaluations.other.split", "train"))


def test_typed_configs_take_no_overrides():
    study = of(run_at({"seed": 0}, Training("train", config_lib.typed(config()))))
    assert spec.checked(study, "mine.py").runs == study.runs
    refused(study, "--config.log_steps can't be set, because mine.py gives typed configs", ("log_steps", "7"))


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


SEED, ACCURACY, FLOPS = (Axis(column, "") for column in ("seed", "accuracy", "exaflops"))


@pytest.mark.parametrize(
    ("x", "y", "options", "said"),
    [
        (Axis("examples", ""), ACCURACY, {}, "x='examples'; it can be model, accuracy"),
        (Axis("name", ""), ACCURACY, {}, "x='name'"),
        (SEED, ACCURACY, {}, "x='seed'; it can be model"),
        (FLOPS, Axis("loss", ""), {}, "y='loss'"),
        (FLOPS, ACCURACY, {"lines": "accuracy"}, "lines='accuracy'; it can be model"),
        (FLOPS, ACCURACY, {"over": "seeds"}, "over='seeds'; it can be model, seed"),
        (FLOPS, ACCURACY, {"statistic": "mena"}, "statistic='mena'; it can be mean, median"),
        (FLOPS, ACCURACY, {"where": {"size": 3}}, "where='size'; it can be model, seed"),
        (Axis("parameters", ""), ACCURACY, {"along": True}, "x='parameters'; it can be exaflops, steps"),
    ],
)
def test_a_figure_of_nothing(x, y, options, said):
    study = of(run_at({"model": "a", "seed": 0}, training()))
    assert spec.checked(dataclasses.replace(study, figures=(Figure("right", FLOPS, ACCURACY),)), "mine.py")
    refused(dataclasses.replace(study, figures=(Figure("wrong", x, y, **options),)), f"figure wrong has {said}")


def test_figures_have_names_of_their_own():
    figures = Figure("one", FLOPS, ACCURACY), Figure("one", FLOPS, ACCURACY)
    refused(of(run_at({"model": "a"}, training()), figures=figures), "two figures of the name one")


def test_a_measure_of_no_evaluation():
    measures = (Measure("accuracy", "train", "tset/accuracy"),)
    said = "seed0/train has no evaluation for the measure tset/accuracy; it has test, train"
    refused(of(run_at({"seed": 0}, training()), measures=measures), said)


def test_the_table_averages_over_an_axis():
    refused(dataclasses.replace(two(), over="sede"), "averages over 'sede'; the axes are seed")


def test_chosen_runs():
    study = two(seed=1)
    assert [run.name for run in spec.chosen(study, ["seed1"])] == ["seed1"]
    assert spec.chosen(study, []) == study.runs
    with pytest.raises(UserError, match="no run 'seed11'; the nearest is seed1"):
        spec.chosen(study, ["seed11"])
