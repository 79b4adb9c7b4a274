"""The small study, and a folder in which it was made."""

import pathlib

import pytest

from vit_jax import config_file
from vit_jax.studies import execute, spec

FILE = pathlib.Path(__file__).parents[1] / "small_study.py"


@pytest.fixture(scope="session")
def study():
    """Returns a function that makes the small study: `study("16,32", ("seed", "3"), …)`."""

    def make(arguments="16,32", *overrides):
        return spec.checked(config_file.result_of(f"{FILE}:{arguments}", "get_study"), str(FILE), overrides)

    return make


@pytest.fixture(scope="session")
def made(study, tmp_path_factory):
    """Returns the folder of the small study, which was made without an interruption."""
    folder = tmp_path_factory.mktemp("made") / "study"
    execute.make(folder, study(), study().runs, 30.0)
    execute.draw(folder, study())
    return folder
