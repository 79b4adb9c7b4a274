"""Tars of images are read as the folders that they were made of."""

import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest

from helpers import images
from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.data import tar_index, tars
from vit_jax.data.folder import FolderSource
from vit_jax.errors import UserError

COLOUR = images.READABLE["colour.png"][0]


def pack(path, files, **options):
    """Writes a tar of files, given as name -> content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def config(tmp_path):
    """Returns the config of a folder of tars of the classes n1 and n2, of 3 images each, beside the same as files."""
    rng = np.random.default_rng(0)
    for name in ("n2", "n1"):
        files = {f"{name}_{i}.JPEG": images.encoded(images.halves(size=(9 + i, 8)), "JPEG") for i in range(3)}
        files["z" * 120 + ".png"] = rng.bytes(700)  # a long name takes further blocks before the content
        pack(tmp_path / "tars" / f"{name}.tar", files)
        place = tmp_path / "files" / name
        place.mkdir(parents=True)
        for file, content in files.items():
            (place / file).write_bytes(content)
    config = config_lib.default()
    config.data.name, config.data.data_dir = "tars", str(tmp_path / "tars")
    config.model.image_size, config.global_batch_size = 8, 4
    return config


def test_tars_are_the_folders_in_them(config, tmp_path):
    ours = tars.TarsSource(config.data.data_dir, "train", "data")
    folder = FolderSource(str(tmp_path / "files"), "train", "data")
    assert ours.class_names == folder.class_names == ("n1", "n2")
    assert len(ours) == len(folder) == 8
    for i in range(8):
        assert ours[i] == folder[i]
        assert ours.labels(i) == folder.labels(i)
        path, _, name = ours.describe(i).partition(": ")
        assert (path, name) == (
            f"{tmp_path}/tars/{ours.class_names[ours.labels(i)[0]]}.tar", folder.describe(i).rpartition("/")[2]
        )  # fmt: skip
    assert tars.TarsSource(config.data.data_dir, "train", "data", labelled=False)[0]["labels"] == ()


def test_a_tar_of_tars(config, tmp_path):
    """ImageNet's training images are a tar of tars, each of a class."""
    outer = tmp_path / "outer" / "train" / "ILSVRC2012_img_train.tar"
    pack(outer, {f"{name}.tar": (tmp_path / "tars" / f"{name}.tar").read_bytes() for name in ("n1", "n2")})
    plain = tars.TarsSource(config.data.data_dir, "train", "data")
    nested = tars.TarsSource(str(outer.parents[1]), "train", "data")
    assert nested.record() == plain.record() and nested.class_names == plain.class_names
    assert [nested[i] for i in range(8)] == [plain[i] for i in range(8)]
    assert nested.describe(3) == f"{outer}: {plain.describe(3).partition(': ')[2]}"


def test_trained_on_and_described(config):
    info = data.info(config)
    assert (info.num_examples, info.class_names) == (8, ("n1", "n2"))
    config.data.split = "train[:50%]"
    batch = next(data.batches(config))
    assert batch["image"].shape == (4, 8, 8, 3)
    before = data.describe(config)
    assert (before["parts"][0]["dataset"], before["num_examples"]) == ("tars", 4)
    pack(tars.epath.Path(config.data.data_dir) / "n1.tar", {"other.png": COLOUR})
    assert data.differences(before, data.describe(config))


def test_evaluations_take_the_same_folder(config, tmp_path):
    pack(tmp_path / "more" / "train" / "n1.tar", {"a.png": COLOUR})
    pack(tmp_path / "more" / "val" / "n1.tar", {"a.png": COLOUR, "b.png": COLOUR})
    config.data.data_dir = str(tmp_path / "more")
    config.evaluations.val = config_lib.evaluation(split="val")
    assert len(data.open_training(config)) == 1 and len(data.open_evaluation(config, "val")) == 2


def test_sent_to_workers(config):
    source = tars.TarsSource(config.data.data_dir, "train", "data")
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    assert [copy[i] for i in range(8)] == [source[i] for i in range(8)]


def test_other_files_are_left_out(tmp_path, caplog):
    pack(
        tmp_path / "n1.tar",
        {"a/1.png": COLOUR, "a/2": COLOUR, "3": b"text", "a/._1.png": COLOUR, "b.txt": b"", "c.csv": b""},
    )
    with tarfile.open(tmp_path / "n1.tar", "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a/1.png"
        tar.addfile(link)
    source = tars.TarsSource(str(tmp_path), "train", "data")
    assert sorted(source.describe(i).partition(": ")[2] for i in range(len(source))) == ["a/1.png", "a/2"]
    assert "left out files that are no images: 1 .csv, 1 .txt, 1 without a suffix" in caplog.text
    assert "link.png is a link or a special file, and is left out" in caplog.text


def index(path):
    return tar_index.read([tars.epath.Path(path)])


@pytest.mark.parametrize("damage", ["cut", "cut between", "header", "empty", "no tar", "compressed"])
def test_damaged_tars_are_refused(tmp_path, damage):
    """Also a header damaged in the middle, which Python's tarfile takes for the end."""
    path = tmp_path / "n1.tar"
    pack(path, {f"{i}.png": COLOUR for i in range(3)}, **({"format": tarfile.USTAR_FORMAT}))
    whole = path.read_bytes()
    second = 512 + -(-len(COLOUR) // 512) * 512  # where the second file begins
    path.write_bytes({
        "cut": whole[: second + 600],
        "cut between": whole[:second],
        "header": whole[:second] + b"x" * 512 + whole[second + 512 :],
        "empty": b"",
        "no tar": b"none" * 1000,
        "compressed": gzip.compress(whole),
    }[damage])  # fmt: skip
    with pytest.raises(UserError, match=f"{path} can't be read as an uncompressed tar, or is cut off or damaged"):
        index(path)


def test_a_tar_that_is_shortened_later(tmp_path, caplog):
    pack(tmp_path / "n1.tar", {"1.png": COLOUR})
    source = tars.TarsSource(str(tmp_path), "train", "data")
    (tmp_path / "n1.tar").write_bytes(b"")
    with pytest.raises(OSError, match="its tar has become shorter"):
        source[0]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ((), r"has no tars of the split 'train'; it holds nothing, and DIR/CLASS.tar"),
        (("n1.tar.gz",), "has compressed tars .n1.tar.gz., in which no image"),
        (("n1.tar", "train/n2.tar"), "has both tars, such as n1.tar, and a folder train with tars"),
        (("test/n1.tar",), "has no tars of the split 'train'; it holds test"),
        (("n1.tar", "outer.tar"), "has both tars of tars .outer.tar. and tars of images .n1.tar."),
        (("outer.tar", "outer2.tar"), "outer.tar and .*outer2.tar both have the class in"),
        (("none.tar",), "there are no images in the tars of the classes none of"),
    ],
)
def test_layouts_that_are_unclear_or_empty(tmp_path, made, said):
    pack(tmp_path / "elsewhere" / "in.tar", {"1.png": COLOUR})
    inner = (tmp_path / "elsewhere" / "in.tar").read_bytes()
    (tmp_path / "tars").mkdir()
    for name in made:
        files = {"in.tar": inner} if "outer" in name else {"1.txt" if "none" in name else "1.png": COLOUR}
        pack(tmp_path / "tars" / name, files)
    with pytest.raises(UserError, match=said) as error:
        tars.TarsSource(str(tmp_path / "tars"), "train", "data")
    assert "\n" not in str(error.value)


def test_splits_that_are_not_there(config, tmp_path):
    config.evaluations.test = config_lib.evaluation()
    with pytest.raises(UserError, match=r"no tars of the split 'test'; .* part of the only split is train\[99%:\]"):
        data.open_evaluation(config, "test")
    config.data.data_dir = None
    with pytest.raises(UserError, match="where are the tars. set config.data.data_dir"):
        data.open_training(config)
    config.data.data_dir = str(tmp_path / "none")
    with pytest.raises(UserError, match="config.data.data_dir is .*none, and there is no such folder"):
        data.open_training(config)
    config.data.name, config.data.data_dir = "folder", str(tmp_path / "tars")
    with pytest.raises(UserError, match="a folder of tars is read with the name tars"):
        data.open_training(config)
