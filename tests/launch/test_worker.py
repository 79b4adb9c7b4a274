"""worker.sh, as it runs on a host, with commands that take no time."""

import os
import pathlib
import shlex
import signal
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAVES = "trap 'echo saved; exit 143' TERM; echo ready; while true; do sleep 0.05; done"


@pytest.fixture
def worker(launch, tmp_path):
    (tmp_path / "home").mkdir()

    def run(*args):
        return launch("worker.sh", *args, HOME=str(tmp_path / "home"))

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "vit_jax_run"


def state(worker):
    word, _, *rest = worker("status").stdout.split()
    assert word == "vit_jax"
    return " ".join(rest)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_outlives_its_start_saves_on_stop_and_keeps_its_exit_code(worker, folder):
    assert state(worker) == "none"
    done = worker("start", "--", "bash", "-c", SAVES)
    assert done.returncode == 0 and "started" in done.stdout, done.stderr
    until(lambda: "ready" in (folder / "log").read_text())
    assert state(worker) == "running"
    again = worker("start", "--", "true")
    assert again.returncode == 1 and "error: a run is going on" in again.stderr
    assert worker("stop").stdout.split()[-2:] == ["exit", "143"]
    assert "saved" in (folder / "log").read_text()
    assert state(worker) == "exit 143"


@pytest.mark.parametrize("code", [0, 1, 137])
def test_exit_codes_are_kept(worker, code):
    worker("start", "--", "bash", "-c", f"exit {code}")
    until(lambda: state(worker) != "running")
    assert state(worker) == f"exit {code}"


def test_the_log_of_the_run_before_is_kept(worker, folder):
    for word in ("first", "second"):
        worker("start", "--", "echo", word)
        until(lambda: state(worker) == "exit 0")
    assert (folder / "log").read_text().count("first") == 2  # in the command line, and in its output
    assert "second" in (folder / "log").read_text()


def test_sigterm_to_all_processes_of_a_host_leaves_the_exit_code(worker, folder):
    """This is what happens when the host is shut down."""
    worker("start", "--", "bash", "-c", SAVES)
    until(lambda: "ready" in (folder / "log").read_text())
    command, keeper, _ = (folder / "pid").read_text().split()
    os.kill(int(keeper), signal.SIGTERM)
    os.kill(int(command), signal.SIGTERM)
    until(lambda: state(worker) != "running")
    assert state(worker) == "exit 143"


def test_a_host_that_was_restarted_has_lost_its_run(worker, folder):
    worker("start", "--", "bash", "-c", SAVES)
    numbers = (folder / "pid").read_text().split()
    (folder / "pid").write_text(" ".join([*numbers[:2], "another-boot"]))
    assert state(worker) == "lost"
    os.kill(int(numbers[0]), signal.SIGTERM)


def test_exec_sets_the_environment_and_gives_the_command_its_place(worker):
    show = 'echo "$JAX_COMPILATION_CACHE_DIR"; exit 7'
    done = worker("exec", "--cache=gs://b/c", "--", "bash", "-c", show)
    assert (done.returncode, done.stdout) == (7, "gs://b/c\n")


def test_a_bucket_is_mounted_before_the_run(launch, fakes, tmp_path):
    fake = fakes("gcsfuse")
    home = str(tmp_path)
    assert launch("worker.sh", "exec", "--bucket=data", "--", "bash", "-c", ":", fakes=fake, HOME=home).returncode == 0
    assert fake.called() == [["gcsfuse", "--implicit-dirs", "-o", "ro", "data", f"{home}/data"]]
    assert pathlib.Path(home, "data").is_dir()


@pytest.mark.parametrize("there", [True, False])
def test_setup_installs_what_the_readme_says(launch, fakes, tmp_path, there):
    """With a Python that is new enough; if there is none, with one that uv installs."""
    environment = tmp_path / "vit_jax_env"
    (environment / "bin").mkdir(parents=True)
    fake = fakes("python3.11" if there else "python3", "pip")
    (environment / "bin" / "pip").symlink_to(fake.folder / "pip")
    (tmp_path / "bin" / "python3").unlink()
    done = launch("worker.sh", "setup", fakes=fake, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    *made, (_, *installed) = fake.called()
    installed.remove("--quiet")
    assert f"`{shlex.join(['pip', *installed])}`" in (ROOT / "README.md").read_text()
    if there:
        assert made == [["python3.11", "-m", "venv", str(environment)]]
    else:
        assert [command[2] for command in made] == ["pip", "uv"] and made[1][-1] == str(environment)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "worker.sh takes setup"),
        ("go", "not 'go'"),
        ("start", "which command?"),
        ("exec --what -- true", "what is --what?"),
    ],
)
def test_errors_are_one_sentence(worker, command, message):
    done = worker(*command.split())
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
