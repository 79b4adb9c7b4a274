"""Logging to Weights & Biases (W&B): the files of offline runs are read back, and a stub replaces the server."""

import dataclasses
import importlib.util
import json
import logging
import pathlib
import signal
import socket
import sys
import threading
import time
import types

import pytest
from etils import epath

import vit_jax
from helpers import folders
from vit_jax.errors import UserError
from vit_jax.training import metrics, metrics_wandb

OFFLINE = {"wandb.project": "vits", "wandb.mode": "offline"}
SMALL = pathlib.Path(__file__).parents[1] / "small.py"


def records(folder, start=-1):
    """Returns the W&B records of an offline run.

    The function waits until the records are complete, because another process writes them after the run has ended.

    Args:
        folder: the workdir.
        start: which start of the run, in order of time; by default the newest.
    """
    deadline = time.monotonic() + 30
    while not (found := list(parsed(folder, start))) or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def parsed(folder, start):
    """Yields the records that the file of an offline run contains so far.

    The file begins with 7 bytes. Then come records in the format of LevelDB's log, in blocks of 32 KiB. A record has
    one or more parts. Each part has a checksum (4 bytes), its length (2 bytes) and its kind (1 byte): whole, first,
    middle or last.
    """
    from wandb.proto import wandb_internal_pb2

    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.parent.name)
    data, at, part = files[start].read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + size > len(data):
            return
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(part)
            part = b""


def rows(folder):
    """Returns the rows that W&B has recorded, without the values that it adds itself, except its counter `_step`."""
    found = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found.append({key: value for key, value in row.items() if key not in ("_timestamp", "_runtime")})
    return found


def lines(folder):
    return [{key: value for key, value in line.items() if key != "time"} for line in folders.lines(folder)]


def writer(folder, step, config, **options):
    return metrics.Writer(epath.Path(folder), step, vit_jax.config.typed(config), first_process=True, **options)


@pytest.fixture
def installed():
    pytest.importorskip("wandb")


def test_a_run_that_goes_on_is_the_same_run_and_has_each_step_once(installed, small, tmp_path):
    """The run writes up to step 6, and is resumed from step 4 with an evaluation that it still had to do there."""
    for start, end, put_off in ((0, 6, {}), (4, 8, {"test/loss": 2.0})):
        writing = writer(tmp_path, start, small(OFFLINE), put_off=put_off)
        for step in range(start + 1, end + 1):
            writing.write(step, {"train/loss": 1 / step})
        writing.close()
        assert [{k: v for k, v in row.items() if k != "_step"} for row in rows(tmp_path)] == lines(tmp_path)
        time.sleep(1)  # names of W&B's folders contain the time in seconds
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 9)) and rows(tmp_path)[3]["test/loss"] == 2
    runs = [r.run.run_id for start in (0, 1) for r in records(tmp_path, start) if r.WhichOneof("record_type") == "run"]
    assert len(runs) == 2 and len(set(runs)) == 1


def test_switched_on_later_it_gets_what_was_before(installed, small, tmp_path):
    first = writer(tmp_path, 0, small())
    for step in (1, 2, 3):
        first.write(step, {"train/loss": 1 / step})
    first.close()
    second = writer(tmp_path, 2, small(OFFLINE), put_off={"test/loss": 2.0})
    second.write(3, {"train/loss": 1 / 3})
    second.close()
    assert [(row["step"], row.get("test/loss")) for row in rows(tmp_path)] == [(1, None), (2, 2.0), (3, None)]


@pytest.mark.slow
def test_a_run_that_is_killed(installed, start, tmp_path, monkeypatch):
    """After a SIGKILL, W&B has all of metrics.jsonl, the config and the axis, and nothing used the network.

    All requests would go to a proxy, which the test runs.
    """
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # set by a W&B process that another test has started
    called: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        threading.Thread(target=lambda: called.append(proxy.accept()[0].recv(99)), daemon=True).start()
        flags = [f"--config.{key}={value}" for key, value in OFFLINE.items()]
        command = ("main", f"--config={SMALL}", "--config.log_steps=1", "--config.checkpoint.every_steps=50", *flags)
        command += ("--config.total_steps=400", f"--workdir={tmp_path}/run")
        env = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "XDG_CACHE_HOME": str(tmp_path)}
        process = start(*command, **env)
        while not (tmp_path / "run" / "checkpoints" / "50").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = start(*command, **env)
        said = process.communicate()[1]
        assert process.returncode == 0, said
    assert "going on from the checkpoint of step" in said
    folder = tmp_path / "run"
    assert [{k: v for k, v in row.items() if k != "_step"} for row in rows(folder)] == lines(folder)
    assert [line["step"] for line in lines(folder)] == list(range(1, 401)) and "test/accuracy" in lines(folder)[-1]
    run = next(record.run for record in records(folder) if record.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name) == ("vits", "run")
    assert run.run_id == json.loads((folder / "wandb.json").read_text())["id"]
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["model"]["width"] == 16 and config["total_steps"] == 400 and config["optimizer"]["name"] == "adam"
    axes = [record.metric for record in records(folder) if record.WhichOneof("record_type") == "metric"]
    assert [(axis.name, axis.glob_name, axis.step_metric) for axis in axes][:2] == [("step", "", ""), ("", "*", "step")]
    assert f"wandb sync {sorted((folder / 'wandb').glob('offline-run-*'))[-1]}" in said
    assert not called


def test_without_the_package(small, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    folder = importlib.util.spec_from_loader("wandb", None)  # the working directory has a folder named wandb
    for spec in (None, folder):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a, s=spec: s if name == "wandb" else find(name, *a)
        )
        with pytest.raises(UserError, match=r"needs the package wandb, .*pip install 'vit_jax\[wandb\]'"):
            vit_jax.train(small(OFFLINE), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_keys_that_nothing_reads(small):
    with pytest.raises(UserError, match="nothing reads config.wandb.mode='offline': it needs config.wandb.project"):
        vit_jax.config.typed(small({"wandb.mode": "offline"}))
    with pytest.raises(UserError, match="config.wandb.mode is 'of'; it can be online or offline"):
        vit_jax.config.typed(small({"wandb.project": "vits", "wandb.mode": "of"}))


@dataclasses.dataclass
class Server:
    """Replaces the package wandb and its server.

    `step` is the value that W&B's own counter of rows has reached in the run. Rows with a smaller counter are refused.
    """

    step: int = 0
    login: object = lambda **_: True
    id: str = "1"
    url: str = "https://wandb.ai/me/vits/runs/1"
    ended: int | None = None

    def __post_init__(self):
        self.given, self.rows = {}, []

    def init(self, **given):
        self.given = given
        return self

    def define_metric(self, name, **options):
        pass

    def log(self, row, step):
        assert step >= self.step
        self.step = step + 1
        self.rows.append(row)

    def finish(self, exit_code):
        self.ended = exit_code


@pytest.fixture
def served(monkeypatch):
    def make(**options):
        server = Server(**options)
        package = types.ModuleType("wandb")
        package.__spec__ = importlib.util.spec_from_loader("wandb", None, origin="stub")
        package.login, package.init, package.Settings = server.login, server.init, dict
        monkeypatch.setitem(sys.modules, "wandb", package)
        return server

    return make


def test_online_the_server_says_which_steps_it_has(served, small, tmp_path, caplog):
    """On resuming, only the steps that the server lacks are sent.

    First the run is resumed at step 4 and the server lacks that step; later the server already has the steps up to 6.
    """
    config = small({"wandb.project": "vits", "wandb.entity": "us", "wandb.name": "first"})
    first = served()
    writing = writer(tmp_path, 0, config)
    for step in (1, 2, 3, 4):
        writing.write(step, {"train/loss": 1 / step})
    server = served(step=2 * 3 + 1)
    writing = writer(tmp_path, 4, config, put_off={"test/loss": 2.0})
    writing.write(5, {"train/loss": 0.2})
    assert server.rows == [{"step": 4, "train/loss": 0.25, "test/loss": 2.0}, {"step": 5, "train/loss": 0.2}]
    with pytest.raises(ZeroDivisionError), metrics.contextlib.closing(writing):
        1 / 0  # noqa: B018
    assert server.ended == 1
    given = server.given
    assert (given["project"], given["entity"], given["name"], given["mode"]) == ("vits", "us", "first", "online")
    assert given["id"] == first.given["id"] and given["resume"] == "allow"
    server = served(step=2 * 6 + 1)
    with caplog.at_level(logging.INFO, "vit_jax"):
        writing = writer(tmp_path, 4, config, put_off={"other/loss": 3.0})
    for step in (5, 6, 7):
        writing.write(step, {"train/loss": 1 / step})
    writing.close()
    assert server.rows == [{"step": 4, "other/loss": 3.0}, {"step": 7, "train/loss": 1 / 7}] and server.ended == 0
    assert "W&B has this run up to step 6; the steps up to there are computed again and not sent again" in caplog.text


def test_online_without_a_login(served, small, tmp_path):
    def no_key(**_):
        raise RuntimeError("No API key configured.")

    for login in (no_key, lambda **_: False):
        served(login=login)
        with pytest.raises(UserError, match="login.*run `wandb login`, or --config.wandb.mode=offline"):
            vit_jax.train(small({"wandb.project": "vits"}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_refused(served, small, tmp_path, monkeypatch):
    server = served()
    monkeypatch.setattr(sys.modules["wandb"], "init", server.finish)  # raises a TypeError, because its arguments differ
    with pytest.raises(UserError, match="W&B does not open the run .*or --config.wandb.mode=offline"):
        writer(tmp_path, 0, small({"wandb.project": "vits"}))


@pytest.mark.parametrize("text", ["{}", "[]", '{"id": 1}', "{"])
def test_a_damaged_id(served, small, tmp_path, text):
    served()
    (tmp_path / metrics_wandb.FILE).write_text(text)
    with pytest.raises(UserError, match="wandb.json"):
        writer(tmp_path, 0, small({"wandb.project": "vits"}))


def test_a_bucket(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "vit_jax"):
        found = metrics_wandb._directory(epath.Path("gs://bucket/run"))
    assert found.is_dir() and f"its files are in {found}, on this machine alone" in caplog.text
    found.rmdir()
    assert metrics_wandb._directory(epath.Path(tmp_path)) == epath.Path(tmp_path)
