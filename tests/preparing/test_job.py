"""Prepared folders hold what they were made of, and are whole or not there."""

import errno
import hashlib
import json
import logging
import resource
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from helpers import images
from helpers.folders import contents
from vit_jax import config as config_lib
from vit_jax import data, preparing
from vit_jax.data import decode
from vit_jax.data.spec import Spec
from vit_jax.errors import UserError
from vit_jax.preparing import finish, job, reencode, shard


def source(name, data_dir, split="train", **options):
    return data.open(Spec(name, split, str(data_dir), **options))._source


def test_a_folder_prepared_is_the_folder_in_its_order(photos, prepare, tmp_path):
    done = prepare("folder", photos, name="pets", shards=2)
    assert (str(done.folder), done.name) == (f"{tmp_path}/out/pets/1.0.0", "pets")
    assert done.is_new and done.examples == {"train": 9, "test": 6}
    for split, count in done.examples.items():
        before, after = source("folder", photos, split), source("pets", tmp_path / "out", split)
        assert len(before) == len(after) == count
        assert before.class_names == after.class_names == ("cat", "dog", "eel")
        for i in range(count):
            assert before.labels(i) == after.labels(i)
            expected = reencode.reencoded(before[i]["image"], reencode.Encoding(16, 90))
            assert after[i]["image"] == expected
            assert min(decode.to_rgb(expected).size) == 16


def test_other_programs_read_it(photos, prepare):
    folder = prepare("folder", photos, name="pets", shards=2).folder
    builder = tfds.builder_from_directory(folder)
    assert builder.info.full_name == "pets/1.0.0"
    assert builder.info.features["label"].names == ["cat", "dog", "eel"]
    assert builder.info.splits["train"].shard_lengths == [4, 5]
    assert "at most 16 pixels on the shorter side" in builder.info.description
    records = tfds.data_source("pets", split="train[50%:]", data_dir=folder.parent.parent)
    assert len(records) == 5 and min(records[0]["image"].shape[:2]) == 16
    files = sorted(path.name for path in folder.iterdir())
    shards = [f"pets-{split}.array_record-0000{i}-of-00002" for split in ("test", "train") for i in range(2)]
    assert files == ["SHA256SUMS", "dataset_info.json", "features.json", "label.labels.txt", *shards, "prepared.json"]


def test_checksums_are_those_of_the_files(photos, prepare, tmp_path):
    folder = prepare("folder", photos).folder
    lines = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert lines == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if "_record" in path.name
    }
    assert preparing.verify(tmp_path / "out") == preparing.verify(folder) == {str(folder): 2}
    changed, missing = (folder / name for name in lines)
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    missing.unlink()
    with pytest.raises(UserError, match=f"{changed} has changed, {missing} is missing: restore them"):
        preparing.verify(folder)
    with pytest.raises(UserError, match="there is no SHA256SUMS in"):
        preparing.verify(photos)


def test_again_it_is_there_already(photos, prepare, tmp_path):
    prepare("folder", photos)
    before = contents(tmp_path)
    assert prepare("folder", photos).is_new is False
    for other, said in (
        ({"shorter_side": 8}, "shorter_side was 16 and is 8"),
        ({"quality": 80}, "quality was 90 and is 80"),
        ({"splits": ("train",)}, "the splits were train, test and are train"),
        ({"shards": 2}, "shards was None and is 2"),
        ({"labelled": False}, "labels was True and is False"),
    ):
        with pytest.raises(UserError, match=f"photos/1.0.0 was prepared otherwise .{said}"):
            prepare("folder", photos, **other)
    assert contents(tmp_path) == before
    (photos / "train" / "cat" / "9.png").write_bytes(images.READABLE["colour.png"][0])
    with pytest.raises(UserError, match=r"the split train had 9 examples and has 10"):
        prepare("folder", photos)


def test_what_is_there_is_not_touched(photos, prepare, tmp_path):
    (tmp_path / "out" / "photos" / "1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"photos/1.0.0 is there already, and prepare has not made it; choose another"):
        prepare("folder", photos)
    with pytest.raises(UserError, match=r"--out=.* lies in the folder of the images"):
        prepare("folder", photos, out="photos/out")
    assert not list((tmp_path / "out" / "photos" / "1.0.0").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out .*/file can't be a folder"):
        prepare("folder", photos, out="file")


def stopped(monkeypatch, after):
    """Makes the process stop, as if it were killed, when it begins shard number `after`."""
    whole, made = shard.make, []

    def make(*args):
        made.append(args[2].file)
        if len(made) > after:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(shard, "make", make)
    return made


def test_goes_on_after_the_shards_that_are_made(photos, prepare, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    uninterrupted = prepare("folder", photos, out="whole", shards=3).folder
    with monkeypatch.context() as patch:
        stopped(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            prepare("folder", photos, shards=3)
    begun = tmp_path / "out" / "photos" / "incomplete.1.0.0"
    assert [path.name for path in begun.parent.iterdir()] == [begun.name]
    with pytest.raises(UserError, match="isn't prepared|no data set"):
        source("photos", tmp_path / "out")
    (begun / ".photos-test.array_record-00001-of-00003.partial").write_bytes(b"what a killed process leaves")
    for other, said in (({"quality": 80}, "quality was 90 and is 80"), ({"shards": 4}, "shards was 3 and is 4")):
        with pytest.raises(UserError, match=f"was begun otherwise .{said}"):
            prepare("folder", photos, **{"shards": 3, **other})
    made = stopped(monkeypatch, 99)
    folder = prepare("folder", photos, shards=3).folder
    assert "2 of 6 shards are made" in caplog.text
    assert made == [f"photos-{part}-of-00003" for part in (
        "train.array_record-00002", "test.array_record-00000", "test.array_record-00001", "test.array_record-00002",
    )]  # fmt: skip
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in uninterrupted.iterdir()
    }


def test_a_shard_that_was_cut_off_is_made_again(photos, prepare, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stopped(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            prepare("folder", photos, shards=2)
    (file,) = (tmp_path / "out" / "photos" / "incomplete.1.0.0").glob("photos-train*00000-of-00002")
    file.write_bytes(file.read_bytes()[:-10])
    made = stopped(monkeypatch, 99)
    prepare("folder", photos, shards=2)
    assert made[0] == file.name and len(made) == 3


def test_one_process_at_a_time(photos, prepare, tmp_path):
    begun = tmp_path / "out" / "photos" / "incomplete.1.0.0"
    begun.mkdir(parents=True)
    with job._alone(begun), pytest.raises(UserError, match="another process writes to .*incomplete.1.0.0; wait"):
        prepare("folder", photos)
    prepare("folder", photos)


@pytest.fixture
def full_disk():
    """Makes files longer than 64 KB fail, as on a full disk; returns a function that makes room again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))

    def mend():
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    yield mend
    mend()


def test_a_full_disk_leaves_nothing_that_looks_whole(photos, prepare, tmp_path, full_disk):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for i in range(3):
        Image.fromarray(noise + np.uint8(i)).save(photos / "train" / "cat" / f"noise{i}.jpg", quality=90)
    with pytest.raises(UserError, match=r"of-00001 can't be written .*File too large.*start the same command again"):
        prepare("folder", photos, shorter_side=200)
    begun = tmp_path / "out" / "photos" / "incomplete.1.0.0"
    assert [path.name for path in begun.parent.iterdir()] == [begun.name]
    assert not [path for path in begun.iterdir() if "array_record" in path.name]
    full_disk()
    assert prepare("folder", photos, shorter_side=200).examples == {"train": 12, "test": 6}


@pytest.mark.parametrize("at", ["save_config", "write_dataset_info_proto"])
def test_a_disk_that_is_full_at_the_end(photos, prepare, tmp_path, monkeypatch, at):
    from tensorflow_datasets.core import dataset_info

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    place = dataset_info if at == "write_dataset_info_proto" else tfds.features.FeaturesDict
    with monkeypatch.context() as patch:
        patch.setattr(place, at, full)
        with pytest.raises(UserError, match=r"incomplete.1.0.0 can't be written .No space left on device.; make room"):
            prepare("folder", photos)
    with pytest.raises(UserError, match="isn't prepared|no data set"):
        source("photos", tmp_path / "out")
    made = stopped(monkeypatch, 0)
    assert prepare("folder", photos).is_new and not made


def test_unreadable_images_fail_by_name_or_are_left_out_and_recorded(photos, prepare, tmp_path, caplog):
    broken = photos / "train" / "cat" / "0.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    with pytest.raises(
        UserError, match=rf"1 of 15 images can't be read: {broken} \(.*\); mend or remove .*--corrupt=skip"
    ):
        prepare("folder", photos, shards=3)
    assert f"{broken} can't be read (" in caplog.text
    done = prepare("folder", photos, shards=3, corrupt="skip")
    assert (done.skipped, done.examples) == (1, {"train": 8, "test": 6})
    (skipped,) = json.loads((done.folder / finish.FILE).read_text())["skipped"]
    assert (skipped["split"], skipped["example"]) == ("train", str(broken)) and skipped["reason"]
    assert "1 images that can't be read are left out" in tfds.builder_from_directory(done.folder).info.description
    before, after = source("folder", photos), source("photos", tmp_path / "out")
    kept = [i for i in range(9) if before.describe(i) != str(broken)]
    assert [after.labels(i) for i in range(8)] == [before.labels(i) for i in kept]
    assert prepare("folder", photos, shards=3, corrupt="skip").is_new is False


def test_images_that_were_mended_are_read_again(photos, prepare, monkeypatch):
    broken = photos / "test" / "dog" / "1.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=str(broken)):
        prepare("folder", photos, shards=3)
    broken.write_bytes(whole)
    made = stopped(monkeypatch, 99)
    assert prepare("folder", photos, shards=3).skipped == 0
    assert len(made) == 1


def test_a_shard_without_any_readable_image(tmp_path, prepare):
    images.write(tmp_path / "kinds", {**images.UNREADABLE, "a.png": images.READABLE["colour.png"][0]})
    done = prepare("folder", tmp_path / "kinds", shards=5, corrupt="skip")
    assert (done.skipped, done.examples) == (4, {"train": 1})
    (image,) = (source("kinds", tmp_path / "out")[i]["image"] for i in range(1))
    assert decode.to_rgb(image).size == (21, 16)


def test_a_data_set_of_unreadable_images(tmp_path, prepare):
    images.write(tmp_path / "kinds", images.UNREADABLE)
    with pytest.raises(
        UserError, match="of 4 images of .*kinds that were tried, none can be read, such as .*check the"
    ):
        prepare("folder", tmp_path / "kinds", corrupt="skip")


def test_every_kind_of_image(tmp_path, prepare):
    images.write(tmp_path / "kinds", {name: content for name, (content, _) in images.READABLE.items()})
    done = prepare("folder", tmp_path / "kinds")
    assert done.examples == {"train": len(images.READABLE)} and not done.skipped
    for exif in ("ignore", "apply"):
        before, after = (
            next(data.open(Spec(name, "train", str(tmp_path / place), size=(8, 8), exif=exif)).examples(13))
            for name, place in (("folder", "kinds"), ("kinds", "out"))
        )
        assert np.abs(before["image"].astype(int) - after["image"]).mean() < 6


def test_several_labels_an_image_and_none(tmp_path, prepare):
    folder = tmp_path / "many" / "train"
    folder.mkdir(parents=True)
    rows = {"a.png": "sun;sea", "b.png": "", "c.png": "sea"}
    for name in rows:
        (folder / name).write_bytes(images.READABLE["colour.png"][0])
    (folder / "labels.csv").write_text("image,labels\n" + "".join(f"{name},{row}\n" for name, row in rows.items()))
    prepare("folder", tmp_path / "many")
    before, after = (
        source(*place, max_labels=2) for place in (("folder", tmp_path / "many"), ("many", tmp_path / "out"))
    )
    assert after.class_names == before.class_names == ("sea", "sun")
    assert [after.labels(i) for i in range(3)] == [before.labels(i) for i in range(3)]
    assert sorted(after.labels(i) for i in range(3)) == [(), (0,), (1, 0)]
    (folder / "labels.csv").unlink()
    folder = prepare("folder", tmp_path / "many", labelled=False, name="none").folder
    assert list(tfds.builder_from_directory(folder).info.features) == ["image"]
    assert len(source("none", tmp_path / "out", max_labels=0)) == 3


def test_tars_become_what_their_folders_become(photos, prepare, tmp_path):
    for place in sorted(photos.glob("*/*")):
        path = tmp_path / "tars" / place.parent.name / f"{place.name}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for file in sorted(place.iterdir()):
                tar.add(file, file.name)
    ones, others = prepare("folder", photos, name="pets"), prepare("tars", tmp_path / "tars", name="pets", out="other")
    assert (ones.folder / "SHA256SUMS").read_text() == (others.folder / "SHA256SUMS").read_text()
    assert (ones.folder / "label.labels.txt").read_text() == (others.folder / "label.labels.txt").read_text()


def test_names_and_splits_that_cannot_be(photos, prepare, caplog):
    (photos / "extra").mkdir()
    with pytest.raises(UserError, match="config.data.name=folder means something else"):
        prepare("folder", photos, name="folder")
    assert f"{photos}: extra not prepared; if those are splits, too, name all in --splits" in caplog.text
    with pytest.raises(UserError, match=r"can't be named 'My-Photos'; add --name=NAME"):
        prepare("folder", photos.rename(photos.parent / "My-Photos"))
    photos = photos.parent / "My-Photos"
    with pytest.raises(UserError, match=r"there is no split val in .*My-Photos; it has train, test"):
        prepare("folder", photos, name="pets", splits=("train", "val"))
    (photos / "train" / "eel").rename(photos / "train" / "eel ")
    with pytest.raises(UserError, match="the class 'eel ' of .* can't be written as a line"):
        prepare("folder", photos, name="pets")
    (photos / "train" / "eel ").rename(photos / "train" / "eel")
    (photos / "test" / "cat").rename(photos / "test" / "fox")
    with pytest.raises(UserError, match="the split test of .* has the class 'fox', which is none of the 3 classes"):
        prepare("folder", photos, name="pets")
    with pytest.raises(UserError, match="--shards=10 is more than the 9 examples of train"):
        prepare("folder", photos, name="pets", splits=("train",), shards=10)


def test_the_epochs_of_a_prepared_folder_are_those_of_the_folder(photos, prepare, tmp_path):
    """The same step draws the same examples from the images and from what they were prepared to."""
    prepare("folder", photos, name="pets")
    drawn = []
    for name, place in (("folder", photos), ("pets", tmp_path / "out")):
        config = config_lib.default()
        config.data.name, config.data.data_dir = name, str(place)
        config.model.image_size, config.global_batch_size = 8, 4
        stream = data.batches(config)
        drawn.append([next(stream)[key].tolist() for key in ("index", "label") for _ in range(3)])
        stream.close()
    assert drawn[0] == drawn[1]
