"""The command `main`: its --help, and errors of one sentence, which come before slow imports and computations."""

import json
import pathlib
import re

import pytest

SMALL = f"--config={pathlib.Path(__file__).parent / 'small.py'}"


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def refused(process, *said):
    """Checks that a process ended with one error line on stderr, with all the words in `said`, after log lines only."""
    code, out, err = ended(process)
    assert code in (1, 2), (code, err)
    *before, error = err.strip().splitlines()
    assert error.startswith("error: ")
    assert not any("Traceback" in line or "rror:" in line for line in before), err
    assert all(word in error for word in said), error
    assert not out
    return error


@pytest.mark.parametrize("flag", ["--help", "-help", "--helpfull"])
@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("main", ["--config", "--workdir", "--config.optimizer.learning_rate=", "checkpoints", "143"]),
        ("predict", ["--model", "--top", "one.png", "probabilities"]),
    ],
)
def test_help(start, verb, said, flag):
    code, out, err = ended(start(verb, flag, without=("jax", "tensorflow")))
    assert (code, err) == (0, "")
    assert f"python -m vit_jax.{verb}" in out
    assert all(word in out for word in said)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--workdir=run"], ["add --config=FILE.py", "configs/digits.py"]),
        ([SMALL], ["add --workdir=FOLDER"]),
        (["--config=none.py", "--workdir=run"], ["no config file none.py", "configs/digits.py"]),
        ([SMALL, "--workdir=run", "--wrkdir=run"], ["wrkdir", "workdir", "--help"]),
        ([SMALL, "--workdir=run", "--config.optimiser.learning_rate=1"], ["config.optimizer.learning_rate"]),
        ([SMALL, "--workdir=run", "--config.model.widht=1"], ["no config.model.widht", "config.model.width"]),
        ([SMALL, "--workdir=run", "--config.model.width=wide"], ["config.model.width is 'wide' (str); it takes int"]),
        ([SMALL, "--workdir=run", "--config.total_steps=1.5"], ["config.total_steps is 1.5 (float); it takes int"]),
        ([SMALL, "--workdir=run", "--config.total_steps"], ["--config.total_steps needs a value"]),
        ([SMALL, "--workdir=run", "--config.model.pool=token"], ["'token'", "tok, gap, map or tok+gap"]),
        ([SMALL, "--workdir=run", "--config.optimizer.momentum=0.5"], ["nothing reads config.optimizer.momentum=0.5"]),
        ([SMALL, "--workdir=run", "--config.evaluations.val.split=a"], ["config.evaluations.val.split", "are test"]),
        ([SMALL, "--workdir=run", "run"], ["what is 'run'?"]),
        (["--config=configs/digits.py:a,b,c,d", "--workdir=run"], ["digits.py"]),
    ],
)
def test_config_error_comes_before_jax(start, args, said):
    refused(start("main", *args, without=("jax", "tensorflow")), *said)


def test_describe_needs_no_workdir_and_no_jax(start):
    code, out, err = ended(start("main", SMALL, "--config.seed=3", "--describe", without=("jax", "tensorflow")))
    assert (code, err) == (0, "")
    assert "config.seed = 3  (command line; default 0)" in out and "config.optimizer.b1 = 0.9  (default)" in out
    refused(start("main", SMALL, "--config.data.workers=-2", "--describe", without=("jax",)), "data.workers is -2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def get_config(:", ["SyntaxError"]),
        ("import nothing_of_that_name", ["ModuleNotFoundError", "nothing_of_that_name"]),
        ("def get_config():\n    return 1 / 0", ["ZeroDivisionError: division by zero"]),
        ("def get_config():\n    raise RuntimeError('two\\nlines')", ["RuntimeError: two lines"]),
        ("def get_config():\n    pass", ["get_config()", "vit_jax.config.default()"]),
        ("config = 1", ["defines no get_config()"]),
        ("import vit_jax\ndef get_config():\n    vit_jax.config.default().sede = 3", ["no config.sede", "config.seed"]),
    ],
)
def test_config_file_that_fails(start, tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    process = start("main", f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run", without=("jax", "tensorflow"))
    refused(process, *said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--config.model.name=C/16"], ["unknown variant 'C/16'"]),
        (["--config.global_batch_size=12"], ["12 does not divide over 8 devices"]),
    ],
)
def test_error_after_jax_is_one_sentence_too(start, tmp_path, args, said):
    process = start("main", SMALL, *args, f"--workdir={tmp_path}/run", without=("tensorflow",), JAX_NUM_CPU_DEVICES="8")
    refused(process, *said)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_full_disk(start, tmp_path):
    process = start("main", SMALL, f"--workdir={tmp_path}/run", limit="ulimit -f 8", JAX_ENABLE_COMPILATION_CACHE="0")
    said = f"can't be written to {tmp_path}/run/checkpoints", "File too large", "goes on from the checkpoint before"
    refused(process, *said)


def test_digits_from_start_to_end(start, tmp_path):
    """A short run of the recipe prepares the data set and writes TensorBoard events; a second start does nothing."""
    flags = ("--config=configs/digits.py", "--config.total_steps=4", f"--config.data.data_dir={tmp_path}/data")
    code, _, err = ended(start("main", *flags, f"--workdir={tmp_path}/run"))
    assert code == 0, err
    assert "step 4: test/accuracy" in err
    assert re.search(r"step 4 of 4: loss [\d.]+, images/s [\d,.]+, \d+:\d\d left", err)
    assert len(list((tmp_path / "run").glob("events.out.tfevents.*"))) == 1
    assert json.loads((tmp_path / "run" / "model.json").read_text())["class_names"] == list("0123456789")
    code, _, err = ended(start("main", *flags, f"--workdir={tmp_path}/run", without=("tensorflow", "wandb")))
    assert code == 0, err
    assert f"this run is complete: {tmp_path}/run holds its model.npz" in err
