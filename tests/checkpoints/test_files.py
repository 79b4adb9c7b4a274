"""Tests that files are written completely or not at all."""

import errno
import io

import pytest
from etils import epath

from vit_jax import UserError
from vit_jax.checkpoints import files


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = epath.Path(tmp_path / "model.npz")
    with files.replacing(path, shared=True) as first, files.replacing(path, shared=True) as second:
        first.write_text("first")
        second.write_text("second")
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]
    assert path.read_text() == "first"


def test_lines_that_do_not_fit_are_cut_off(tmp_path):
    """A full disk, on which a part of a line still has room, leaves whole lines and is one sentence."""
    path = tmp_path / "found.jsonl"

    class FullDisk(io.FileIO):
        def write(self, content):
            if self.tell() >= 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content[: 20 - self.tell()])

    with files.Lines(path) as lines:
        lines.write('{"a": 1}\n')
        lines._file.close()
        lines._file = FullDisk(path, "ab")
        lines.write_json({"b": 2})
        with pytest.raises(UserError, match=f"{path} can't be written .No space left on device.; mend that"):
            lines.write_json({"c": 3})
    assert path.read_text() == '{"a": 1}\n{"b": 2}\n'
