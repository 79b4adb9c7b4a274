"""The command `analyze`: what it writes for each family of models, and what it says where something is missing."""

import base64
import contextlib
import io
import re

import numpy as np
import pytest
from etils import epath
from PIL import Image

import vit_jax
from helpers import models
from vit_jax import analysis
from vit_jax.analysis import measuring, report, writing
from vit_jax.analysis.measuring import Map, measure
from vit_jax.analysis.sections import NAMES
from vit_jax.checkpoints.files import line
from vit_jax.data.choose import choose
from vit_jax.errors import UserError
from vit_jax.models.observe import ATTENTION


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Returns a folder of five images, one of them in a sub-folder, beside a file that is no image."""
    folder, draw = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    (folder / "more").mkdir()
    for path in ("a.png", "b.jpg", "c.webp", "d.png", "more/e.png"):
        Image.fromarray(draw.integers(0, 256, (40, 30, 3), np.uint8)).save(folder / path)
    (folder / "notes.txt").write_text("no image")
    return folder


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def drawn(model, maps=(), count=3):
    size = model.preprocessing.size
    images = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    return measure(model, [(f"{i}.png", image) for i, image in enumerate(images)], count, maps=maps)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_of_photographs(start, photographs, tmp_path):
    """One image can't be read: the others are analysed, and the exit code is 1. The image is not square."""
    vit_jax.save(models.create(), tmp_path / "model.npz")
    (photographs / "torn.png").write_bytes((photographs / "a.png").read_bytes()[:100])
    out = tmp_path / "new" / "inside"
    command = ("analyze", f"--model={tmp_path}/model.npz", f"--images={photographs}", f"--out={out}")
    code, said, err = ended(start(*command, "--attention=1.0", without=("tensorflow",)))
    (photographs / "torn.png").unlink()
    assert code == 1 and said.splitlines() == [f"wrote {out}/report.html"]
    *before, last = err.splitlines()
    assert any(f"{photographs}/torn.png can't be read as an image" in line for line in before)
    assert last == "error: 1 of 6 images can't be read; they are named above"
    pages = ("rollout_01", "attention_1_0_01")
    assert names(out) == sorted(
        ["analysis.npz", "report.html"]
        + [f"{name}.{suffix}" for name in (*NAMES[:-1], *pages) for suffix in ("png", "pdf")]
    )
    numbers = np.load(out / "analysis.npz")
    assert numbers["posemb_similarity"].shape == (2, 3, 2, 3)
    assert numbers["rollout"].shape == numbers["attention_1_0"].shape == (5, 2, 3)
    assert numbers["attention_distance"].shape == numbers["attention_distance_random"].shape == (2, 2)
    for name in NAMES[:-1]:
        with Image.open(out / f"{name}.png") as figure:
            assert figure.width > 300
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    text = (out / "report.html").read_text()
    assert "5; 1 more can&#x27;t be read" in text and f"{photographs}/more/e.png" in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)  # nothing is loaded from elsewhere
    before = (out / "report.html").stat().st_mtime_ns
    code, said, err = ended(start(*command, without=("tensorflow",)))
    assert (code, said) == (1, "") and f"{out}/report.html is there already; add --overwrite" in err
    assert (out / "report.html").stat().st_mtime_ns == before


def test_an_earlier_analysis_is_replaced_whole(tmp_path):
    """With `overwrite` the pages of an earlier analysis go, and files of others stay."""
    model = models.create("Mixer-S/16")
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "rollout_99.png").write_bytes(b"earlier")
    (tmp_path / "attention_1_mean_01.pdf").write_bytes(b"earlier")
    found = drawn(model)
    with pytest.raises(UserError, match="is there already"):
        analysis.write(found, tmp_path, {})
    assert len(names(tmp_path)) == 3
    analysis.write(found, tmp_path, {}, overwrite=True)
    assert not [name for name in names(tmp_path) if name.startswith(("rollout", "attention", "."))]
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="can't be a folder, because .*/out is a file"):
        analysis.write(drawn(models.create("BiT-R50x1", stages=(1,))), tmp_path / "out", {})


def test_a_disk_that_fails_keeps_the_earlier_analysis(tmp_path, monkeypatch):
    found = drawn(models.create("BiT-R50x1", stages=(1,)))
    analysis.write(found, tmp_path / "out", {})
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    @contextlib.contextmanager
    def full(path, **_):
        raise OSError("no space left")
        yield

    monkeypatch.setattr(writing.files, "replacing", full)
    with pytest.raises(UserError, match="can't be written"):
        analysis.write(found, tmp_path / "out", {}, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_folder_that_can_not_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=f"can't be a folder, because {tmp_path}/file is a file"):
        writing.check_folder(epath.Path(tmp_path / "file" / "out"), overwrite=False)
    monkeypatch.setattr(writing.files.os, "access", lambda *_: False)
    with pytest.raises(UserError, match=f"out can't be written, because {tmp_path} can't"):
        writing.check_folder(epath.Path(tmp_path / "out"), overwrite=True)


@pytest.mark.slow
def test_class_names_are_no_formulas(tmp_path):
    model = models.create("Mixer-S/16")
    model.class_names = ("$x_$", r"$\frac$", "c", "d", "e")
    assert {top.name for tops in drawn(model).tops for top in tops} & set(model.class_names[:2])
    vit = models.create()
    vit.class_names = model.class_names
    analysis.write(drawn(vit, count=1), tmp_path, {})


@pytest.mark.parametrize(
    ("name", "options", "arrays", "reasons"),
    [
        ("BiT-R50x1", {"stages": (1,)}, NAMES[:1], dict.fromkeys(NAMES[1:], "A BiT ResNet has no")),
        (
            "Mixer-S/16", {}, ("filters", "token_norms", "cka"),
            dict.fromkeys(("posemb_similarity", "attention_distance", "attention_entropy", "rollout"), "An MLP-Mixer"),
        ),
        pytest.param(
            "Ti/16", {"pool": "map", "registers": 2, "posemb": "none", "rope": 100.0}, [*NAMES[:1], *NAMES[2:]],
            {"posemb_similarity": "no table of position embeddings (posemb=none, rope=100)"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "Ti/16", {"posemb": "relative"}, [*NAMES[:1], *NAMES[2:]],
            {"posemb_similarity": "no table of position embeddings (posemb=relative, rope=0)"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "Ti/16", {"pool": "gap", "attention": "axial", "posemb_at": "layers"}, NAMES, {}, marks=pytest.mark.slow
        ),
        pytest.param(
            "R+Ti/16", {"pool": "tok+gap", "registers": 1, "num_classes": 0}, NAMES, {}, marks=pytest.mark.slow
        ),
    ],
)  # fmt: skip
def test_what_applies_is_drawn_and_the_rest_named(tmp_path, name, options, arrays, reasons):
    found = drawn(models.create(name, **options))
    assert [each for each in NAMES if each in found.arrays] == list(arrays)
    assert list(found.missing) == list(reasons)
    assert all(reason in found.missing[each] for each, reason in reasons.items())
    assert all(np.isfinite(found.arrays[each]).all() for each in arrays)
    if not reasons:
        return  # all is drawn in another test
    analysis.write(found, tmp_path / "out", {"model": "<m>"})
    assert all((tmp_path / "out" / f"{each}.png").exists() for each in arrays if each != "rollout")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "Not drawn" in text and all(reason in text for reason in found.missing.values())
    assert "Inside &lt;m&gt;" in text


def test_filters_of_a_hybrid_are_those_of_its_first_convolution():
    model = models.create("R+Ti/16")
    assert drawn(model, count=1).arrays["filters"].shape == (28, 7, 7, 3)
    np.testing.assert_array_equal(analysis.patch_kernel(model), model.stem.conv_root.kernel)


def test_one_tiny_image():
    """One image of one patch: what needs more is named."""
    found = drawn(models.create("Ti/16", image_size=(8, 4), pool="gap"), count=1)
    assert found.missing == {"cka": "The estimate needs 4 tokens or more."}
    assert found.arrays["rollout"].shape == (1, 1, 1)


def test_top_classes_are_those_of_the_model():
    model = models.create()
    model.class_names = ("ant", "bee", "cat", "dog", "eel")
    found = drawn(model)
    logits = np.asarray(model(found.photographs))
    assert [top[0].name for top in found.tops] == [model.class_names[i] for i in logits.argmax(1)]
    model.head.kernel[...], model.head.bias[...] = 0 * model.head.kernel[...], 0 * model.head.bias[...]
    assert drawn(model).tops == ((), (), ())  # a new head has learned no classes


def test_the_report_stays_small(tmp_path, monkeypatch):
    """Photographs are made smaller until the report is small enough, and those beyond the first are counted."""
    monkeypatch.setattr(measuring, "SHOWN", 20)
    monkeypatch.setattr(report, "_BYTES", 1)
    found = drawn(models.create("Mixer-S/16"), count=21)
    analysis.write(found, tmp_path, {})
    text = (tmp_path / "report.html").read_text()
    assert text.count("<article") == 20 and "The first 20 of 21 images" in text
    picture = re.search(r"data:image/jpeg;base64,([^\"]+)", text)[1]
    assert max(Image.open(io.BytesIO(base64.b64decode(picture))).size) == 48


def test_images_are_chosen_the_same_each_time(photographs):
    all_of_them = [str(photographs / name) for name in ("a.png", "b.jpg", "c.webp", "d.png", "more/e.png")]
    assert choose([str(photographs)], 128) == (tuple(all_of_them), 5)
    some = choose([str(photographs)], 3)
    assert some == choose([str(photographs)], 3) and some.found == 5
    assert len(some.paths) == 3 and list(some.paths) == sorted(set(some.paths)) and set(some.paths) < set(all_of_them)
    assert choose([",".join(all_of_them[:2]), all_of_them[3]], 9).paths == (*all_of_them[:2], all_of_them[3])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which model? add --model=FOLDER_OR_FILE"),
        (["--model=m.npz"], "which images? add --images=FOLDER"),
        (["--model=m.npz", "--images={photographs}"], "where to write? add --out=FOLDER"),
        (["--model=m.npz", "--images={tmp}/none", "--out={tmp}/out"], "there is no image or folder {tmp}/none"),
        (["--model=m.npz", "--images={tmp}", "--out={tmp}/out"], "there are no images in {tmp}"),
        (["--model=m.npz", "{photographs}/a.png", "--out={tmp}/out", "--attention=x"], "--attention=x is not LAYER"),
        (["--model=m.npz", "{photographs}", "--out={tmp}/out", "--count=0"], "count"),
        (["--config.seed=1"], "analyze takes no config; leave out --config.seed"),
    ],
)
def test_mistakes_are_found_before_jax(start, photographs, tmp_path, args, said):
    places = {"photographs": photographs, "tmp": tmp_path}
    code, out, err = ended(start("analyze", *[arg.format(**places) for arg in args], without=("jax", "tensorflow")))
    assert (code, out) == (1, "") and len(err.splitlines()) == 1
    assert err.startswith("error: ") and said.format(**places) in line(Exception(err))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("Ti/16", Map(2), "no layer 2; --attention takes layers 0 to 1"),
        ("Ti/16", Map(0, 2), "no head 2; --attention takes heads 0 to 1"),
        ("Mixer-S/16", Map(0), "a model of the family mixer has no attention"),
    ],
)
def test_attention_that_is_not_there(name, wanted, said):
    with pytest.raises(UserError, match=said):
        drawn(models.create(name), [wanted])


def test_no_image_can_be_read():
    with pytest.raises(UserError, match="there is no image that can be read"):
        measure(models.create(), [], 3)


def test_bit_has_nothing_to_observe():
    with pytest.raises(UserError, match="has no blocks of tokens"):
        models.create("BiT-R50x1", stages=(1,)).observe(np.zeros((1, 20, 27, 3), np.float32), ATTENTION)
