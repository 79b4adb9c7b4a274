"""Tests that files are written completely or not at all."""

from etils import epath

from vit_jax.checkpoints import files


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = epath.Path(tmp_path / "model.npz")
    with files.replacing(path, shared=True) as first, files.replacing(path, shared=True) as second:
        first.write_text("first")
        second.write_text("second")
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]
    assert path.read_text() == "first"
