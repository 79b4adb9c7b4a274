"""Messages about images, in this process and in worker processes."""

import io
import logging
import pathlib
import warnings

import pytest
from PIL import Image

from vit_jax.data import messages, prefetch


def test_why_an_image_cannot_be_read(tmp_path):
    with pytest.raises(OSError) as unknown:
        Image.open(io.BytesIO(b"text"))
    with pytest.raises(OSError) as gone:
        (tmp_path / "a.png").read_bytes()
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    with pytest.raises(OSError) as cut:
        Image.open(io.BytesIO(picture.getvalue()[:-40])).load()
    for error, said in (
        (unknown, "its content is that of no image format that Pillow reads"),
        (gone, "No such file or directory"),
        (cut, "image file is truncated"),
    ):
        assert messages.in_words(error.value).startswith(said)
    assert messages.in_words(ZeroDivisionError()) == "ZeroDivisionError"


def warn(number):
    warnings.warn(f"image {number} is odd", stacklevel=1)
    logging.getLogger("vit_jax.data").warning("image %d is large", number)
    return number


def test_workers_speak_as_the_main_process(monkeypatch, capfd):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2])  # so that workers can import `warn`
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("12:00:00 %(message)s"))
    monkeypatch.setattr(logging.getLogger("vit_jax"), "handlers", [handler])
    assert list(prefetch.Pool(warn, threads=1, workers=1).map(range(1))) == [0]
    assert capfd.readouterr().err.splitlines() == ["12:00:00 image 0 is odd", "12:00:00 image 0 is large"]
