"""The files of a study, and what is refused of them."""

import json
import shutil

import pytest

from helpers.folders import contents
from vit_jax import UserError
from vit_jax.studies import record

RESULT = "runs/ViT-examples16-seed0/result.json"


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "study")
    return tmp_path / "study"


def refused(folder, study, *said):
    before = contents(folder)
    with pytest.raises(UserError) as error:
        record.results(folder, study)
    message = str(error.value)
    assert all(words in message for words in said), message
    assert "\n" not in message and contents(folder) == before


def changed(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_another_config_is_refused(study, copy):
    other = study("16,32", ("optimizer.learning_rate", "0.5"))
    said = "config.optimizer.learning_rate was 0.01 and is 0.5", "take another --workdir", "results of another first"
    refused(copy, other, *said)
    refused(copy, study("16,32", ("evaluations.test.split", "train")), "config.evaluations.test.split was 'test'")
    assert len(record.results(copy, study("16,32", ("mesh.data", "2"), ("log_steps", "1")))) == 2
    # The same holds for a training that has only begun.
    for name in ("ViT-examples16-seed0", "ViT-examples32-seed0"):
        (copy / "runs" / name / "result.json").unlink()
    refused(copy, other, *said)


def test_a_moved_study_is_the_same(study, copy, tmp_path):
    copy.rename(tmp_path / "elsewhere")
    assert len(record.results(tmp_path / "elsewhere", study())) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format_version": 1, "na', ["is not valid JSON", "restore it or move it away"]),
        ("[]", ["is no result of a run", "move it away to have it made anew"]),
        ("{}", ["is no result of a run"]),
        ('{"format_version": 99, "name": "a", "axes": {}, "stages": {}}', ["by a newer vit_jax"]),
        ('{"format_version": 1, "name": "a", "axes": {}, "stages": {"first": 3}}', ["is no result of a run"]),
        (
            '{"format_version": 1, "name": "a", "axes": {}, '
            '"stages": {"first": {"kind": "Training", "settings": {}, "config": {}, "values": {}}}}',
            ["is no result of a run"],
        ),
        ('{"format_version": 1, "name": "a", "axes": {}, "stages": {}}', ["is the result of another run, a at {}"]),
    ],
)
def test_a_damaged_result_is_one_sentence(study, copy, text, said):
    (copy / RESULT).write_text(text)
    refused(copy, study(), str(copy / RESULT), *said)


def test_other_stages_are_refused(study, copy):
    stages = json.loads((copy / RESULT).read_text())["stages"]
    changed(copy / RESULT, stages={"first": stages["first"]})
    refused(copy, study(), "has results of the stages first, and the study now has first, second")


def test_other_settings_of_a_stage_are_refused(study, copy):
    stages = json.loads((copy / RESULT).read_text())["stages"]
    stages["second"]["settings"]["starts_from"] = ""
    changed(copy / RESULT, stages=stages)
    refused(copy, study(), "settings was {'starts_from': ''} and is {'starts_from': 'first'}")


def test_a_foreign_folder_is_refused(study, copy):
    refused(copy / "runs" / "ViT-examples16-seed0" / "first", study(), "is the folder of a single run")
    changed(copy / "study.json", study="other")
    refused(copy, study(), "holds the study other, and not small")
    (copy / "study.json").write_text('{"runs": 3}')
    refused(copy, study(), "study.json is no study's")


def test_other_data_are_refused(study, copy):
    """A run that is missing would be trained on other data than one that is there."""
    found = record.results(copy, study())
    del found["ViT-examples32-seed0"]
    record.check_data(study(), found)
    found["ViT-examples16-seed0"]["stages"]["first"]["data"]["parts"][0]["dataset"] = "other"
    with pytest.raises(UserError, match=r"ViT-examples16-seed0 was trained on other data.*the data set was other"):
        record.check_data(study(), found)
