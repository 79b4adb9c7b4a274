"""The command `convert`: files are converted between formats, and errors are one sentence."""

import numpy as np
import pytest

import vit_jax
from vit_jax.checkpoints import model_file


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_converts_there_and_back(start, goldens, tmp_path):
    there, back = tmp_path / "model.safetensors", tmp_path / "back.npz"
    told = ("--num_heads=4", "--image_size=32,48")
    process = start("convert", goldens / "timm_vit_gap_norm.safetensors", there, *told, without=("tensorflow",))
    code, out, err = ended(process)
    assert (code, out) == (0, f"wrote {there}\n") and "has no config.json that says its preprocessing" in err
    assert ended(start("convert", there, back, "--format=original")) == (0, f"wrote {back}\n", "")
    golden = np.load(goldens / "timm_vit_gap_norm.npz")
    np.testing.assert_allclose(vit_jax.load(back)(golden["image"]), golden["logits"], atol=2e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "back.json", "back.npz", "config.json", "model.safetensors",
    ]  # fmt: skip


def test_help_and_list(start):
    helped, listed = (start("convert", flag, without=("tensorflow",)) for flag in ("--help", "--list"))
    code, out, err = ended(helped)
    assert (code, err) == (0, "") and "python -m vit_jax.convert" in out and "--format" in out
    code, out, err = ended(listed)
    assert (code, err) == (0, "") and {"augreg:B/16", "gs://vit_models/sam/ViT-B_32.npz"} < set(out.splitlines())


def test_a_reader_that_has_had_enough(start):
    process = start("convert", "--list")
    process.stdout.close()  # as `head` does, but already before the first line
    assert (process.wait(timeout=300), process.stderr.read()) == (141, "")
    process.stderr.close()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "convert takes two files, IN and OUT; --list shows the public checkpoints"),
        (["{golden}"], "convert takes two files, IN and OUT"),
        (["{golden}", "{there}"], "{there} is there already; add --overwrite (overwrite=True), or name another file"),
        (["{golden}", "{tmp}/none/a.npz"], "there is no folder {tmp}/none to write to; make it first"),
        (["{golden}", "{tmp}/a.npz", "--image_size=1,2,3"], "--image_size takes a number or HEIGHT,WIDTH, not 1,2,3"),
        (["{golden}", "{tmp}/a.npz", "--num_heads=0"], "num_heads"),
        (["{golden}", "{tmp}/a.npz", "--config.seed=1"], "convert takes no config; leave out --config.seed"),
    ],
)
def test_mistakes_are_found_before_jax(start, goldens, tmp_path, args, said):
    there = tmp_path / "there.npz"
    there.write_text("kept")
    places = {"golden": goldens / "vit_token.npz", "there": there, "tmp": tmp_path}
    process = start("convert", *[arg.format(**places) for arg in args], without=("jax", "tensorflow"))
    code, out, err = ended(process)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("error: ") and said.format(**places) in err
    assert there.read_text() == "kept" and list(tmp_path.iterdir()) == [there]


@pytest.mark.parametrize(
    ("args", "limit", "said"),
    [
        (["{tmp}/none.npz", "{there}"], "", "there is no checkpoint {tmp}/none.npz"),
        pytest.param(
            ["{golden}", "{there}", "--format=torch"],
            "",
            "unknown format 'torch'; there are original, big_vision,",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["{golden}", "{there}", "--format=timm"],
            "",
            "{there} can't be of the format timm, whose files end in .safe",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["{golden}", "{there}", "--format=bit"],
            "",
            "the format bit has no place for a model of the family vit",
            marks=pytest.mark.slow,
        ),
        (["{golden}", "{there}"], "ulimit -f 40", "{there} can't be written (File too large)"),
    ],
)
def test_a_failure_leaves_what_was_there(start, goldens, tmp_path, args, limit, said):
    there = tmp_path / "there.npz"
    model_file.convert(goldens / "vit_gap.npz", there, image_size=(48, 32))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    places = {"golden": goldens / "vit_token.npz", "there": there, "tmp": tmp_path}
    process = start(
        "convert",
        *[arg.format(**places) for arg in args],
        "--overwrite",
        limit=limit,
        PYTHONDONTWRITEBYTECODE="1",
        JAX_ENABLE_COMPILATION_CACHE="false",
    )
    code, out, err = ended(process)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: ") and said.format(**places) in err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
