"""Files that users give to the page: each kind of image is read as `read_image` reads it, and all else is refused."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.images import READABLE, UNREADABLE
from vit_jax import UserError, data
from vit_jax.models.architecture import Preprocessing
from vit_jax.page.reading import read

SQUARE = Preprocessing((8, 8))
CROPPED = Preprocessing((8, 6), shorter_side=10)


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("preprocessing", [SQUARE, CROPPED], ids=["whole", "cropped"])
def test_reads_what_predict_reads(tmp_path, name, preprocessing):
    path = tmp_path / name
    path.write_bytes(READABLE[name][0])
    np.testing.assert_array_equal(read(path, preprocessing), data.read_image(path, preprocessing))


def bomb(side):
    """Returns a PNG whose head tells a square of that side; only the head is there."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


def postscript():
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "EPS")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "no image that this page reads; give a file of the kind JPEG, PNG"),
        (b"", "no image that this page reads"),
        (postscript(), "no image that this page reads"),  # Pillow would run Ghostscript
        (bomb(9_500), "more than 89 megapixels"),
        (bomb(100_000), "more than 89 megapixels"),
        (UNREADABLE["truncated.jpg"], "can't be read (image file is truncated"),
        (None, "was deleted; give it again"),
    ],
    ids=["text", "empty", "postscript", "large", "bomb", "truncated", "gone"],
)
def test_refuses_in_one_sentence_that_names_no_folder(tmp_path, content, said):
    path = tmp_path / "cat.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read(path, SQUARE)
    message = str(error.value)
    assert message.startswith("cat.jpg ") and said in message
    assert str(tmp_path) not in message and "\n" not in message
