"""Model files: goldens of a reference implementation, round trips, and errors."""

import json

import numpy as np
import pytest

import vit_jax
from vit_jax.checkpoints import published
from vit_jax.models import names
from vit_jax.models.functional import split

GOLDENS = [("vit_token", {}), ("vit_token_prelogits", {}), ("vit_gap", {"image_size": (48, 32)})]
TINY = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "image_size": 16, "num_classes": 3}


@pytest.mark.parametrize(("name", "keywords"), GOLDENS)
def test_goldens(goldens, name, keywords):
    golden = np.load(goldens / f"{name}.npz")
    model = vit_jax.load(goldens / f"{name}.npz", **keywords)
    np.testing.assert_allclose(model(golden["image"]), golden["logits"], atol=2e-5)
    np.testing.assert_allclose(model.encode(golden["image"]), golden["encoded"], atol=2e-5)


@pytest.mark.parametrize(("name", "keywords"), GOLDENS)
def test_round_trip_is_exact(goldens, tmp_path, name, keywords):
    model = vit_jax.load(goldens / f"{name}.npz", **keywords)
    vit_jax.save(model, tmp_path / "model.npz")
    written, golden = np.load(tmp_path / "model.npz"), np.load(goldens / f"{name}.npz")
    assert {f"params/{n}" for n in written.files} == {n for n in golden.files if n.startswith("params/")}
    for array in written.files:
        np.testing.assert_array_equal(written[array], golden[f"params/{array}"])
    assert vit_jax.load(tmp_path / "model.npz").arch == model.arch


@pytest.mark.parametrize(
    "keywords",
    [
        {"pool": "map", "pre_logits": 12},
        {"posemb": "sincos2d", "pool": "gap", "scan": False, "dropout": 0.1},
        {"parallel": True, "qk_norm": True, "qkv_bias": False, "posemb": "none"},
    ],
    ids=str,
)
def test_own_files_rebuild_the_model(tmp_path, keywords):
    model = vit_jax.create("Ti/8", seed=3, **TINY, **keywords)
    vit_jax.save(model, tmp_path / "model.npz")
    loaded = vit_jax.load(tmp_path / "model.npz")
    assert loaded.arch == model.arch and loaded.preprocessing == model.preprocessing
    images = np.random.default_rng(0).random((2, 16, 16, 3))
    np.testing.assert_array_equal(loaded.encode(images), model.encode(images))


def test_architecture_is_read_from_the_arrays_alone(tmp_path):
    model = vit_jax.create("Ti/8", **TINY, pool="map", qk_norm=True, qkv_bias=False, parallel=True)
    vit_jax.save(model, tmp_path / "model.npz")
    (tmp_path / "model.json").unlink()
    assert vit_jax.load(tmp_path / "model.npz").arch == model.arch


def test_newer_numbering_loads(goldens, tmp_path):
    """Newer files count submodules per class."""
    arrays = np.load(goldens / "vit_token.npz")

    def rename(name):
        name = name.replace("MlpBlock_3", "MlpBlock_0").replace("Attention_1", "Attention_0")
        return name.replace("LayerNorm_2", "LayerNorm_1").removeprefix("params/")

    kept = {rename(n): arrays[n] for n in arrays.files if n.startswith("params/")}
    np.savez(tmp_path / "new.npz", **kept)
    golden = np.load(goldens / "vit_token.npz")
    np.testing.assert_allclose(vit_jax.load(tmp_path / "new.npz")(golden["image"]), golden["logits"], atol=2e-5)


def test_another_size_and_another_head(goldens):
    model = vit_jax.load(goldens / "vit_token_prelogits.npz", image_size=64, num_classes=9)
    assert model.arch.grid == (4, 4) and model.preprocessing.size == (64, 64) and model.arch.pre_logits == 0
    np.testing.assert_array_equal(model(np.ones((2, 64, 64, 3))), np.zeros((2, 9)))
    same = vit_jax.load(goldens / "vit_token_prelogits.npz", num_classes=7)
    assert np.any(same(np.ones((1, 32, 32, 3))))
    # Positions follow images of another size as `load` does.
    at_64 = vit_jax.load(goldens / "vit_token_prelogits.npz", image_size=64)
    images = np.random.default_rng(0).random((2, 64, 64, 3))
    np.testing.assert_allclose(same(images), at_64(images), atol=1e-5)


def test_a_table_with_as_many_tokens_is_taken_as_it_is(goldens):
    model = vit_jax.load(goldens / "vit_token.npz", image_size=(16, 64))
    kept = np.load(goldens / "vit_token.npz")[f"params/{published.POSITIONS}"]
    np.testing.assert_array_equal(model.pos_embedding[...], kept)


def test_class_names_and_preprocessing_travel(tmp_path):
    from flax import nnx

    from vit_jax.models import Architecture, Preprocessing, VisionTransformer

    arch = Architecture.named("Ti/8", **TINY)
    preprocessing = Preprocessing((16, 16), 20, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = VisionTransformer(arch, preprocessing, ("a", "b", "ü"), rngs=nnx.Rngs(0))
    vit_jax.save(model, tmp_path / "model.npz")
    loaded = vit_jax.load(tmp_path / "model.npz")
    assert loaded.class_names == ("a", "b", "ü") and loaded.preprocessing == preprocessing
    larger = vit_jax.load(tmp_path / "model.npz", image_size=32, num_classes=4)
    assert larger.preprocessing.shorter_side == 40 and larger.class_names == ()


def test_published_names():
    params = split(vit_jax.create("Ti/8", **TINY, pool="map"))[1]
    assert {n for n in names.to_published(params) if n.startswith("vit_jax/")} == set()
    assert names.unflatten(names.flatten(params)).keys() == params.keys()
    assert names.layer_names("encoder/blocks/mlp/dense2/bias", 2) == [
        f"Transformer/encoderblock_{i}/MlpBlock_3/Dense_1/bias" for i in (0, 1)
    ]
    assert names.published("novel/kernel") == "vit_jax/novel/kernel"


def broken(tmp_path, kind):
    model, path = vit_jax.create("Ti/8", **TINY), tmp_path / "model.npz"
    vit_jax.save(model, path)
    arrays = dict(np.load(path))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "text":
        path.write_text("hello")
    elif kind == "pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    elif kind == "other":
        (tmp_path / "model.json").unlink()
        np.savez(path, x=np.ones(3))
    elif kind == "json":
        (tmp_path / "model.json").write_text("{")
    elif kind == "newer":
        description = json.loads((tmp_path / "model.json").read_text())
        (tmp_path / "model.json").write_text(json.dumps({**description, "format_version": 99}))
    else:
        if kind == "missing":
            del arrays["Transformer/encoder_norm/bias"]
        elif kind == "left over":
            arrays["tail/kernel"] = np.ones(3)
        elif kind == "shape":
            arrays["Transformer/encoderblock_1/LayerNorm_0/bias"] = np.ones(3)
        np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "no whole .npz"),
        ("text", "model.npz"),
        ("pickle", "pickles are refused"),
        ("other", "no Vision Transformer.*it has x"),
        ("json", "model.json is not valid JSON"),
        ("newer", "newer vit_jax"),
        ("missing", "Transformer/encoder_norm/bias is missing"),
        ("left over", "tail/kernel is left over"),
        ("shape", r"encoderblock_1/LayerNorm_0/bias has shape \(3,\) where \(16,\) is needed"),
    ],
)
def test_broken_files(tmp_path, kind, message):
    with pytest.raises(vit_jax.UserError, match=message):
        vit_jax.load(broken(tmp_path, kind))


def test_what_the_file_cannot_tell(goldens, tmp_path):
    with pytest.raises(vit_jax.UserError, match="24 position embeddings are no square grid.*image_size"):
        vit_jax.load(goldens / "vit_gap.npz")
    vit_jax.save(vit_jax.create("Ti/8", **TINY, posemb="sincos2d"), tmp_path / "model.npz")
    (tmp_path / "model.json").unlink()
    with pytest.raises(vit_jax.UserError, match="posemb=sincos2d or posemb=none"):
        vit_jax.load(tmp_path / "model.npz")
    assert vit_jax.load(tmp_path / "model.npz", posemb="sincos2d").arch.posemb == "sincos2d"


def test_other_places(tmp_path):
    with pytest.raises(vit_jax.UserError, match="there is no checkpoint"):
        vit_jax.load(tmp_path / "nothing.npz")
    with pytest.raises(vit_jax.UserError, match="neither model.npz nor a whole checkpoint"):
        vit_jax.load(tmp_path)
    with pytest.raises(vit_jax.UserError, match=".npz is what can be written"):
        vit_jax.save(vit_jax.create("Ti/8", **TINY), tmp_path / "model.bin")
