"""Fixtures of the tests of launch/.

Scripts run with a PATH of their own, on which gcloud, kubectl, docker and sbatch are fakes or do not exist.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = """
    awk bash cat chmod cp date dirname env grep hostname kill mkdir mktemp mountpoint mv python3 rm sed setsid sleep
    sort tail tar tr
"""

# The program of a fake command. It appends its name and arguments to a file, as JSON. Then it looks for the first
# answer whose words are all in its command line, prints the answer, removes it, and exits with its code.
FAKE = """#!{python} -SE
import json, pathlib, sys
here = pathlib.Path(__file__).resolve().parent
command = [pathlib.Path(__file__).name, *sys.argv[1:]]
with open(here / "called", "a") as file:
    print(json.dumps(command), file=file)
answers = json.loads((here / "answers").read_text())
for number, (words, out, code) in enumerate(answers):
    if all(word in " ".join(command) for word in words.split()):
        del answers[number]
        (here / "answers").write_text(json.dumps(answers))
        print(out, file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""


@pytest.fixture
def launch(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Returns a function that runs a script of launch/: `launch("tpu_vm.sh", "create", …, fakes=…)`.

    Only `TOOLS` and the fakes are on its PATH.
    """
    if sys.platform != "linux":
        pytest.skip("the scripts are tested on Linux")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for tool in TOOLS.split():
        found = sys.executable if tool == "python3" else shutil.which(tool)
        assert found, f"these tests need {tool}"
        (bin_ / tool).symlink_to(found)

    def run(script: str, *args: str, fakes: Any = None, **env: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "launch" / script), *args]
        if script.endswith(".py"):
            command.insert(0, sys.executable)
        path = f"{fakes.folder}{os.pathsep}{bin_}" if fakes else str(bin_)
        return subprocess.run(
            command,
            env={"PATH": path, "HOME": "/home/user", "LANG": "C.UTF-8", **env},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def fakes(tmp_path) -> Callable[..., SimpleNamespace]:
    """Returns a function that makes fake commands: `fakes("gcloud", answers=[("describe", "ACTIVE", 0), …])`.

    A fake command does nothing but record how it is called and give an answer. An answer has words that must be in the
    command line, the text to print, and the exit code. `called()` of the result returns the calls, and `left()` the
    answers that were not used.
    """

    def make(*names: str, answers: Sequence[tuple[str, str, int]] = ()) -> SimpleNamespace:
        folder = tmp_path / "fakes"
        folder.mkdir()
        (folder / "answers").write_text(json.dumps(answers))
        (folder / "called").touch()
        for name in names:
            (folder / name).write_text(FAKE.format(python=sys.executable))
            (folder / name).chmod(0o755)
        return SimpleNamespace(
            folder=folder,
            called=lambda: [json.loads(line) for line in (folder / "called").read_text().splitlines()],
            left=lambda: json.loads((folder / "answers").read_text()),
        )

    return make
