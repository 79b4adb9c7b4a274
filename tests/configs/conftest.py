"""A fixture for the tests of recipes."""

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs each test in another working directory, from which the recipes must be found too."""
    monkeypatch.chdir(tmp_path)
