import itertools

import pytest

from vit_jax.data import splits
from vit_jax.errors import UserError


def resolved(split, **lengths):
    return [(name, list(positions)) for name, positions in splits.resolve(split, lengths.__getitem__)]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", range(10)),
        ("train[:90%]", range(9)),
        ("train[90%:]", range(9, 10)),
        ("train[-20%:]", range(8, 10)),
        ("train[2:5]", range(2, 5)),
        ("train[:-3]", range(7)),
        (" train [ 1 : 25% ] ", range(1, 2)),
    ],
)
def test_slices(split, expected):
    assert resolved(split, train=10) == [("train", list(expected))]


def test_joined():
    assert resolved("train[:2]+test[1:]", train=9, test=3) == [("train", [0, 1]), ("test", [1, 2])]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("few", [("train", [0, 1, 2]), ("test", [4])]),
        ("few[1:]", [("train", [1, 2]), ("test", [4])]),
        ("few[-1:]+train[8:]", [("train", []), ("test", [4]), ("train", [8])]),
        ("few[:50%]", [("train", [0, 1]), ("test", [])]),
    ],
)
def test_splits_that_are_made_of_others(split, expected):
    lengths = {"train": 9, "test": 5}
    found = splits.resolve(split, lengths.__getitem__, {"few": "train[:3]+test[4:]"})
    assert [(name, list(positions)) for name, positions in found] == expected


def test_percentages_cover_everything_once():
    length = 1281167
    parts = [splits.parse(f"train[{p}%:{p + 1}%]")[0].positions(length) for p in range(100)]
    assert parts[0].start == 0
    assert parts[-1].stop == length
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))


@pytest.mark.parametrize("split", ["train[", "train[5]", "tr ain", "", "train+", "train[:5.5%]", "train[a:b]"])
def test_wrong_syntax(split):
    with pytest.raises(UserError, match="can't read the split"):
        resolved(split, train=10)


def test_bounds():
    with pytest.raises(UserError, match=r"train has 10 examples, so 11 "):
        resolved("train[:11]", train=10)
    with pytest.raises(UserError, match="holds no example"):
        resolved("train[5:5]", train=10)
