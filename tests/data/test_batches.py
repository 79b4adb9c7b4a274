import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.data import decode, order, prefetch
from vit_jax.errors import UserError


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def indices(config, count, **options):
    return np.concatenate([batch["index"] for batch in take(data.batches(config, **options), count)])


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_labels_of_many_classes_stay_small(synthetic):
    """Labels are sent as integers: 16 KB for 4,096 images, while rows of 21,843 weights would take 358 MB."""
    synthetic.data.num_classes, synthetic.data.num_examples, synthetic.global_batch_size = 21_843, 30_000, 4096
    (batch,) = take(data.batches(synthetic), 1)
    assert batch["label"].nbytes == 4 * 4096 < 1e6 and batch["label"].max() > 3


def test_shapes_and_types(synthetic):
    (batch,) = take(data.batches(synthetic), 1)
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "image": ((4, 6, 8, 3), "uint8"),
        "label": ((4,), "int32"),
        "mask": ((4,), "float32"),
        "index": ((4,), "int64"),
    }
    np.testing.assert_array_equal(batch["label"], batch["index"] % 3)
    assert batch["mask"].sum() == 4


def test_a_typed_config_works_as_well(synthetic):
    assert_same(take(data.batches(synthetic), 2), take(data.batches(config_lib.typed(synthetic)), 2))


def test_each_epoch_is_another_permutation(synthetic):
    epochs = indices(synthetic, 21).reshape(4, 21)  # 21 batches of 4 images are 4 epochs of 21 images
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(21), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_seeds_differ_and_do_not_shift_epochs():
    epochs = {(seed, epoch): tuple(order.shuffled(50, seed)[epoch * 50 + i] for i in range(50))
              for seed in range(4) for epoch in range(4)}  # fmt: skip
    assert len(set(epochs.values())) == 16


def test_the_position_is_the_step(synthetic):
    synthetic.data.crop = "inception"
    assert_same(take(data.batches(synthetic), 9)[6:], take(data.batches(synthetic, start_step=6), 3))


@pytest.mark.parametrize("division", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0], [1, 2, 3]], [[0, 2], [1, 3]]])
def test_any_division_of_rows_is_the_whole(synthetic, division):
    synthetic.data.crop = "inception"
    whole = take(data.batches(synthetic), 7)
    for rows in division:
        part = take(data.batches(synthetic, rows=rows), 7)
        assert_same(part, [{key: value[rows] for key, value in batch.items()} for batch in whole])


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 1), (2, 4)])
def test_workers_and_threads_change_nothing(folder, workers, threads):
    folder.data.crop = "inception"
    expected = take(data.batches(folder, start_step=3), 5)
    folder.data.workers, folder.data.threads = workers, threads
    assert_same(take(data.batches(folder, start_step=3), 5), expected)


def test_random_crops_differ_between_epochs(folder):
    folder.data.crop = "inception"
    seen = {}
    for batch in take(data.batches(folder), 18):
        for index, image in zip(batch["index"], batch["image"], strict=True):
            seen.setdefault(int(index), []).append(image.tobytes())
    assert all(len(images) == 8 and len(set(images)) > 4 for images in seen.values())


def test_preprocessing_of_the_config(folder, tmp_path, monkeypatch):
    """The preprocessing and `data.exif` apply to all images, but an evaluation may have its own shorter_side."""
    seen = []

    def record(image, size, *rest, out=None, **options):
        seen.append((size, *rest[:1], options))
        return np.zeros((*size, 3), np.uint8)

    monkeypatch.setattr(decode, "for_evaluation", record)
    monkeypatch.setattr(decode, "random_crop", record)
    folder.preprocessing.shorter_side, folder.preprocessing.keep_aspect = 10, False
    folder.preprocessing.interpolation, folder.data.exif = "lanczos", "apply"
    common = {"interpolation": "lanczos", "antialias": True, "exif": "apply"}
    folder.evaluations.own = config_lib.evaluation(shorter_side=12)
    folder.evaluations.whole = config_lib.evaluation(shorter_side=0)
    for name, side in {"test": 10, "own": 12, "whole": None}.items():
        list(data.evaluation_batches(folder, name))
        assert seen == [((8, 8), {**common, "shorter_side": side, "keep_aspect": False})] * 6
        seen.clear()
    take(data.batches(folder), 1)
    assert seen[0] == ((8, 8), common)
    seen.clear()
    folder.data.crop = "inception"
    take(data.batches(folder), 1)
    assert seen[0] == ((8, 8), 0.05, common)


def test_exif_is_applied_if_asked(folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (tmp_path / "test").rglob("*.png"):
        Image.open(path).save(path, exif=exif)
    ignored = take(data.evaluation_batches(folder, "test"), 1)[0]["image"]
    folder.data.exif = "apply"
    applied = take(data.evaluation_batches(folder, "test"), 1)[0]["image"]
    np.testing.assert_array_equal(applied, ignored[:, ::-1, ::-1])


def test_an_evaluation_of_one_class(folder, tmp_path):
    for name in ("cat", "eel"):
        shutil.rmtree(tmp_path / "test" / name)
    (batch,) = data.evaluation_batches(folder, "test")
    np.testing.assert_array_equal(batch["label"], [1, 1, -1, -1])
    np.testing.assert_array_equal(batch["mask"], [1, 1, 0, 0])


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
def test_images_one_pixel_high_or_wide(folder, tmp_path, shape):
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(np.full((*shape, 3), 9, np.uint8)).save(path)
    folder.data.crop, folder.data.corrupt = "inception", "fail"
    folder.evaluations.test.shorter_side = 9
    for batch in (*take(data.batches(folder), 2), *take(data.evaluation_batches(folder, "test"), 1)):
        assert (batch["image"] == 9).all()


def corrupted(config, split, chosen):
    """Overwrites the images with the indices `chosen` by text that is no image, and returns their paths."""
    from vit_jax.data import folder as folder_lib

    source = folder_lib.FolderSource(config.data.data_dir, split, "data")
    paths = [source.describe(index) for index in chosen]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"broken")
    return paths


@pytest.fixture
def warnings_of(caplog):
    """Returns a function that returns the messages that the loggers of `vit_jax.data` have logged."""
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("vit_jax.data")]


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_training_images_are_replaced_and_reported_once(folder, warnings_of, workers):
    clean = take(data.batches(folder), 9)
    paths = corrupted(folder, "train", [8, 3])
    folder.data.workers = workers
    for one, other in zip(take(data.batches(folder), 9), clean, strict=True):
        expected = np.where(other["index"] == 3, 4, np.where(other["index"] == 8, 0, other["index"]))
        np.testing.assert_array_equal(one["index"], expected)
        for row in range(4):
            twin = next((b, r) for b in clean for r in range(4) if b["index"][r] == one["index"][row])
            np.testing.assert_array_equal(one["image"][row], twin[0]["image"][twin[1]])
            np.testing.assert_array_equal(one["label"][row], twin[0]["label"][twin[1]])
    assert len(warnings_of()) == 2
    assert all(sum(path in text for text in warnings_of()) == 1 for path in paths)
    assert warnings_of()[-1].endswith("corrupt so far: 2")


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_images_fail_by_name_if_asked(folder, workers):
    (path,) = corrupted(folder, "train", [3])
    corrupted(folder, "test", [0])
    folder.data.corrupt, folder.data.workers = "fail", workers
    with pytest.raises(UserError, match=path):
        take(data.batches(folder), 9)
    with pytest.raises(UserError, match=r"test/.*can't be read"):
        take(data.evaluation_batches(folder, "test"), 9)


def test_nothing_readable_is_an_error(folder):
    corrupted(folder, "train", range(9))
    with pytest.raises(UserError, match="none of 9 images in a row can be read"):
        take(data.batches(folder), 1)


def test_corrupt_evaluation_images_are_masked(folder, warnings_of):
    (path,) = corrupted(folder, "test", [2])
    found = {}
    for batch in data.evaluation_batches(folder, "test"):
        found.update(zip(batch["index"].tolist(), batch["mask"].tolist(), strict=True))
    assert found == {0: 1, 1: 1, 2: 0, 3: 1, 4: 1, 5: 1, -1: 0}
    assert len(warnings_of()) == 1
    assert path in warnings_of()[0]


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
@pytest.mark.parametrize("parts", [1, 2])
def test_every_evaluation_example_once(synthetic, batch_size, parts):
    synthetic.evaluations.test.batch_size = batch_size
    divisions = [list(range(part, batch_size, parts)) for part in range(parts)]
    shares = [list(data.evaluation_batches(synthetic, "test", rows=rows)) for rows in divisions if rows]
    assert len({len(share) for share in shares}) == 1
    seen = []
    for batch in itertools.chain(*shares):
        padding = batch["mask"] == 0
        assert (batch["index"][padding] == -1).all()
        assert not batch["image"][padding].any()
        assert (batch["label"][padding] == -1).all()
        seen.extend(batch["index"][~padding])
    assert sorted(seen) == list(range(5)) == list(range(len(data.open_evaluation(synthetic, "test"))))


def test_evaluation_with_more_workers_than_batches(folder):
    expected = list(data.evaluation_batches(folder, "test"))
    folder.data.workers = 3
    assert_same(list(data.evaluation_batches(folder, "test")), expected)


def test_closing_ends_the_threads(synthetic):
    import threading

    iterator = data.batches(synthetic)
    next(iterator)
    assert any(thread.name.startswith("data") for thread in threading.enumerate())
    iterator.close()
    assert not any(thread.name.startswith("data") for thread in threading.enumerate())


def test_prefetched_raises_what_make_raises():
    items = prefetch.Pool(lambda number: 6 // (3 - number), threads=2, workers=0).map(range(9))
    assert take(items, 3) == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_errors(synthetic, folder):
    with pytest.raises(UserError, match="no evaluation 'val'; it has test"):
        data.evaluation_batches(synthetic, "val")
    for section in (synthetic.evaluations.test, synthetic.preprocessing):
        section.shorter_side = 5
        for find in (data.evaluation_batches, data.open_evaluation):  # a run calls the second before it starts
            with pytest.raises(UserError, match="shorter_side=5 is smaller than the model's image of 6x8"):
                find(synthetic, "test")
        section.shorter_side = None
    synthetic.model.num_classes = 2
    with pytest.raises(UserError, match=r"config.model.num_classes is 2.*3 classes"):
        data.batches(synthetic)
    folder.model.num_classes = 5
    assert take(data.batches(folder), 1)[0]["label"].max() < 3
