"""Tests the checkpoints of a run. Damaged ones are skipped, and never give wrong weights."""

import contextlib
import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import UserError
from vit_jax.checkpoints.store import Store, newest_params


def state(step, average=True):
    """Returns a training state of large and small arrays and a scalar, all different for each step."""
    drawn = jax.random.normal(jax.random.key(step), (40, 100))
    params = {"large": drawn, "small": {"array": jnp.arange(3.0) + step}}
    opt_state = (jnp.int32(step), {"moment": drawn * 2})
    return {"params": params, "opt_state": opt_state, "average": jax.tree.map(jnp.sin, params) if average else None}


def equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


def restored(folder):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))
    kept = Store(folder, keep=2)
    try:
        return kept.restore(shapes)
    finally:
        kept.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns a folder with the checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    kept = Store(folder, keep=2)
    for step in (1, 3, 6):
        kept.save(step, state(step))
    kept.close()
    return folder


def test_newest_is_restored_and_older_ones_go(saved):
    step, found = restored(saved)
    assert step == 6
    assert equal(found, state(6))
    assert sorted(path.name for path in saved.iterdir()) == ["3", "6"]
    assert equal(newest_params(saved), state(6)["average"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_file_of_the_newest_cut_or_deleted(saved, tmp_path):
    """If any file of the newest checkpoint is damaged, a complete checkpoint is restored.

    This is the newest one if the damaged file is not needed, and the older one otherwise.
    """
    back = 0
    for path in sorted(path for path in (saved / "6").rglob("*") if path.is_file()):
        for damage in ("cut", "deleted"):
            folder = tmp_path / "damaged"
            shutil.copytree(saved, folder)
            file = folder / path.relative_to(saved)
            if damage == "cut":
                file.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            else:
                file.unlink()
            average = newest_params(folder)
            assert any(equal(average, state(step)["average"]) for step in (3, 6)), (file, damage)
            step, found = restored(folder)
            assert equal(found, state(step)), (file, damage)
            assert (folder / "6.broken").exists() == (step == 3)
            back += step == 3
            shutil.rmtree(folder)
    gc.collect()  # so that warnings about objects that Orbax abandons appear in this test and not in a later one
    assert back


def test_none_can_be_read(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "damaged")
    for path in (tmp_path / "damaged").rglob("manifest.ocdbt"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the checkpoints 6, 3 in .* can be read"):
        restored(tmp_path / "damaged")
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["3", "6"]
    assert newest_params(tmp_path / "damaged") is None


def test_without_average_the_parameters_count(tmp_path):
    kept = Store(tmp_path, keep=1)
    mesh = jax.make_mesh((8,), ("data",))
    rows = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = {**state(2, average=False)}
    sharded["params"]["large"] = jax.device_put(sharded["params"]["large"], rows)
    kept.save(2, sharded)
    kept.close()
    found = newest_params(tmp_path)
    assert equal(found, state(2)["params"])
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))


def test_what_a_kill_leaves_half_written_goes(saved, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(saved, folder)
    (folder / "6").rename(folder / "6.orbax-checkpoint-tmp")
    assert equal(newest_params(folder), state(3)["average"])
    assert (folder / "6.orbax-checkpoint-tmp").exists()  # readers keep it: the run may be writing it
    assert restored(folder)[0] == 3
    with contextlib.closing(Store(folder, keep=2)) as kept:
        kept.save(6, state(6))  # Orbax deletes in the background, and waits for that before the first checkpoint
    assert sorted(path.name for path in folder.iterdir()) == ["3", "6"]


def test_empty_folder(tmp_path):
    assert restored(tmp_path / "checkpoints") is None
    assert newest_params(tmp_path / "checkpoints") is None
