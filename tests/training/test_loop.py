"""Training runs from the outside: the files they leave, how they resume and end, and what they refuse to start."""

import itertools
import json
import logging
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import types
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax
from vit_jax import UserError, chips
from vit_jax.checkpoints import store
from vit_jax.training import metrics, run


def lines(folder):
    return [json.loads(line) for line in (folder / metrics.FILE).read_text().splitlines()]


def numbers(folder):
    """Returns the lines of metrics.jsonl without times and speeds."""
    return [{k: v for k, v in line.items() if k not in ("time", "train/images_per_second")} for line in lines(folder)]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def halve(folder, step):
    """Truncates the arrays of a checkpoint to half, as a full disk would."""
    for path in (folder / "checkpoints" / str(step)).rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def refused(config, workdir, *said):
    """Checks that training raises a UserError of one line, with all the words in `said`, and changes no file."""
    before = contents(workdir) if workdir.is_dir() else workdir.exists()
    with pytest.raises(UserError) as error:
        vit_jax.train(config, workdir)
    message = str(error.value)
    assert all(word in message for word in said), message
    assert "\n" not in message
    assert before == (contents(workdir) if workdir.is_dir() else workdir.exists())


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """Returns the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("run") / "deep" / "inside"
    returned = vit_jax.train(small(), folder)
    last = lines(folder)[-1]
    assert {key: last[key] for key in returned} == returned
    return folder


@pytest.fixture
def stopped(finished, tmp_path):
    """Returns a copy of the folder `finished` without model.npz, so that the run is not complete."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "model.npz").unlink()
    return folder


@pytest.fixture
def images(tmp_path):
    """Returns the changes of the config that make it use a folder with images of four classes."""
    rng = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "images" / ("train", "test")[i % 3 == 2] / "abcd"[i % 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return {"data.name": "folder", "data.data_dir": str(tmp_path / "images"), "data.num_examples": 1024,
            "data.num_classes": 10}  # fmt: skip


def test_what_a_run_leaves(finished):
    assert sorted(os.listdir(finished)) == ["checkpoints", "config.json", "metrics.jsonl", "model.json", "model.npz"]
    assert steps(finished) == [9, 12]
    config = json.loads((finished / "config.json").read_text())
    assert {"format_version", "version", "devices", "config"} <= set(config)
    assert config["config"]["optimizer"]["b1"] == 0.9
    found = lines(finished)
    assert [line["step"] for line in found] == list(range(1, 13))  # log_steps is limited to a tenth of the run, 1
    train = {f"train/{name}" for name in ("loss", "learning_rate", "gradient_norm", "images_per_second")}
    assert all(train <= set(line) for line in found)
    assert [line["step"] for line in found if "test/accuracy" in line and "test/loss" in line] == [6, 12]
    assert all(before["time"] <= after["time"] for before, after in itertools.pairwise(found))


def test_part_of_the_devices_peak(small, tmp_path, monkeypatch):
    """The MFU is logged if the peak of the devices is known. Here the run takes the CPUs for TPUs (v5e)."""
    monkeypatch.setattr(run, "chips", types.SimpleNamespace(of_device=lambda kind: chips.CHIPS["v5e"]))
    config = small({"total_steps": 2})
    vit_jax.train(config, tmp_path / "run")
    last = lines(tmp_path / "run")[-1]
    model = vit_jax.load(tmp_path / "run" / "model.npz")
    operations = last["train/images_per_second"] * run.flops.step(model, 1)
    assert last["train/mfu"] == pytest.approx(operations / (jax.device_count() * 197e12))


def test_complete_run_started_again_changes_nothing(small, finished, caplog):
    before = contents(finished)
    with caplog.at_level(logging.INFO, "vit_jax"):
        assert vit_jax.train(small(), finished) == {}
    assert "complete" in caplog.text
    assert contents(finished) == before


def without_checkpoint(folder):
    shutil.rmtree(folder / "checkpoints" / "12")


def without_checkpoints(folder):
    shutil.rmtree(folder / "checkpoints")


def with_leftovers(folder):
    """Adds what kills leave behind: a half-written checkpoint, a half-written line, and other partial files."""
    (folder / "checkpoints" / "12").rename(folder / "checkpoints" / "12.orbax-checkpoint-tmp")
    text = (folder / metrics.FILE).read_text()
    (folder / metrics.FILE).write_text(text + text.splitlines()[-1] + "\n" + '{"step": 13, "tr')
    for name in ("config.json", metrics.FILE, "model.json", "model.npz"):
        (folder / f".{name}.partial").write_text("{")


def with_broken_checkpoint(folder):
    halve(folder, 12)
    shutil.copytree(folder / "checkpoints" / "9", folder / "checkpoints" / "12.broken")  # left by an earlier failure


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: None, "going on from the checkpoint of step 12"),
        (without_checkpoint, "going on from the checkpoint of step 9"),
        (without_checkpoints, "step 2 of 12"),
        (with_leftovers, "going on from the checkpoint of step 9"),
        (with_broken_checkpoint, "went back from checkpoint 12 to the one before, 9"),
    ],
)
def test_goes_on_to_the_same_end(small, finished, stopped, caplog, damage, said):
    damage(stopped)
    with caplog.at_level(logging.INFO, "vit_jax"):
        vit_jax.train(small(), stopped)
    assert said in caplog.text
    assert (stopped / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()
    assert numbers(stopped) == numbers(finished)
    assert steps(stopped) == [9, 12]
    assert not [path for path in stopped.rglob("*") if "partial" in path.name or "tmp" in path.name]


def test_an_evaluation_that_fails_loses_no_step(small, finished, tmp_path, monkeypatch):
    """The checkpoint comes first, and the evaluation is made when the run is resumed."""

    def fail():
        raise OSError("the network is gone")

    real = run.make_evaluations
    with monkeypatch.context() as patch:
        patch.setattr(run, "make_evaluations", lambda *args: {n: Once(f, fail) for n, f in real(*args).items()})
        with pytest.raises(OSError, match="the network is gone"):
            vit_jax.train(small(), tmp_path / "run")
    assert steps(tmp_path / "run") == [3, 6]
    vit_jax.train(small(), tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(finished)


def test_no_whole_checkpoint_is_an_error(small, stopped):
    halve(stopped, 9)
    halve(stopped, 12)
    refused(small(), stopped, "none of the checkpoints 12, 9", "move the folder away")


def test_goes_on_with_other_free_keys(small, finished, stopped):
    without_checkpoint(stopped)
    free = {"mesh.fsdp": 2, "data.threads": 1, "log_steps": 1, "checkpoint.every_steps": 1, "checkpoint.keep": 5,
            "evaluations.test.every_steps": None}  # fmt: skip
    vit_jax.train(small(free), stopped)
    for key in ("train/loss", "test/loss"):
        assert lines(stopped)[-1][key] == pytest.approx(lines(finished)[-1][key], rel=1e-4)
    assert [line["step"] for line in lines(stopped)] == list(range(1, 13))
    assert steps(stopped) == [9, 10, 11, 12]


def test_refuses_a_run_of_another_config(small, finished):
    changes = {"seed": 1, "model.dropout": 0.0, "checkpoint.keep": 1}
    refused(small(changes), finished, "config.seed was 0 and is 1", "config.model.dropout was 0.1 and is 0.0")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 3}', '{"format_version": 99, "config": {}}', "\0"])
def test_refuses_a_damaged_config_json(small, stopped, text):
    (stopped / "config.json").write_text(text)
    refused(small(), stopped, str(stopped / "config.json"))


@pytest.mark.parametrize("name", ["checkpoints", "model.npz"])
def test_refuses_a_folder_that_is_no_run(small, stopped, name):
    for path in [path for path in stopped.iterdir() if path.name != name]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (stopped / name).mkdir(exist_ok=True)
    refused(small(), stopped, str(stopped), name, "no config.json")


@pytest.mark.parametrize("below", ["", "below/it"])
def test_refuses_a_workdir_that_is_a_file(small, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    refused(small(), tmp_path / "file" / below, str(tmp_path / "file"), "is a file")


def test_workdir_that_cannot_be_made(small):
    refused(small(), pathlib.Path("/proc/run"), "/proc/run", "can't be written")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.name": "C/16"}, "unknown variant 'C/16'"),
        ({"model.patch_size": 3}, "3 pixels does not divide the image's height of 8"),
        ({"global_batch_size": 12}, "config.global_batch_size=12 does not divide over 8 devices; take 16"),
        ({"evaluations.test.batch_size": 4}, "config.evaluations.test.batch_size=4 does not divide over 8 devices"),
        ({"mesh.data": 3}, "does not multiply to the 8 devices"),
        ({"data.num_examples": 0}, "config.data.num_examples"),
        ({"data.split": "trian"}, "no split 'trian'"),
        ({"evaluations.test.split": "tset"}, "no split 'tset'"),
        ({"evaluations.test.name": "cifar10"}, "tfds build cifar10"),
        ({"optimizer.freeze": ("(",)}, "no regular expression"),
        ({"optimizer.freeze": ("nothing",)}, "'nothing', which finds no parameter"),
    ],
)
def test_fails_before_the_first_step_and_leaves_nothing(small, tmp_path, monkeypatch, changes, said):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    refused(small(changes), tmp_path / "run", said)


@pytest.mark.parametrize(("name", "said"), [("cifar10", "tfds build cifar10"), ("cifra10", "cifar10")])
def test_missing_data_set(small, tmp_path, name, said):
    changes = {"data.name": name, "data.data_dir": str(tmp_path), "data.num_examples": 1024, "data.num_classes": 10}
    refused(small(changes), tmp_path / "run", name, str(tmp_path), said)


def test_empty_image_folder(small, images, tmp_path):
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    refused(small(images), tmp_path / "run", "there are no images", str(tmp_path / "images"))


def test_corrupt_images(small, images, tmp_path, caplog):
    bad = sorted((tmp_path / "images" / "train").rglob("*.png"))[:2]
    for path in bad:
        path.write_text("no image")
    refused(small({**images, "data.corrupt": "fail"}), tmp_path / "run", "can't be read", str(tmp_path / "images"))
    with caplog.at_level(logging.WARNING, "vit_jax.data"):
        vit_jax.train(small(images), tmp_path / "run")
    assert all(str(path) in caplog.text for path in bad)
    assert "corrupt so far: 2" in caplog.text
    assert json.loads((tmp_path / "run" / "model.json").read_text())["class_names"] == list("abcd")


class Once:
    """Wraps `function`; in its call number `at` (from 1) it calls `act` before `function`."""

    def __init__(self, function, act, at=1):
        self.function, self.act, self.left = function, act, at

    def __call__(self, *args):
        self.left -= 1
        if not self.left:
            self.act()
        return self.function(*args)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def wrap(monkeypatch, name, wrapper):
    """Replaces `run.<name>`, so that `wrapper` wraps its result; for `make_step`, the compiled step."""
    make = getattr(run, name)

    def made(*args):
        found = make(*args)
        if name != "make_step":
            return wrapper(found)
        lowered = lambda *values: types.SimpleNamespace(compile=lambda: wrapper(found.lower(*values).compile()))  # noqa: E731
        return types.SimpleNamespace(lower=lowered)

    monkeypatch.setattr(run, name, made)


@pytest.mark.parametrize(("act", "raised"), [(terminate, SystemExit), (interrupt, KeyboardInterrupt)])
def test_a_signal_before_the_first_step_leaves_nothing(small, tmp_path, monkeypatch, act, raised):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    wrap(monkeypatch, "make_step", lambda step: Once(step, act))
    with pytest.raises(raised) as ended:
        vit_jax.train(small(), tmp_path / "run")
    assert getattr(ended.value, "code", 143) == 143
    assert not (tmp_path / "run").exists()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_ctrl_c_saves_and_says_where_it_goes_on(small, finished, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "vit_jax"):
        wrap(patch, "make_step", lambda step: Once(step, interrupt, at=5))
        with pytest.raises(KeyboardInterrupt, match="saved step 5"):
            vit_jax.train(small(), tmp_path / "run")
    assert f"Ctrl-C: saved step 5 in {tmp_path / 'run'}; the same command goes on from there" in caplog.text
    assert steps(tmp_path / "run")[-1] == 5
    vit_jax.train(small(), tmp_path / "run")
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


def test_a_second_ctrl_c_ends_at_once(start, tmp_path):
    """The first Ctrl-C asks to save after the step, which never ends here. The second one kills the process."""
    program = (
        "import os, signal, time; from vit_jax.training.stop import Stop; import types\n"
        "stop = Stop(types.SimpleNamespace(count=1, request_stop=lambda: None)); stop.saves = True\n"
        "with stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT); print(stop.name, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "Ctrl-C\n")


def test_what_a_run_says(small, tmp_path, capsys, monkeypatch):
    """A run in Python logs the same as on the command line.

    It logs a short table of the parameters, the compilation, the loss, and where the model is written.
    """
    for name in ("vit_jax", None):  # pytest sets up log handlers, but a user's program does not
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    vit_jax.train(small({"total_steps": 3, "log_steps": 50}), tmp_path / "run")
    said = capsys.readouterr().err
    for line in ("parameters", "compiling the step", "compiled in", "step 1 of 3: loss", "step 3 of 3", "wrote "):
        assert line in said, said
    assert "encoder/blocks" not in said and not [t for t in said.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", t)]
    assert not logging.getLogger("vit_jax").handlers
    vit_jax.train(small({"total_steps": 1, "log.parameters": "all"}), tmp_path / "other")
    assert "encoder/blocks/mlp/dense1/kernel" in capsys.readouterr().err


def test_longer_training_of_a_finished_run(small, finished, tmp_path, caplog):
    """A finished run can only be trained longer by a new run from its weights and head.

    The messages of the finished run tell the user how.
    """
    with caplog.at_level(logging.INFO, "vit_jax"):
        assert vit_jax.train(small(), finished) == {}
    longer = f"take a new --workdir with --config.init_from={finished} --config.init_head=keep"
    assert longer in caplog.text
    refused(small({"total_steps": 24}), finished, "config.total_steps was 12 and is 24", longer)
    changes = {"init_from": str(finished), "init_head": "keep", "optimizer.learning_rate": 0.0, "total_steps": 1}
    vit_jax.train(small(changes), tmp_path / "run")
    for name, array in np.load(finished / "model.npz").items():
        np.testing.assert_allclose(np.load(tmp_path / "run" / "model.npz")[name], array, rtol=1e-6, err_msg=name)
    caplog.clear()
    with caplog.at_level(logging.INFO, "vit_jax"):
        vit_jax.train(small(changes | {"init_head": "new"}), tmp_path / "new")
    assert "its head is of the same classes; --config.init_head=keep would keep it" in caplog.text
    assert not np.load(tmp_path / "new" / "model.npz")["head/kernel"].any()


def test_what_is_cheap_is_checked_first(small, tmp_path):
    """If the data set is missing too, the error is still about the wrong model, batch size or `init_from`."""
    missing = {"data.name": "imagenet2012", "data.num_examples": 1024, "data.num_classes": 10,
               "data.data_dir": str(tmp_path), "total_epochs": 1.0}  # fmt: skip
    for changes, message in (
        ({"model.name": "Q/16"}, "unknown variant 'Q/16'"),
        ({"global_batch_size": 12}, "config.global_batch_size=12 does not divide over 8 devices"),
        ({"init_from": str(tmp_path / "none.npz")}, "there is no checkpoint"),
    ):
        refused(small(missing | changes), tmp_path / "run", message)


@pytest.mark.parametrize(
    ("name", "wrapper", "saved"),
    [
        ("make_step", lambda step: Once(step, terminate, at=5), 5),
        ("make_step", lambda step: Once(step, terminate, at=6), 6),
        ("make_evaluations", lambda found: {"test": Once(found["test"], terminate)}, 7),
        ("make_step", lambda step: Once(step, terminate, at=12), None),
    ],
    ids=["training", "when an evaluation is due", "evaluation", "last step"],
)
def test_sigterm_saves(small, finished, tmp_path, monkeypatch, name, wrapper, saved):
    with monkeypatch.context() as patch:
        wrap(patch, name, wrapper)
        if saved:
            with pytest.raises(SystemExit) as ended:
                vit_jax.train(small(), tmp_path / "run")
            assert ended.value.code == 143
            assert steps(tmp_path / "run")[-1] == saved
            if saved == 6:  # the evaluation takes place when the run is resumed
                assert not any("test/loss" in line for line in lines(tmp_path / "run"))
    vit_jax.train(small(), tmp_path / "run")
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()
    assert numbers(tmp_path / "run") == numbers(finished)


def test_an_evaluations_name_can_not_hide_the_trainings(small, tmp_path):
    for name in ("train", "a/b", ""):
        config = small()
        config.evaluations[name] = config.evaluations.test
        refused(config, tmp_path / "run", f"config.evaluations has the name {name!r}", "take another")
    refused(small({"evaluations.test.kind": "fewshot"}), tmp_path / "run", "kind is 'fewshot'", "classification")


def test_learning_rate_that_explodes(small, tmp_path):
    with pytest.raises(UserError, match=r"is (nan|inf) at step \d+, and .*config.optimizer.learning_rate"):
        vit_jax.train(small({"optimizer.learning_rate": 1e30}), tmp_path / "run")
    assert not (tmp_path / "run" / "model.npz").exists()


def test_loss_that_is_not_finite_keeps_the_last_checkpoint(small, finished, tmp_path, monkeypatch):
    def spoil(step):
        def spoiled(state, batch):
            done = int(state.step) + 1
            state, outputs = step(state, batch)
            return state, {**outputs, "loss": outputs["loss"] * (np.nan if done == 8 else 1)}

        return spoiled

    with monkeypatch.context() as patch:
        wrap(patch, "make_step", spoil)
        with pytest.raises(UserError, match="train/loss is nan at step 8, and the checkpoint of step 6 is kept"):
            vit_jax.train(small(), tmp_path / "run")
    assert steps(tmp_path / "run") == [3, 6]
    vit_jax.train(small(), tmp_path / "run")
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


def test_trains_in_a_thread(small, finished, tmp_path):
    thread = threading.Thread(target=vit_jax.train, args=(small(), tmp_path / "run"))
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


def test_checkpoints_hold_the_step_they_are_named_after(small, finished, tmp_path):
    """A checkpoint holds the values of its step, although the next steps reuse the buffers while it is written."""
    config = small({"checkpoint.every_steps": 1, "checkpoint.keep": 100})
    vit_jax.train(config, tmp_path / "run")
    handler = store.ocp.PyTreeCheckpointHandler()
    found = [
        {item: handler.restore(tmp_path / "run" / "checkpoints" / str(step) / item) for item in ("params", "average")}
        for step in range(1, 13)
    ]
    for before, after in itertools.pairwise(found):
        for i in range(2):
            average, new, params = (
                np.asarray(tree["encoder"]["blocks"]["mlp"]["dense1"]["kernel"])[i]
                for tree in (before["average"], after["average"], after["params"])
            )
            np.testing.assert_allclose(new, 0.9 * average + 0.1 * params, atol=1e-6)
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


def only_checkpoints(folder):
    (folder / "model.npz").unlink()
    return folder


@pytest.mark.parametrize("source", [lambda run: run, lambda run: run / "model.npz", only_checkpoints])
def test_transfer_starts_from_the_averaged_weights(small, finished, tmp_path, source):
    shutil.copytree(finished, tmp_path / "source")
    transfer = {"init_from": str(source(tmp_path / "source")), "model.image_size": 12, "data.num_classes": 7}
    still = {"optimizer.learning_rate": 0.0, "optimizer.average": 0.0}
    vit_jax.train(small({**transfer, **still}), tmp_path / "run")
    old, new = (dict(np.load(folder / "model.npz")) for folder in (finished, tmp_path / "run"))
    table = "Transformer/posembed_input/pos_embedding"
    assert (old[table].shape, new[table].shape) == ((1, 5, 16), (1, 10, 16))
    assert new["head/kernel"].shape == (16, 7)
    assert not new["head/kernel"].any()
    for name in set(old) - {table, "head/kernel", "head/bias"}:
        np.testing.assert_array_equal(new[name], old[name], err_msg=name)


def text_file(path):
    path.write_text("hello")


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def pickled(path):
    np.savez(path, weights=np.array([{"a": 1}], object))


def raw_pickle(path):
    path.write_bytes(pickle.dumps({"a": 1}))


def cut_short(path):
    np.savez(path, weights=np.zeros(1000))
    path.write_bytes(path.read_bytes()[:2000])


def other_arrays(path):
    np.savez(path, weights=np.zeros(3))


@pytest.mark.parametrize(
    "make", [lambda path: None, text_file, other_zip, pickled, raw_pickle, cut_short, other_arrays]
)
def test_init_from_what_is_no_checkpoint(small, tmp_path, make):
    path = tmp_path / "file.npz"
    make(path)
    refused(small({"init_from": str(path)}), tmp_path / "run", str(path))


def test_init_from_another_architecture_or_an_empty_folder(small, finished, tmp_path):
    changes = {"init_from": str(finished), "model.width": 32, "model.depth": 3}
    refused(small(changes), tmp_path / "run", "width is 16 there and 32 here", "depth is 2 there and 3 here")
    refused(small({"init_from": str(tmp_path)}), tmp_path / "run", str(tmp_path), "neither model.npz nor")
