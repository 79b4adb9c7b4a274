"""The small study, a stand-in for training, and a folder in which the study was made with it."""

import contextlib
import dataclasses
import pathlib

import pytest
from etils import epath

from vit_jax import config_file, data
from vit_jax.checkpoints.formats import Description
from vit_jax.checkpoints.store import FOLDER
from vit_jax.studies import checks, execute
from vit_jax.training import loop, run_folder, start
from vit_jax.training.metrics_file import MetricsFile

FILE = pathlib.Path(__file__).parents[1] / "small_study.py"


@pytest.fixture(scope="session")
def study():
    """Returns a function that makes the small study: `study("16,32", ("seed", "3"), …)`."""

    def make(arguments="16,32", *overrides):
        return checks.checked(config_file.result_of(f"{FILE}:{arguments}", "get_study"), str(FILE), overrides)

    return make


def written(config, workdir, *, watch_seconds):
    """Writes what a training writes that a study reads, with numbers that follow from the config."""
    folder, config = epath.Path(workdir), data.resolved(config)
    run_folder.require_config(*run_folder.recorded_in(folder), config)
    if (folder / "model.npz").exists():
        return
    model = start.model_of(config)
    description = Description(model.arch, model.preprocessing, model.class_names)
    run_folder.write_descriptions(folder, config, data.describe(config), description)
    file = MetricsFile(folder, 0)
    for step in range(1, config.total_steps + 1):
        accuracy = step * config.optimizer.learning_rate / ((config.data.subset or 64) + config.seed)
        measures = {
            f"{name}/{key}": value
            for name in config.evaluations
            for key, value in (("accuracy", accuracy), ("loss", 1.0))
        }
        file.write(step, {"train/loss": 2.0, "train/images_per_second": 8.0, **measures})
    (folder / FOLDER).mkdir()
    (folder / "model.npz").write_bytes(b"weights")


@pytest.fixture(scope="session")
def untrained():
    """Returns a context in which studies write the files of trainings without training, and build each model once."""
    model_of, models = start.model_of, {}

    def known(config, folder=None):
        key = repr(config.model)
        models[key] = models.get(key) or model_of(dataclasses.replace(config, init_from=None), folder)
        return models[key]

    @contextlib.contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "train", written)
            patch.setattr(start, "model_of", known)
            yield

    return context


@pytest.fixture
def quick(untrained):
    with untrained():
        yield


@pytest.fixture(scope="session")
def made(study, untrained, tmp_path_factory):
    """Returns the folder of the small study, which was made without an interruption, and without training."""
    folder = tmp_path_factory.mktemp("made") / "study"
    with untrained():
        execute.make(folder, study(), study().runs, 30.0)
    execute.draw(folder, study())
    return folder
