"""A study made in one call from Python: the same folder as the command's, and rows."""

import json
import pathlib

import pytest

from vit_jax import studies
from vit_jax.errors import UserError

FILE = pathlib.Path(__file__).parents[1] / "small_study.py"


@pytest.fixture(autouse=True)
def _quick(quick):
    """Trainings write their files without training."""


def test_a_study_and_its_rows(tmp_path):
    rows = studies.make_study(f"{FILE}:16,32", tmp_path, {"seed": 3}, only=["ViT-examples32-seed0"])
    assert [row["examples"] for row in rows] == [32]
    rows = studies.make_study(f"{FILE}:16,32", str(tmp_path), {"seed": 3})  # goes on with what is missing
    assert [row["examples"] for row in rows] == [16, 32]
    assert json.loads((tmp_path / "study.json").read_text())["runs"] == rows
    assert {path.name for path in tmp_path.iterdir()} == {
        *("accuracy_by_examples.pdf", "accuracy_by_examples.png", "runs", "study.json", "table.md")
    }
    config = json.loads((tmp_path / "runs/ViT-examples16-seed0/first/config.json").read_text())["config"]
    assert config["seed"] == 3


@pytest.mark.parametrize(
    ("path", "keywords", "said"),
    [
        ("configs/digits.py", {}, "defines no get_study()"),
        (f"{FILE}:16,32", {"only": ["ViT"]}, "no run 'ViT'"),
        (f"{FILE}:16,32", {"overrides": {"data.subset": 8}}, "several values"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, path, keywords, said):
    with pytest.raises(UserError) as error:
        studies.make_study(path, tmp_path / "study", **keywords)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "study").exists()
