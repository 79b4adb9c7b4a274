"""The images in docs/images/digits, which the commands of README.md read, are scikit-learn's."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from helpers.documents import ROOT
from vit_jax.data import embedded

FOLDER = ROOT / "docs" / "images" / "digits"


@pytest.mark.parametrize("digit", range(10))
def test_an_image_is_the_first_test_image_of_its_digit(digit):
    values, labels = load_digits(return_X_y=True)
    *_, test = embedded.images("digits")
    (first, *_) = [index for index in test if labels[index] == digit]
    picture = Image.open(FOLDER / f"{digit}.png")
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), np.rint(values[first].reshape(8, 8) * (255 / 16)))


def test_there_are_no_others():
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{digit}.png" for digit in range(10)]
