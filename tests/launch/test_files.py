"""The files beside the scripts: the SkyPilot file, the Dockerfile and README.md; all of them are installed."""

import fnmatch
import pathlib
import re
import shlex

import pytest
import yaml

from vit_jax import config as config_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
PAGE = (LAUNCH / "README.md").read_text()


def test_sky_asks_for_tpus_and_brings_an_interrupted_run_back():
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert set(task) == {"name", "workdir", "resources", "envs", "file_mounts", "setup", "run"}
    resources = task["resources"]
    assert resources["accelerators"].startswith("tpu-v5") and resources["use_spot"] is True
    assert resources["job_recovery"] == {"max_restarts_on_errors": 0, "recover_on_exit_codes": [143]}
    assert task["file_mounts"] == {"/data": {"source": "gs://${DATA}", "mode": "MOUNT"}}
    used = set(re.findall(r"\$\{?([A-Z]+)", task["run"] + str(task["file_mounts"])))
    assert used == set(task["envs"])


def test_sky_runs_what_the_worker_takes(launch):
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    text = re.sub(r"\$([A-Z]+)", lambda match: task["envs"][match[1]], task["run"])
    _, _, *words = shlex.split(text.replace("\\\n", ""))
    place = words.index("--")
    done = launch("worker.sh", *words[:place], "--dry-run", *words[place:])
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("exec python -m vit_jax.main --config=")
    for word in words[place:]:
        if word.startswith("--config."):
            assert config_lib.is_key(word.removeprefix("--config.").partition("=")[0])
    _, _, *setup = shlex.split(task["setup"])
    assert launch("worker.sh", *setup, "--dry-run").returncode == 0


def dockerfile():
    text = (LAUNCH / "Dockerfile").read_text().replace("\\\n", "")
    return [line.partition(" ")[::2] for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("accelerator", ["tpu", "gpu"])
def test_the_dockerfile_installs_as_the_readme_says(accelerator):
    steps = dockerfile()
    assert ("ARG", "ACCELERATOR=tpu") in steps
    (install,) = [value for name, value in steps if name == "RUN"]
    command = shlex.join(shlex.split(install.replace("$ACCELERATOR", accelerator)))
    assert f"`{command}`" in (ROOT / "README.md").read_text()


def test_the_dockerfile_copies_what_the_package_is_made_of():
    copied = [word for name, value in dockerfile() if name == "COPY" for word in value.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    archive = re.search(r"act tar .*?\n\s+(.*)", (LAUNCH / "tpu_vm.sh").read_text())
    assert archive is not None and set(copied) == set(archive[1].split())  # the same files as are copied to a TPU VM
    assert {"vit_jax", "configs", "launch", "setup.py", "pyproject.toml"} <= set(copied)


def test_the_dockerfile_has_a_python_that_is_supported():
    name, value = dockerfile()[0]
    minor = re.fullmatch(r"python:3\.(\d+)-slim", value)
    assert name == "FROM" and minor is not None
    assert f"Programming Language :: Python :: 3.{minor[1]}" in (ROOT / "setup.py").read_text()


def test_every_file_is_installed():
    patterns = re.search(r'"vit_jax\.launch": \[(.*?)\]', (ROOT / "setup.py").read_text())
    assert patterns is not None
    globs = ["*.py", *re.findall(r'"(.*?)"', patterns[1])]
    names = [path.name for path in LAUNCH.iterdir() if path.is_file()]
    missing = [name for name in names if not any(fnmatch.fnmatch(name, glob) for glob in globs)]
    assert not missing, f"setup.py's package_data leaves out {missing}"


def commands():
    """Yields the commands in launch/README.md that start one of our scripts, each as a list of words."""
    text = PAGE.replace("\\\n", " ")
    for line in re.findall(r"^    (.+)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        if words and (words[0].startswith("launch/") or (words[:1] == ["python"] and words[1] == "launch/gke.py")):
            yield words


@pytest.mark.parametrize("words", list(commands()), ids=lambda words: " ".join(words)[:50])
def test_every_command_of_the_page_is_one(launch, words):
    script, *args = words[1:] if words[0] == "python" else words
    place = args.index("--") if "--" in args else len(args)
    more = [] if "--dry-run" in args or "--help" in args else ["--dry-run"]
    done = launch(pathlib.Path(script).name, *args[:place], *more, *args[place:])
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_file():
    for path in LAUNCH.iterdir():
        if path.is_file() and path.name not in ("__init__.py", "README.md"):
            assert path.name in PAGE, path.name
