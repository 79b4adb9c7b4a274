"""Tests that the image settings of timm and transformers are read and written correctly.

The pixels that these settings give were compared with those of the libraries themselves.
"""

import contextlib
import itertools
import json

import pytest

from vit_jax import UserError
from vit_jax.checkpoints.formats import torch_preprocessing
from vit_jax.checkpoints.formats.base import About
from vit_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS, Preprocessing, VitArchitecture

HALF = (0.5, 0.5, 0.5)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ANY = {"mean": (0.25, 0.5, 0.75), "std": (0.5, 0.25, 1.0)}


def arch(size=224):
    return VitArchitecture.of(image_size=size, patch_size=2, width=8, depth=1, mlp_dim=8, num_heads=1)


def timm(config, size=224, kind="vit"):
    return torch_preprocessing.from_timm(About("FILE", config, {}, {}), arch(size), kind)


def transformers(config, kind="vit", size=224):
    return torch_preprocessing.from_transformers(About("FILE", {}, config, {}), kind, arch(size))


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        ({}, ((224, 224), 256, IMAGENET_MEAN, IMAGENET_STD, "bicubic", True)),
        ({**ANY, "crop_pct": 0.9}, ((224, 224), 248, (0.25, 0.5, 0.75), (0.5, 0.25, 1.0), "bicubic", True)),
        (
            {"interpolation": "bilinear", "crop_pct": 0.95},
            ((224, 224), 235, IMAGENET_MEAN, IMAGENET_STD, "bilinear", True),
        ),
        ({"crop_pct": 1.0}, ((224, 224), 224, IMAGENET_MEAN, IMAGENET_STD, "bicubic", True)),
        ({"crop_pct": 1.0, "crop_mode": "squash"}, ((224, 224), None, IMAGENET_MEAN, IMAGENET_STD, "bicubic", True)),
        ({"crop_pct": 0.95, "crop_mode": "squash"}, ((224, 224), 235, IMAGENET_MEAN, IMAGENET_STD, "bicubic", False)),
        (
            {"input_size": [3, 256, 128], "crop_pct": 0.9, "interpolation": "lanczos"},
            ((256, 128), 142, IMAGENET_MEAN, IMAGENET_STD, "lanczos", True),
        ),
    ],
)
def test_timm_reads(cfg, expected, caplog):
    """Configs of timm before and after version 0.9 are read.

    `shorter_side` is rounded down, as in timm, and missing keys have timm's defaults.
    """
    expected = Preprocessing(*expected)
    if cfg:
        assert timm(cfg) == expected
    assert timm({"architecture": "vit", "pretrained_cfg": cfg or {"input_size": [3, 224, 224]}}) == expected
    assert not caplog.text


def test_timm_without_a_config(caplog):
    assert timm({}, 384) == Preprocessing((384, 384), 426, HALF, HALF, "bicubic")
    assert timm({}, kind="dinov3") == Preprocessing((224, 224), 224, IMAGENET_MEAN, IMAGENET_STD, "bicubic")
    assert timm({}, kind="deit") == Preprocessing((224, 224), 248, IMAGENET_MEAN, IMAGENET_STD, "bicubic")
    assert "FILE has no config.json that says its preprocessing" in caplog.text


def test_what_timm_pads_is_said(caplog):
    assert timm({"crop_mode": "border", "crop_pct": 1.0}).shorter_side is None
    assert "crop_mode=border, which pads images" in caplog.text


@pytest.mark.parametrize(
    "size", [*(pytest.param(size, marks=pytest.mark.slow) for size in ((224, 224), (518, 518))), (256, 128), (16, 24)]
)
def test_both_write_what_they_read(size):
    for interpolation, keep_aspect in itertools.product(INTERPOLATIONS, (True, False)):
        first = min(size) + (not keep_aspect)  # a squash to exactly the final size means no crop
        for side in (None, *range(first, 2 * min(size))):
            settings = Preprocessing(size, side, *ANY.values(), interpolation, keep_aspect or side is None)
            written = torch_preprocessing.to_timm(settings)
            found = timm({"pretrained_cfg": json.loads(json.dumps(written))})
            assert (found.shorter_side, found.size, found.interpolation) == (side, size, interpolation)
            assert side is None or found == settings
            if size[0] == size[1] or not settings.keep_aspect or side is None:
                written = json.loads(json.dumps(torch_preprocessing.to_transformers(settings)))
                assert transformers(written, size=size) == settings


def test_what_transformers_can_not_have_is_said(caplog):
    """Only a box that is not square, which the image covers with its aspect ratio kept, can't be had."""
    torch_preprocessing.to_transformers(Preprocessing((32, 48), 36, keep_aspect=False))
    torch_preprocessing.to_transformers(Preprocessing((48, 48), 54))
    assert not caplog.text
    written = torch_preprocessing.to_transformers(Preprocessing((32, 48), 36))
    assert "transformers can't resize images to cover 32x48 pixels and keep their aspect ratio" in caplog.text
    assert (written["crop_size"], written["size"]) == ({"height": 32, "width": 48}, {"shortest_edge": 48})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (  # google/vit-base-patch16-224, now and in its file of 2021
            {"size": {"height": 224, "width": 224}, "resample": 2, "image_processor_type": "ViTImageProcessor"},
            ((224, 224), None, HALF, HALF, "bilinear"),
        ),
        ({"size": 224, "feature_extractor_type": "ViTFeatureExtractor"}, ((224, 224), None, HALF, HALF, "bilinear")),
        ({"image_processor_type": "SiglipImageProcessor"}, ((224, 224), None, HALF, HALF, "bicubic")),
        (  # facebook/dinov2-base
            {
                "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True,
                "image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD), "resample": 3,
                "image_processor_type": "BitImageProcessor",
            },
            ((224, 224), 256, IMAGENET_MEAN, IMAGENET_STD, "bicubic"),
        ),
        (  # facebook/deit-base-distilled-patch16-224
            {"size": 256, "crop_size": 224, "do_center_crop": True, "feature_extractor_type": "DeiTFeatureExtractor"},
            ((224, 224), 256, HALF, HALF, "bicubic", False),
        ),
        (  # facebook/dinov3-vits16-pretrain-lvd1689m
            {"image_processor_type": "DINOv3ViTImageProcessorFast"},
            ((224, 224), None, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
        ),
        ({"image_processor_type": "BitImageProcessorFast"}, ((224, 224), 224, *CLIP, "bicubic")),
        (
            {"size": 256, "crop_size": 240, "image_processor_type": "CLIPImageProcessor"},
            ((240, 240), 256, *CLIP, "bicubic"),
        ),
        ({"size": [192, 320], "resample": 1}, ((192, 320), None, HALF, HALF, "lanczos")),
        (
            {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
            ((224, 224), None, HALF, HALF),
        ),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, ((224, 224), None, HALF, HALF)),
        ({"do_normalize": False}, ((224, 224), None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
    ],
)  # fmt: skip
def test_transformers_reads(config, expected, caplog):
    assert transformers(config) == Preprocessing(*expected)
    assert not caplog.text


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("vit", (None, HALF, HALF, "bilinear")),
        ("siglip", (None, HALF, HALF, "bicubic")),
        ("dinov3", (None, IMAGENET_MEAN, IMAGENET_STD, "bilinear")),
        ("dinov2", (592, IMAGENET_MEAN, IMAGENET_STD, "bicubic")),
        ("deit", (592, IMAGENET_MEAN, IMAGENET_STD, "bicubic", False)),
    ],
)
def test_transformers_without_a_config(kind, expected, caplog):
    assert transformers({}, kind, 518) == Preprocessing((518, 518), *expected)
    assert "FILE has no preprocessor_config.json; what published models of its kind have is taken" in caplog.text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": {"shortest_edge": 256}}, ((224, 224), 256)),
        ({"size": {"shortest_edge": 200}, "do_center_crop": True, "crop_size": 224}, ((224, 224), 224)),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 192, "width": 224}},
            ((192, 224), 256),
        ),
        ({"size": {"max_height": 300, "max_width": 200}}, ((224, 224), None)),
        ({"do_resize": False}, ((224, 224), None)),
        ({"do_pad": True}, ((224, 224), None)),
    ],
)  # fmt: skip
def test_what_transformers_makes_and_we_do_not_is_said(config, expected, caplog):
    found = transformers(config)
    assert (found.size, found.shorter_side) == expected
    assert "what preprocessor_config.json beside FILE says of the size can't be had here" in caplog.text


@pytest.mark.parametrize("value", ["x", -1, 0, [], {}, [1, "a", 2], True, 1e400, {"height": "x", "width": 1}])
def test_values_of_another_kind(value):
    """A wrong value in the settings raises a UserError, or gives a preprocessing that is valid."""
    both = {
        timm: ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std"),
        transformers: ("size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "do_center_crop"),
    }
    for read, key in ((read, key) for read, keys in both.items() for key in keys):
        with contextlib.suppress(UserError):
            assert read({"do_center_crop": True, "crop_mode": "center", key: value}).size > (0, 0)


def test_values_that_can_not_be():
    with pytest.raises(UserError, match="beside FILE can't be used: resample is 'cubic'; it can be 0 .nearest., 1 "):
        transformers({"resample": "cubic"})
    with pytest.raises(UserError, match="beside FILE can't be used: interpolation is 'random'; it can be nearest"):
        timm({"interpolation": "random"})
    with pytest.raises(UserError, match="pretrained_cfg beside FILE can't be understood .*; mend it"):
        timm({"crop_pct": "x"})


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"height": 32.7, "width": 32}}, {"size": {"height": "32", "width": "32"}}, {"image_mean": "123"},
        {"resample": True}, {"do_rescale": "x"}, {"rescale_factor": "1e-2"}, {"size": {"height": 10**30, "width": 9}},
    ],
)  # fmt: skip
def test_transformers_values_have_types(config):
    with pytest.raises(UserError, match="preprocessor_config.json beside FILE can't be"):
        transformers(config)
