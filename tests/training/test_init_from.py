"""Runs that start from the weights of another: what they take from it, and what they refuse."""

import logging
import pickle
import shutil
import zipfile

import numpy as np
import pytest

import vit_jax
from helpers.folders import refused


def only_checkpoints(folder):
    (folder / "model.npz").unlink()
    return folder


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda run: run, marks=pytest.mark.slow),
        pytest.param(lambda run: run / "model.npz", marks=pytest.mark.slow),
        pytest.param(only_checkpoints, marks=pytest.mark.slow),
    ],
)
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


@pytest.mark.slow
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
