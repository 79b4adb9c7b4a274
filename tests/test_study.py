"""The command `study`: its --help, its --list, and errors of one sentence, which come before slow imports."""

import json
import pathlib
import sys

import pytest

from helpers.processes import ENDS_IN, local
from test_main import SMALL, ended, refused

STUDY = f"--config={pathlib.Path(__file__).parent / 'small_study.py'}"
SLOW = ("jax", "tensorflow", "matplotlib")


def test_help_and_list_need_no_jax(start, tmp_path):
    code, out, err = ended(start("study", "--help", without=SLOW))
    assert (code, err) == (0, "") and "--only" in out and "--workdir" in out and "--coordinator" in out
    code, out, err = ended(start("study", STUDY, "--list", without=SLOW))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ViT-examples16-seed0  missing  ViT, examples 16, seed 0",
        "ViT-examples32-seed0  missing  ViT, examples 32, seed 0",
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--workdir=study"], ["add --config=FILE.py", "configs/study_data_size.py"]),
        ([STUDY], ["add --workdir=FOLDER"]),
        ([SMALL, "--workdir=study"], ["defines no get_study()", "python -m vit_jax.main trains"]),
        (
            [STUDY, "--workdir=study", "--only=ViT-examples16"],
            ["no run 'ViT-examples16'; the nearest is ViT-examples16-"],
        ),
        ([STUDY, "--workdir=study", "--config.data.subset=8"], ["config.data.subset several values itself"]),
        (
            [STUDY, "--workdir=study", "ViT-examples16-seed0"],
            ["what is 'ViT-examples16-seed0'? runs are named by --only"],
        ),
    ],
)
def test_an_error_comes_before_jax(start, args, said):
    refused(start("study", *args, without=SLOW), *said)


def test_main_refuses_a_study(start):
    refused(
        start("main", STUDY, "--workdir=run", without=SLOW), "defines no get_config()", "python -m vit_jax.study makes"
    )


@pytest.mark.slow
def test_one_run_of_a_study(start, tmp_path):
    """A short study from start to end, one run alone; then its list, which shows what is done, and the rest."""
    flags = (STUDY, f"--workdir={tmp_path}/study")
    code, _, err = ended(start("study", *flags, "--only=ViT-examples32-seed0", without=("tensorflow",)))
    assert code == 0, err
    assert "1 of 1: ViT, examples 32, seed 0: accuracy" in err and "accuracy_by_examples.pdf" in err
    assert [row["examples"] for row in json.loads((tmp_path / "study" / "study.json").read_text())["runs"]] == [32]
    code, out, err = ended(start("study", *flags, "--list", without=SLOW))
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()] == ["missing", "done"]
    code, _, err = ended(start("study", *flags, without=("tensorflow",)))
    assert code == 0 and "2 of 2: ViT, examples 16" in err, err


@pytest.mark.slow
def test_two_processes_make_a_study(tmp_path):
    """They train together; the first writes the results."""
    command = [sys.executable, "-m", "vit_jax.study", f"{STUDY}:16", f"--workdir={tmp_path}/study"]
    with local(command, tmp_path / "said") as job:
        assert job.wait(timeout=ENDS_IN) == 0, (tmp_path / "said").read_text()
    assert (tmp_path / "said").read_text().count("1 of 1: ViT, examples 16, seed 0: accuracy") == 1
    (row,) = json.loads((tmp_path / "study" / "study.json").read_text())["runs"]
    config = json.loads((tmp_path / "study" / "runs" / row["name"] / "second" / "config.json").read_text())
    assert config["devices"]["processes"] == 2 and row["examples"] == 16


@pytest.mark.slow
def test_the_first_look(start, tmp_path):
    """The study of docs/studies.md in miniature, on real images, stopped and continued."""
    flags = ("--config=configs/study_data_size.py:tiny", f"--workdir={tmp_path}/study")
    flags += (f"--config.data.data_dir={tmp_path}/data",)
    code, _, err = ended(start("study", *flags, "--only=BiT-examples1000-seed1"))
    assert code == 0, err
    process = start("study", *flags)
    process.terminate()
    process.communicate()
    code, _, err = ended(start("study", *flags))
    assert code == 0, err
    rows = json.loads((tmp_path / "study" / "study.json").read_text())["runs"]
    assert len(rows) == 8 and {row["model"] for row in rows} == {"ViT", "BiT"}
    assert all(0.1 < row["accuracy"] <= 1 and 0 < row["transfer"] <= 1 and row["exaflops"] > 0 for row in rows)
    for name in ("accuracy_by_examples", "transfer_by_examples", "accuracy_by_compute"):
        for suffix in ("png", "pdf"):
            assert (tmp_path / "study" / f"{name}.{suffix}").stat().st_size > 1000
