"""The JSON file of a search: what is in it after an interruption, and when it may be overwritten."""

import dataclasses
import json

import pytest

from vit_jax.config import Config
from vit_jax.errors import UserError
from vit_jax.planning import plans, records, search, slices

AXES = [("global_batch_size", ["16", "18", "32"])]


@pytest.fixture(scope="module")
def gpu(small):
    """Returns a plan for GPUs, which needs no compiler."""
    return plans.make_plan(small({"data.name": "digits", "data.num_examples": 1024, "data.num_classes": 10}),
                           slices.parse("h100:4"))[0]  # fmt: skip


@pytest.fixture
def make(gpu):
    """Returns a function that returns plans.

    It raises a UserError for a batch of 18, and, while its attribute `stop` is true, a KeyboardInterrupt for 32.
    """

    def make(overrides):
        make.calls.append(dict(overrides)["global_batch_size"])
        if make.calls[-1] == "18":
            raise UserError("no 18")
        if make.calls[-1] == "32" and make.stop:
            raise KeyboardInterrupt
        return gpu

    make.calls, make.stop = [], True
    return make


def made(question="sweep", **changes):
    return records.made_with(question, Config(**changes), "v5e:2x2", 1)


def interrupted(file, make):
    with pytest.raises(KeyboardInterrupt):
        search.sweep(records.Records(file, made(), False).remembering(make), AXES)


def test_an_interrupted_sweep_goes_on(tmp_path, make):
    file = tmp_path / "sweep.json"
    interrupted(file, make)
    assert [record["settings"]["global_batch_size"] for record in json.loads(file.read_text())] == ["16", "18"]
    make.calls, make.stop = [], False
    known = records.Records(file, made(), True)
    tried = search.sweep(known.remembering(make), AXES)
    assert make.calls == ["32"]
    assert [one.refused for one in tried] == ["", "", "no 18"]
    known.write(tried, complete=True)
    assert len(json.loads(file.read_text())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_an_interrupted_sweep_is_not_started_anew(tmp_path, make):
    file = tmp_path / "sweep.json"
    interrupted(file, make)
    with pytest.raises(UserError, match="add --resume"):
        records.Records(file, made(), False)
    known = records.Records(file, made(), True)
    known.write([], complete=True)
    records.Records(file, made(), False)  # the file of a completed search may be replaced


@pytest.mark.parametrize(
    ("theirs", "said"), [(made("largest"), "largest"), (made(seed=7), "config"), ({**made(), "jax": "0.1"}, "0.1")]
)
def test_plans_of_other_settings_are_refused(tmp_path, make, theirs, said):
    file = tmp_path / "sweep.json"
    interrupted(file, make)
    before = file.read_text()
    with pytest.raises(UserError, match=said):
        records.Records(file, theirs, True)
    assert file.read_text() == before


@pytest.mark.parametrize("resume", [True, False])
def test_finished_plans_of_another_job_are_not_replaced(tmp_path, make, resume):
    file = tmp_path / "sweep.json"
    known = records.Records(file, made(), False)
    known.remembering(make)((("global_batch_size", "16"),))
    known.write([], complete=True)
    before = file.read_text()
    with pytest.raises(UserError, match="plans of another config .*name another file"):
        records.Records(file, made(seed=7), resume)
    assert file.read_text() == before


MADE = json.dumps({**made(), "complete": True})


@pytest.mark.parametrize(
    "text",
    [
        "notes", "[1, 2]", '{"lr": 1}', '["refused"]', '[{"settings": {}, "refused": "", "made_with": null}]',
        '[{"refused": "", "made_with": {}}]', f'[{{"settings": [], "refused": "", "made_with": {MADE}}}]',
    ],
)  # fmt: skip
@pytest.mark.parametrize("resume", [True, False])
def test_a_file_of_something_else_is_refused(tmp_path, text, resume):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(UserError, match="holds no plans"):
        records.Records(tmp_path / "mine.json", made(), resume)


@pytest.mark.parametrize("record", [{"mesh": 3}, {"hbm_per_device": {}}])
def test_a_damaged_plan_is_refused(tmp_path, record):
    record = {"settings": {}, "hbm_per_device": 1, "made_with": {**made(), "complete": True}, **record}
    (tmp_path / "mine.json").write_text(json.dumps([record]))
    with pytest.raises(UserError, match="holds no plans"):
        records.Records(tmp_path / "mine.json", made(), True)


def test_one_plan_keeps_what_was_tried(tmp_path, gpu):
    file = tmp_path / "plan.json"
    known = records.Records(file, made("plan"), False)
    make = known.remembering(lambda overrides: gpu)
    first, *others = [search.Tried(o, make(o), "") for o in ((), (("seed", "1"),), (("seed", "2"),))]
    assert [record["settings"] for record in json.loads(file.read_text())["tried"]] == [{"seed": "1"}, {"seed": "2"}]
    known.write([first, *others], complete=True, nearest=others[1])
    found = json.loads(file.read_text())
    assert found.keys() >= dataclasses.asdict(gpu).keys()
    assert found["nearest"]["settings"] == {"seed": "2"}
    assert plans.from_record(found) == gpu
    again = records.Records(file, made("plan"), True)
    assert again.remembering(lambda overrides: 1 / 0)(()) == gpu
