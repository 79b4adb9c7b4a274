"""Which files of a folder are images, and the messages about the other files."""

import logging
import os

import numpy as np
import pytest
from etils import epath
from PIL import Image

from vit_jax import data
from vit_jax.data import decode, listing, once
from vit_jax.errors import UserError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8))


def save(path, format="PNG", **keywords):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        PICTURE.save(file, format, **keywords)


def read(root, *names):
    found = listing.read(epath.Path(root), names or listing.folders(epath.Path(root)))
    return [path for _, path in found.files]


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.gif", "GIF"), ("a.TIF", "TIFF"), ("a.jfif", "JPEG"), ("a.webp", "WEBP"), ("a.tga", "TGA"), ("a.pgm", "PPM"),
     ("a", "PNG"), ("a.v2", "JPEG"), ("a.jpg?size=large", "JPEG"), ("below/it/a.png", "PNG")],
)  # fmt: skip
def test_reads_what_pillow_reads(folder, tmp_path, caplog, name, format):
    """An image is found whatever its format, its suffix and its depth below the class's folder."""
    for split in ("train", "test"):
        save(tmp_path / split / "fox" / name, format)
    assert data.info(folder) == data.Info(10, 4, ("cat", "dog", "eel", "fox"))
    batch = next(data.evaluation_batches(folder, "test"))
    assert batch["mask"].all()
    assert not caplog.records


def test_first_frame_of_animations(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        pixel = decode.for_evaluation((tmp_path / name).read_bytes(), (4, 4))[0, 0]
        assert pixel[0] > 240 > 15 > pixel[2], name


def test_what_is_no_image_is_counted_and_named(folder, tmp_path, caplog):
    place = tmp_path / "train" / "cat"
    for name in ("a.txt", "b.txt", "c.csv", "Thumbs.db", "LICENSE", "paper.pdf", "drawing.eps", ".hidden"):
        (place / name).write_text("P1 BM GIF %!PS")
    os.mkfifo(place / "pipe")  # reading it would never end
    assert data.info(folder).num_examples == 9
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for said in (
        str(tmp_path / "train"),
        "left out 8 files",
        "2 .txt",
        "2 without a suffix",
        "1 .csv",
        "1 .db",
        "1 .eps",
        "cat/",
    ):
        assert said in record.getMessage()
    assert "hidden" not in record.getMessage()


def test_order_is_that_of_names(tmp_path):
    for name in ("b/1.png", "b/a/1.png", "b/0.png", "c/1.png", "b/a/0.png"):
        save(tmp_path / name)
    assert read(tmp_path) == ["0.png", "1.png", "a/0.png", "a/1.png", "1.png"]


def test_links_are_followed_and_loops_are_not(tmp_path, caplog):
    save(tmp_path / "elsewhere" / "a.png")
    save(tmp_path / "images" / "cat" / "b.png")
    (tmp_path / "images" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "cat" / "loop").symlink_to(tmp_path / "images" / "cat")
    (tmp_path / "images" / "dog").symlink_to(tmp_path / "elsewhere")
    assert read(tmp_path / "images") == ["b.png", "more/a.png", "a.png"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/images/cat/loop links to a folder that it lies in, and is not followed"
    ]


def test_a_bucket_is_listed_as_a_disk(tmp_path, monkeypatch):
    for name in ("cat/1.png", "cat/a/1.JPG", "dog/b/c/2", "dog/e.txt"):
        save(tmp_path / name)
    local = read(tmp_path)
    monkeypatch.setattr(listing, "_local_entries", listing._remote_entries)
    assert read(tmp_path) == local == ["1.png", "a/1.JPG", "b/c/2"]


@pytest.mark.parametrize(
    ("files", "holds"),
    [([], "fox holds nothing"), (["a.txt", "b.txt"], "fox holds 2 .txt"), ([".a.png"], "fox holds 1 hidden"),
     (["below/a.csv"], "fox holds 1 .csv")],
)  # fmt: skip
def test_a_class_without_images(folder, tmp_path, caplog, files, holds):
    """A class without images is an error in training, and a warning in an evaluation."""
    for split in ("train", "test"):
        (tmp_path / split / "fox").mkdir()
        for name in files:
            path = tmp_path / split / "fox" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("none")
    with pytest.raises(UserError, match=f"no images in the folders fox of .*train .{holds}.; add images") as error:
        data.batches(folder)
    assert "\n" not in str(error.value)
    save(tmp_path / "train" / "fox" / "1.png")
    caplog.clear()
    assert len(data.open_evaluation(folder, "test")) == 6
    assert f"test has no images of the classes fox ({holds})" in caplog.text


def test_images_outside_of_the_classes(folder, tmp_path, caplog):
    save(tmp_path / "train" / "stray.png")
    (tmp_path / "train" / "labels.csv").touch()
    assert data.info(folder).num_examples == 9
    assert f"{tmp_path}/train: images outside of the classes' folders are not read: stray.png" in caplog.text


def test_classes_that_differ_in_case_only(folder, tmp_path, caplog):
    save(tmp_path / "train" / "Cat" / "1.png")
    assert len(data.class_names(folder)) == 4
    data.info(folder)
    assert "the classes Cat, cat differ in upper and lower case only" in caplog.text


def test_a_folder_that_cannot_be_listed(folder, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(UserError, match="can't list the folder .*cat.*Permission denied"):
        data.batches(folder)


def test_a_run_lists_once(folder, tmp_path, caplog, monkeypatch):
    (tmp_path / "train" / "cat" / "a.txt").touch()
    scans = []
    scan = listing.os.scandir
    monkeypatch.setattr(listing.os, "scandir", lambda path: scans.append(str(path)) or scan(path))
    with once.opened_once():
        for _ in range(3):
            data.info(folder), data.describe(folder), data.open_evaluation(folder, "test")
            next(data.batches(folder))
        assert len(scans) == len(set(scans)) == 8
        assert len(caplog.records) == 1
        save(tmp_path / "train" / "cat" / "new.png")
        assert data.info(folder).num_examples == 9
    assert data.info(folder).num_examples == 10


def test_long_listings_show_progress(tmp_path, caplog, monkeypatch):
    (tmp_path / "cat").mkdir()
    for i in range(2500):
        (tmp_path / "cat" / f"{i}.png").touch()
    monkeypatch.setattr(listing, "_PROGRESS_SECONDS", -1)
    with caplog.at_level(logging.INFO, "vit_jax"):
        read(tmp_path)
    assert [r.getMessage().rpartition(": ")[2] for r in caplog.records] == ["1,000 files so far", "2,000 files so far"]
