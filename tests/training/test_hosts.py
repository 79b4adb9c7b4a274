"""Several processes on one machine are a real multi-host run: the same numbers as one, and nothing lost or hung."""

import json
import pathlib
import random
import runpy
import signal
import socket
import time

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
free_port = runpy.run_path(str(ROOT / "launch" / "local.py"))["_free_port"]
COMMAND = ("main", f"--config={ROOT / 'tests' / 'small.py'}")
STEPS = 12  # of that config
ENDS_IN = 240  # seconds, on a machine that is busy; a hang would be for ever


class Job:
    """So many processes, started as their hosts would start them."""

    def __init__(self, start, folder, processes, devices, *args, each=("",) * 4, **env):
        self.folder = folder
        if processes > 1:
            args += (f"--coordinator=127.0.0.1:{free_port()}", f"--processes={processes}")
        self.processes = [
            start(
                *COMMAND,
                f"--workdir={folder}",
                *args,
                *filter(None, [each[process], f"--process_id={process}" if processes > 1 else ""]),
                JAX_NUM_CPU_DEVICES=str(devices),
                **env,
            )
            for process in range(processes)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.communicate()

    def ended(self, but=()):
        """What each has said, and its exit code."""
        said = [p.communicate(timeout=ENDS_IN)[1] for i, p in enumerate(self.processes) if i not in but]
        return said, [p.returncode for i, p in enumerate(self.processes) if i not in but]

    def until(self, moment):
        """Waits for a moment, such as that of a step being logged."""
        while not moment(self.folder):
            running = [process.poll() is None for process in self.processes]
            assert all(running), [process.communicate()[1] for process in self.processes]
            time.sleep(0.01)


def lines(folder):
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def numbers(folder):
    return [{k: v for k, v in line.items() if k not in ("time", "train/images_per_second")} for line in lines(folder)]


def logged(step):
    return lambda folder: any(line["step"] >= step for line in lines(folder))


def checkpoints(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def errors(said):
    return [line for line in said.splitlines() if line.startswith("error: ")]


def run(start, folder, processes, devices, *args):
    with Job(start, folder, processes, devices, *args) as job:
        said, codes = job.ended()
    assert codes == [0] * processes, said
    return said


def agree(folder, other, atol):
    for mine, theirs in zip(numbers(folder), numbers(other), strict=True):
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(list(mine.values()), list(theirs.values()), atol=atol, err_msg=str(mine["step"]))


def identical(folder, other):
    assert numbers(folder) == numbers(other)
    assert (folder / "model.npz").read_bytes() == (other / "model.npz").read_bytes()
    assert checkpoints(folder) == checkpoints(other)
    assert not list(folder.rglob("*tmp*"))


@pytest.fixture(scope="module")
def two(start, tmp_path_factory):
    """Two processes of two devices each, uninterrupted."""
    folder = tmp_path_factory.mktemp("two") / "run"
    said = run(start, folder, 2, 2)
    assert "step 12 of 12" in said[0] and "step 12" not in said[1]  # the first one speaks for all
    return folder


@pytest.fixture(scope="module")
def one(start, tmp_path_factory):
    """One process with as many devices."""
    folder = tmp_path_factory.mktemp("one") / "run"
    run(start, folder, 1, 4)
    return folder


def test_two_processes_equal_one(one, two):
    agree(one, two, 1e-5)
    assert [path.name for path in sorted(two.iterdir())] == [path.name for path in sorted(one.iterdir())]
    assert json.loads((two / "config.json").read_text())["devices"]["processes"] == 2
    # Bits: how each process adds its share of the gradients up.
    old, new = dict(np.load(one / "model.npz")), dict(np.load(two / "model.npz"))
    for name in set(old) | set(new):
        if not name.endswith("key/bias"):  # whose exact gradient is zero: Adam moves it by rounding noise
            np.testing.assert_allclose(old[name], new[name], atol=1e-5, err_msg=name)


def test_killed_process_is_named_and_nothing_is_lost(start, two, tmp_path):
    with Job(start, tmp_path / "run", 2, 2, "--watch_seconds=10") as job:
        job.until(logged(8))
        job.processes[1].kill()
        said, codes = job.ended()
    assert codes == [1, -signal.SIGKILL]
    (error,) = errors(said[0])
    assert f"process 1 on {socket.gethostname()} has not been heard of for 10 s" in error
    assert "Traceback" not in said[0]
    again = run(start, tmp_path / "run", 2, 2)
    assert "going on from the checkpoint" in again[0]
    identical(tmp_path / "run", two)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(), ("--config.mesh.data=1", "--config.mesh.fsdp=4"), ("--config.mesh.tensor=2",)])
def test_four_processes_equal_one(start, one, tmp_path, mesh):
    run(start, tmp_path / "run", 4, 1, *mesh)
    agree(one, tmp_path / "run", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1, 2, 3])
def test_any_killed_at_a_random_moment(start, tmp_path_factory, tmp_path, killed):
    """Every process ends, and the same command goes on to the same bits."""
    whole = tmp_path_factory.getbasetemp() / "four"
    if not whole.exists():
        run(start, whole, 4, 1)
    with Job(start, tmp_path / "run", 4, 1, "--watch_seconds=10") as job:
        job.until(logged(random.choice([2, 4, 6, 8, 10])))
        time.sleep(random.uniform(0, 0.5))
        job.processes[killed].kill()
        said, codes = job.ended()
    assert codes.pop(killed) in (-signal.SIGKILL, 0)
    assert all(codes), (codes, said)
    run(start, tmp_path / "run", 4, 1)
    identical(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [((4, 1), (2, 2)), ((2, 2), (1, 4)), ((1, 2), (2, 1))], ids=str)
def test_goes_on_with_another_number_of_processes(start, one, tmp_path, before, after):
    with Job(start, tmp_path / "run", *before) as job:
        job.until(logged(6))
        job.processes[-1].terminate()
        said, codes = job.ended()
    assert codes == [143] * before[0], said
    step = checkpoints(tmp_path / "run")[-1]
    again = run(start, tmp_path / "run", *after)
    assert f"going on from the checkpoint of step {step}" in again[0]
    agree(one, tmp_path / "run", 1e-5)


@pytest.mark.slow
def test_sigterm_to_one_saves_on_all_at_the_same_step(start, two, tmp_path):
    with Job(start, tmp_path / "run", 2, 2, f"--config.checkpoint.every_steps={STEPS}") as job:
        job.until(logged(2))
        job.processes[1].terminate()
        said, codes = job.ended()
    assert codes == [143, 143], said
    (step,) = checkpoints(tmp_path / "run")
    assert f"SIGTERM: saved step {step}" in said[0]
    run(start, tmp_path / "run", 2, 2)
    assert numbers(tmp_path / "run")[-1] == numbers(two)[-1]
    assert (tmp_path / "run" / "model.npz").read_bytes() == (two / "model.npz").read_bytes()


@pytest.mark.slow
def test_sigterm_before_the_first_step_leaves_nothing(start, tmp_path):
    with Job(start, tmp_path / "run", 2, 1, JAX_ENABLE_COMPILATION_CACHE="0") as job:
        for line in job.processes[0].stderr:
            if "parameters" in line:  # the step is compiled next
                break
        job.processes[1].terminate()
        said, codes = job.ended()
    assert codes == [143, 143], said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_stopped_straggler_is_named(start, tmp_path, stopped):
    with Job(start, tmp_path / "run", 2, 1, "--watch_seconds=8") as job:
        job.until(logged(4))
        job.processes[stopped].send_signal(signal.SIGSTOP)
        said, codes = job.ended(but=[stopped])
    assert codes == [1], said
    (error,) = errors(said[0])
    assert f"process {stopped} on {socket.gethostname()} has not been heard of for 8 s" in error


@pytest.mark.slow
def test_error_of_one_ends_all(start, tmp_path):
    """One of them comes upon an image that can't be read."""
    rng = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "images" / ("train", "test")[i % 3 == 2] / "abcd"[i % 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    path.write_text("no image")
    data = (f"--config.data.data_dir={tmp_path}/images", "--config.data.name=folder", "--config.data.corrupt=fail",
            "--config.data.num_examples=1024", "--config.data.num_classes=10")  # fmt: skip
    with Job(start, tmp_path / "run", 2, 1, *data) as job:
        said, codes = job.ended()
    assert codes == [1, 1], said
    found = [line for text in said for line in errors(text)]
    assert len(found) == 2 and all(f"{path} can't be read" in line for line in found), said
    assert sum(f"on {socket.gethostname()} failed: " in line for line in found) == 1
    assert not any("Traceback" in text for text in said)


@pytest.mark.slow
def test_processes_must_be_given_the_same(start, tmp_path):
    with Job(start, tmp_path / "run", 2, 1, each=["--config.seed=1", "--config.seed=2"]) as job:
        said, codes = job.ended()
    assert codes == [1, 1], said
    assert "the config is another one here than in process 0" in errors(said[1])[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_embedded_data_set_is_prepared_by_several_at_once(start, tmp_path):
    data = ("--config.data.name=digits", f"--config.data.data_dir={tmp_path}/data", "--config.data.num_examples=1024",
            "--config.data.num_classes=10", "--config.total_steps=1")  # fmt: skip
    run(start, tmp_path / "run", 4, 1, *data)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--coordinator=127.0.0.1:1"], ["add --processes and --process_id"]),
        (["--processes=2", "--process_id=0"], ["add --coordinator"]),
        (["--process_id=0"], ["add --coordinator and --processes"]),
        (["--coordinator=127.0.0.1:1", "--processes=2", "--process_id=2"], ["--process_id=2", "take 0 to 1"]),
        (["--coordinator=127.0.0.1:1", "--processes=2", "--process_id=-1"], ["process_id"]),
        (["--coordinator=127.0.0.1:1", "--processes=0", "--process_id=0"], ["processes"]),
        (["--coordinator=127.0.0.1", "--processes=2", "--process_id=0"], ["is not HOST:PORT"]),
        (["--coordinator=127.0.0.1:99999", "--processes=2", "--process_id=0"], ["is not HOST:PORT"]),
        (["--watch_seconds=0"], ["watch_seconds"]),
        (["--wait_seconds=0"], ["wait_seconds"]),
    ],
)
def test_flags_that_cannot_be_meant(start, tmp_path, args, said):
    """Found before JAX is imported."""
    process = start(*COMMAND, f"--workdir={tmp_path}/run", *args, without=("jax", "tensorflow"))
    err = process.communicate(timeout=ENDS_IN)[1]
    assert process.returncode == 1, err
    (line,) = err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in said), line


def test_nobody_answers(start, tmp_path):
    port = free_port()
    flags = (f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--workdir={tmp_path}/run", "--wait_seconds=3")
    taken = socket.create_server(("", free_port()))
    with taken:
        address = f"--coordinator=127.0.0.1:{taken.getsockname()[1]}"
        processes = [
            start(*COMMAND, *flags, "--process_id=1"),
            start(*COMMAND, *flags, address, "--process_id=0"),
        ]
        said = [process.communicate(timeout=ENDS_IN)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    assert errors(said[0])[0].startswith(f"error: nothing answers at --coordinator=127.0.0.1:{port}, where process 0")
    assert "can't be used (Address already in use)" in errors(said[1])[0]
    assert not (tmp_path / "run").exists()


def test_some_do_not_come(start, tmp_path):
    flags = (f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", "--process_id=0", "--wait_seconds=3")
    process = start(*COMMAND, *flags, f"--workdir={tmp_path}/run")
    said = process.communicate(timeout=ENDS_IN)[1]
    assert process.returncode == 1, said
    assert "not all of --processes=2 have come" in errors(said)[0]
