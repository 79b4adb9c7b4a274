"""What a study may be, and which keys of its configs flags may set."""

import dataclasses
import re

import pytest

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.studies import Axis, Best, Figure, Measure, Study, Training, checks, run_at, spec


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


def best(measure="test/accuracy", of_candidates=("train",), starts_from="", **changes):
    return Best("best", {name: config(**changes) for name in of_candidates}, measure, starts_from=starts_from)


def two(**second):
    return of(run_at({"seed": 0}, training()), run_at({"seed": 1}, training(**second)))


def refused(study, said, *overrides):
    with pytest.raises(UserError, match=re.escape(said)) as error:
        checks.checked(study, "mine.py", overrides)
    assert "\n" not in str(error.value)


def test_overrides_apply_to_every_stage_of_every_run():
    study = of(*(run_at({"seed": s}, training(seed=s), training("tune", "train", seed=s)) for s in (0, 1)))
    made = checks.checked(study, "mine.py", [("log_steps", "7"), ("optimizer.learning_rate", "0.5")])
    configs = [stage.config for run in made.runs for stage in run.stages]
    assert len(configs) == 4 and all(isinstance(c, config_lib.Config) for c in configs)
    assert {c.log_steps for c in configs} == {7} and {c.optimizer.learning_rate for c in configs} == {0.5}
    assert [c.seed for c in configs] == [0, 0, 1, 1]


def test_overrides_apply_to_all_configs_of_the_best():
    run = run_at({"seed": 0}, training("a"), training("b", seed=1), best(of_candidates="ab"))
    study = of(run, measures=(Measure("accuracy", "best", "test/accuracy"),))
    made = checks.checked(study, "mine.py", [("init_from", "x.npz"), ("optimizer.learning_rate", "0.5")])
    configs = [config for stage in made.runs[0].stages for config in spec.configs(stage).values()]
    assert len(configs) == 4 and {c.optimizer.learning_rate for c in configs} == {0.5}
    assert {c.init_from for c in configs} == {"x.npz"}
    refused(study, "config.seed several values itself, as in seed0/a and seed0/b", ("seed", "3"))
    rates = of(run_at({"seed": 0}, training(), best(seed=7)))
    refused(rates, "config.seed several values itself, as in seed0/train and seed0/best", ("seed", "3"))


def test_keys_that_the_study_varies_are_not_overridden():
    refused(two(seed=1), "gives config.seed several values itself, as in seed0/train and seed1/train", ("seed", "3"))
    refused(two(total_steps=8), "config.total_steps several values", ("total_steps", "3"))
    refused(two(total_steps=8), "config.total_epochs several values", ("total_epochs", "3"))  # it would clear the steps
    chained = of(run_at({"seed": 0}, training(), training("tune", "train", global_batch_size=8)))
    refused(chained, "config.global_batch_size several values", ("global_batch_size", "4"))
    refused(chained, "config.init_from is set by the study itself", ("init_from", "x.npz"))
    assert (
        checks.checked(two(seed=1), "mine.py", [("init_from", "x.npz")]).runs[1].stages[0].config.init_from == "x.npz"
    )


def test_keys_that_do_not_change_the_result_are_overridden_even_if_they_vary():
    made = checks.checked(two(log_steps=9), "mine.py", [("log_steps", "3"), ("mesh.fsdp", "2")])
    assert {(r.stages[0].config.log_steps, r.stages[0].config.mesh.fsdp) for r in made.runs} == {(3, 2)}


def test_a_key_that_a_stage_lacks_is_not_overridden():
    study = two()
    study.runs[0].stages[0].config.evaluations.other = config_lib.evaluation()
    said = "seed1/train has no config.evaluations.other.split"
    refused(study, said, ("evaluations.other.split", "train"))


def test_typed_configs_take_no_overrides():
    study = of(run_at({"seed": 0}, Training("train", config_lib.typed(config()))))
    assert checks.checked(study, "mine.py").runs == study.runs
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
        (of(run_at({"runs": 0}, training())), "two columns the name 'runs'"),
        (of(run_at({"seed": 0}, training("train", "later"), training("later"))), "starts from 'later'"),
        (of(run_at({"seed": 0}, training(), best(of_candidates=()))), "seed0/best has no candidates"),
        (of(run_at({"seed": 0}, best(), training())), "seed0/best has the candidate 'train', which is no earlier"),
        (of(run_at({"seed": 0}, training(), best(starts_from="best"))), "seed0/best starts from 'best', no earlier"),
        (of(run_at({"seed": 0}, training(), best("tset/loss"))), "seed0/train has no evaluation for the measure tset/"),
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
    assert checks.checked(dataclasses.replace(study, figures=(Figure("right", FLOPS, ACCURACY),)), "mine.py")
    refused(dataclasses.replace(study, figures=(Figure("wrong", x, y, **options),)), f"figure wrong has {said}")


def test_figures_have_names_of_their_own():
    figures = Figure("one", FLOPS, ACCURACY), Figure("one", FLOPS, ACCURACY)
    refused(of(run_at({"model": "a"}, training()), figures=figures), "two figures of the name one")


def test_a_measure_of_no_evaluation():
    measures = (Measure("accuracy", "train", "tset/accuracy"),)
    said = "seed0/train has no evaluation for the measure tset/accuracy; it has test, train"
    refused(of(run_at({"seed": 0}, training()), measures=measures), said)


@pytest.mark.parametrize("mean", [(), ("sede",), ("seed",), ("model", "model")])
def test_means_are_taken_over_axes(mean):
    study = of(run_at({"model": "a", "size": 1, "seed": 0}, training()))
    assert checks.checked(dataclasses.replace(study, means=(("model",), ("size", "model"))), "mine.py")
    refused(
        dataclasses.replace(study, means=(("model",), mean)), f"taken over {mean!r}; name one or more of the axes mod"
    )


def test_the_table_averages_over_an_axis():
    refused(dataclasses.replace(two(), over="sede"), "averages over 'sede'; the axes are seed")
