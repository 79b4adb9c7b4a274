"""Runs of several processes, of which one is killed, stopped, suspended or fails.

All the processes end, with an error that names the reason, and the same command goes on from where they were.
"""

import random
import shutil
import signal
import socket
import time

import pytest

from helpers.folders import checkpoints, numbers, write_images
from helpers.processes import Job, errors, run


@pytest.mark.slow
def test_any_killed_at_a_random_moment(start, four, tmp_path):
    """If one process is killed, all end, and the same command then resumes to the same bits."""
    killed = [random.choice([1, 2, 3]), 0]  # process 0 is special, because it watches the others
    for process in killed:
        with Job(start, tmp_path / "run", 4, 1, "--watch_seconds=10") as job:
            job.until_logged(random.choice([2, 4, 6, 8]))
            time.sleep(random.uniform(0, 0.5))
            job.processes[process].kill()
            said, codes = job.ended()
        assert codes.pop(process) == -signal.SIGKILL
        assert all(codes), (codes, said)
        named = [
            text
            for text in said
            if f"no sign of life from process {process} on {socket.gethostname()} for 10 s" in text
        ]
        assert len(named) == 3 or process == 0, said
    run(start, tmp_path / "run", 4, 1)
    assert numbers(tmp_path / "run") == numbers(four)
    assert (tmp_path / "run" / "model.npz").read_bytes() == (four / "model.npz").read_bytes()
    assert checkpoints(tmp_path / "run") == checkpoints(four)
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name or "tmp" in path.name]


@pytest.mark.slow
def test_sigterm_before_the_first_step_leaves_nothing(start, tmp_path):
    with Job(start, tmp_path / "run", 2, 1, JAX_ENABLE_COMPILATION_CACHE="0") as job:
        for line in job.processes[0].stderr:
            if "parameters" in line:  # logged just before the step is compiled
                break
        job.processes[1].terminate()
        said, codes = job.ended()
    assert codes == [143, 143], said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_stopped_first_process_is_named(start, tmp_path):
    """The other process names process 0, which was suspended. A test in tests/launch suspends another process."""
    with Job(start, tmp_path / "run", 2, 1, "--watch_seconds=8") as job:
        job.until_logged(4)
        job.processes[0].send_signal(signal.SIGSTOP)
        said, codes = job.ended(but=[0])
    assert codes == [1], said
    (error,) = errors(said[0])
    assert f"no sign of life from process 0 on {socket.gethostname()} for 8 s" in error


@pytest.mark.slow
def test_error_of_one_ends_all(start, tmp_path):
    """All the processes end with the same error when one of them finds an image that can't be read."""
    write_images(tmp_path / "images")
    (bad,) = (tmp_path / "images" / "train").rglob("0.png")
    bad.write_text("no image")
    data = (f"--config.data.data_dir={tmp_path}/images", "--config.data.name=folder", "--config.data.corrupt=fail",
            "--config.data.num_examples=1024", "--config.data.num_classes=10")  # fmt: skip
    with Job(start, tmp_path / "run", 2, 1, *data) as job:
        said, codes = job.ended()
    assert codes == [1, 1], said
    found = [line for text in said for line in errors(text)]
    assert len(found) == 2 and all(f"{bad} can't be read" in line for line in found), said
    assert sum(f"on {socket.gethostname()} failed: " in line for line in found) == 1
    assert not any("Traceback" in text for text in said)


@pytest.mark.slow
def test_what_one_process_cannot_read_or_does_not_share(start, four, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(four, folder)
    (folder / "model.npz").unlink()
    for path in (folder / "checkpoints" / "12").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Job(start, folder, 2, 1) as job:
        said, codes = job.ended()
    assert codes == [1, 1], said
    assert any(f"the checkpoint {folder}/checkpoints/12 can't be read" in line for line in errors(said[0])), said
    shutil.rmtree(folder / "checkpoints" / "12")
    for other, expected in (
        (f"--workdir={tmp_path}/other", "the workdir is another one here than in process 0; name a --workdir that"),
        ("--config.checkpoint.keep=7", "the config is another one here than in process 0; give all"),
    ):
        with Job(start, folder, 2, 1, second=other) as job:
            said, codes = job.ended()
        assert codes == [1, 1], said
        assert errors(said[1])[0].startswith(f"error: {expected}"), said
        assert f"failed: {expected}" in errors(said[0])[0], said
