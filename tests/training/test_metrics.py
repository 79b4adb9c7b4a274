"""The file metrics.jsonl, and the progress shown on the terminal."""

import json
import logging
import pathlib
import time

import pytest
from etils import epath

from vit_jax.config import typed
from vit_jax.training import metrics, metrics_file
from vit_jax.training.metrics import FILE, MetricsFile, Progress, Writer


class Bucket(type(pathlib.Path())):
    """A local folder that behaves like one in a bucket."""

    def __str__(self):
        return f"gs://{self.__fspath__()}"

    def __fspath__(self):
        return super().__str__()


def read(folder):
    return [json.loads(line) for line in (pathlib.Path(folder) / FILE).read_text().splitlines()]


@pytest.mark.parametrize("kind", [epath.Path, Bucket])
def test_each_step_once_and_in_order(tmp_path, kind):
    file = MetricsFile(kind(tmp_path), 0)
    for step in (2, 4, 6):
        file.write(step, {"train/loss": step / 2})
    file.flush()
    before = time.time()
    file = MetricsFile(kind(tmp_path), 4)  # the run is resumed from the checkpoint of step 4
    file.write(6, {"train/loss": 7.0})
    file.flush()
    found = read(tmp_path)
    assert [(line["step"], line["train/loss"]) for line in found] == [(2, 1.0), (4, 2.0), (6, 7.0)]
    assert found[1]["time"] <= before <= found[2]["time"] <= time.time()
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE]


def test_local_lines_are_there_at_once(tmp_path):
    MetricsFile(epath.Path(tmp_path), 0).write(1, {})
    assert [line["step"] for line in read(tmp_path)] == [1]


@pytest.mark.parametrize(
    "torn", ['{"step": 4, "train/lo', "{", "[1]", "null", "4", '{"loss": 1}', '{"step": "4"}', "\0\0"]
)
def test_what_is_no_line_is_dropped(tmp_path, torn):
    (tmp_path / FILE).write_text('{"step": 1}\n{"step": 3, "a": 1}\n{"step": 2}\n{"step": 3, "a": 2}\n' + torn)
    MetricsFile(epath.Path(tmp_path), 10).write(5, {})
    assert [(line["step"], line.get("a")) for line in read(tmp_path)] == [(1, None), (2, None), (3, 2), (5, None)]


def test_other_processes_write_nothing(tmp_path, small):
    config = typed(small({"log.tensorboard": True, "wandb.project": "vits", "wandb.mode": "offline"}))
    writer = Writer(epath.Path(tmp_path), 0, config, first_process=False)
    writer.write(1, {"train/loss": 1.0})
    writer.flush()
    writer.close()
    assert not list(tmp_path.iterdir())


def test_speed_leaves_compilation_and_evaluations_out(monkeypatch, caplog):
    clock = iter([0.0, 100.0, 100.0, 102.0, 102.0, 150.0, 154.0])
    monkeypatch.setattr(metrics.time, "monotonic", lambda: next(clock))
    progress = Progress(10, 30, batch_size=8, first_process=True)
    progress.step(11)  # at 100 seconds
    assert progress.speed(11) == {"train/images_per_second": 0.08, "train/data_wait": 0.0}  # 8 images in 100 seconds
    with caplog.at_level(logging.INFO, "vit_jax"):
        progress.step(12)
        progress.waited(0.5)
        speed = progress.speed(12)  # at 102 seconds
        progress.report(12, {"train/loss": 1.5, **speed})
    assert speed == {"train/images_per_second": 4.0, "train/data_wait": 0.25}
    assert caplog.messages == ["step 12 of 30: loss 1.5, images/s 4, waiting for data 25%, 0:36 left"]
    progress.resume(12)  # an evaluation ended at 150 seconds
    progress.step(13)
    assert progress.speed(13) == {"train/images_per_second": 2.0, "train/data_wait": 0.0}


def test_part_of_the_peak(monkeypatch):
    clock = iter([0.0, 1.0, 3.0])
    monkeypatch.setattr(metrics.time, "monotonic", lambda: next(clock))
    progress = Progress(0, 2, batch_size=8, first_process=True, peak=10.0)
    progress.step(1)
    assert progress.speed(2) == {"train/images_per_second": 4.0, "train/data_wait": 0.0, "train/mfu": 0.4}


def test_damaged_lines_are_dropped_and_counted(tmp_path, caplog):
    good = b'{"step": 1}\n'
    damaged = [b"[1]", b'{"step": "1"}', b'{"step": 2, "\xc3', b"\0\0\0"]
    (tmp_path / "metrics.jsonl").write_bytes(good + b"\n".join(damaged))
    metrics.MetricsFile(epath.Path(tmp_path), 5)
    assert (tmp_path / "metrics.jsonl").read_bytes() == good
    assert f"4 damaged lines ({sum(map(len, damaged))} bytes) are dropped" in caplog.text


@pytest.mark.parametrize("kind", [epath.Path, Bucket])
def test_values_of_one_step_share_a_line(tmp_path, kind):
    """The measures of an evaluation come after the step's metrics and are added to their line."""
    file = MetricsFile(kind(tmp_path), 0)
    file.write(2, {"train/loss": 1.0})
    file.write(4, {"train/loss": 0.5})
    file.write(4, {"test/accuracy": 0.75})
    file.write(6, {"train/loss": 0.25})
    file.flush()
    found = [{key: value for key, value in line.items() if key != "time"} for line in read(tmp_path)]
    assert found == [
        {"step": 2, "train/loss": 1.0},
        {"step": 4, "train/loss": 0.5, "test/accuracy": 0.75},
        {"step": 6, "train/loss": 0.25},
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE]


def test_a_bucket_is_written_to_every_minute(tmp_path, monkeypatch):
    """Objects can't be appended to, and a user wants to follow a run before its next checkpoint."""
    now = iter([0.0, 59.0, 61.0, 61.0, 100.0, 122.0, 122.0])
    monkeypatch.setattr(metrics_file.time, "monotonic", lambda: next(now))
    file, seen = MetricsFile(Bucket(tmp_path), 0), []
    for step in (1, 2, 3, 4):
        file.write(step, {})
        seen.append(len(read(tmp_path)) if (tmp_path / FILE).exists() else 0)
    assert seen == [0, 2, 2, 4]


@pytest.mark.parametrize(("kind", "step"), [(epath.Path, 4), (epath.Path, 5), (Bucket, 4), (Bucket, 5)])
def test_what_was_put_off_gets_the_line_of_its_step(tmp_path, small, kind, step):
    """Step 4 has a line, to which the values are added. Step 5 was saved and not logged, and gets a new line."""
    file = MetricsFile(kind(tmp_path), 0)
    for number in (2, 4, 6):
        file.write(number, {"train/loss": number / 2})
    file.flush()
    writer = Writer(kind(tmp_path), step, typed(small()), first_process=True, put_off={"test/loss": 9.0})
    writer.close()
    expected = {2: {"train/loss": 1.0}, 4: {"train/loss": 2.0}}
    expected[step] = {**expected.get(step, {}), "test/loss": 9.0}
    found = {line["step"]: {k: v for k, v in line.items() if k not in ("step", "time")} for line in read(tmp_path)}
    assert found == expected
