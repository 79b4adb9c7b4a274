"""Shots: which examples are drawn of each class."""

import numpy as np
import pytest

from vit_jax import UserError, data


@pytest.fixture
def source(synthetic):
    """Returns 21 images of the classes 0, 1 and 2."""
    with data.open_training(synthetic) as opened:
        yield opened


def test_a_draw_has_distinct_examples_of_each_class(source):
    drawn = source.shots(3, 2)
    assert drawn.shape == (2, 3, 3)
    assert np.array_equal(drawn % 3, np.broadcast_to(np.arange(3)[:, None], drawn.shape))  # the label of a number
    assert all(len(np.unique(draw)) == 9 for draw in drawn)
    assert not np.array_equal(*drawn)


def test_what_a_draw_depends_on(source, synthetic):
    drawn = source.shots(3, 2)
    assert np.array_equal(source.shots(3, 5)[:2], drawn)  # not on the number of draws
    assert np.array_equal(source.shots(7, 2)[:, :, :3], drawn)  # a larger one begins with it
    synthetic.seed = 1
    with data.open_training(synthetic) as other:
        assert not np.array_equal(other.shots(3, 2), drawn)


def test_examples_that_are_left_out_are_replaced(source):
    drawn = source.shots(3, 1)[0]
    other = source.shots(3, 1, {int(drawn[1, 0])})[0]
    assert np.array_equal(other[[0, 2]], drawn[[0, 2]])  # other classes stay the same
    assert other[1, :2].tolist() == drawn[1, 1:].tolist() and drawn[1, 0] not in other
    with pytest.raises(UserError, match="learns from 7 images of each class.* has 6 of the class '1' that can be read"):
        source.shots(7, 1, {4})


def test_only_the_labels_that_a_draw_needs_are_read(synthetic, monkeypatch):
    synthetic.data.num_examples = 3000
    with data.open_training(synthetic) as source:
        read, really = [], type(source._source).labels
        monkeypatch.setattr(type(source._source), "labels", lambda self, i: read.append(i) or really(self, i))
        source.shots(2, 3)
    assert 18 <= len(read) < 100


def test_parts_of_a_data_set(source):
    part = source.take(np.array([4, 8, 20]))
    assert len(part) == 3
    (batch,) = part.examples(4)
    assert batch["label"].tolist() == [1, 2, 2, -1] and batch["index"].tolist() == [0, 1, 2, -1]
    rest = source.without(part)
    assert len(rest) == 18 and not len(part.without(source))
    part.close()


def test_an_example_with_several_labels(folder, tmp_path):
    rows = [f"{name}/{i}.png,{name}{';eel' * (name == 'cat')}" for name in ("cat", "dog", "eel") for i in range(3)]
    (tmp_path / "train" / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    folder.data.max_labels = 2
    with data.open_training(folder) as source, pytest.raises(UserError, match="has 2 labels; shots .* have one"):
        source.shots(3, 1)
