"""Reads and writes preprocessing as timm's `pretrained_cfg` and as transformers' `preprocessor_config.json`."""

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from vit_jax.checkpoints.formats.base import About, understood
from vit_jax.errors import UserError
from vit_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, VitArchitecture
from vit_jax.values import as_type

_LOG = logging.getLogger(__name__)
# The defaults of timm's `PretrainedCfg`.
_TIMM = {
    "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
    "mean": IMAGENET_MEAN, "std": IMAGENET_STD,
}  # fmt: skip
# What timm's published models of a kind have instead of these defaults.
_TIMM_OF_KIND: dict[str, dict[str, Any]] = {
    "vit": {"crop_pct": 0.9, "mean": (0.5,) * 3, "std": (0.5,) * 3},
    "deit": {"crop_pct": 0.9},
    "dinov3": {"crop_pct": 1.0},
}
# The defaults of transformers' image processors. The keys are their names without `ImageProcessor` or
# `FeatureExtractor`.
_HALF = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711), "resample": 3,
    "size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224,
}  # fmt: skip
_PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": {**_HALF, "resample": 2, "size": 224},
    "DeiT": {**_HALF, "resample": 3, "size": 256, "do_center_crop": True, "crop_size": 224},
    "Siglip": {**_HALF, "resample": 3, "size": 224},
    "DINOv3ViT": {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "resample": 2, "size": 224},
    "Bit": _CLIP,
    "CLIP": _CLIP,
}
_OF_KIND = {"vit": "ViT", "deit": "DeiT", "dinov2": "Bit", "dinov3": "DINOv3ViT", "siglip": "Siglip"}
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers


def from_timm(about: About, arch: VitArchitecture, kind: str) -> Preprocessing:
    """Returns the preprocessing that timm uses for evaluation, from `pretrained_cfg` in config.json.

    timm resizes the shorter side of an image to that of the model's input divided by `crop_pct`, rounded down, and
    crops the centre. With `crop_mode=squash` it instead resizes both sides, whatever the aspect ratio.
    `crop_mode=border` pads images in timm; it is read as `squash` here, with a warning.

    Missing keys have the defaults of timm's `PretrainedCfg`: bicubic, crop_pct=0.875, ImageNet's mean and standard
    deviation. If config.json has no such keys at all, a warning says so, and the defaults of timm's models of
    this kind are used: bicubic; vit crop_pct=0.9, mean and standard deviation 0.5; deit crop_pct=0.9; dinov3
    crop_pct=1.

    Args:
        about: the file's name and its config.json.
        arch: the architecture; its image size is used if config.json has none.
        kind: vit, deit or dinov3.

    Raises:
        UserError: a value has another type than in timm.
    """
    # timm before 0.9 wrote these keys at the top level of config.json.
    config = about.config.get("pretrained_cfg", about.config) or {}
    settings: dict[str, Any] = {**_TIMM, "input_size": (3, *arch.image_size)}
    if not config:
        settings |= _TIMM_OF_KIND[kind]
        _LOG.warning("%s has no config.json that says its preprocessing; timm's default for a ViT is taken", about.name)
    settings |= {key: config[key] for key in settings if config.get(key) is not None}
    with understood(about.name, "pretrained_cfg"):
        size, mode = _both(settings["input_size"][1:]), settings["crop_mode"]
        crop_pct = as_type(float, settings["crop_pct"])
        if mode not in ("center", "squash", "border"):
            raise UserError(f"crop_mode is {mode!r}; it can be center, squash or border")
        if mode == "border":
            _LOG.warning("%s has crop_mode=border, which pads images; they are resized whole here", about.name)
            mode = "squash"
        side: int | None = math.floor(min(size) / crop_pct)
        if mode == "squash" and side == min(size):
            side = None
        mean, std = _channels(settings["mean"]), _channels(settings["std"])
        keep_aspect = mode == "center" or side is None
        return Preprocessing(size, side, mean, std, settings["interpolation"], keep_aspect)


def to_timm(preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns timm's `pretrained_cfg` for a preprocessing.

    Its `crop_pct` is adjusted until timm, which rounds down, computes exactly `preprocessing.shorter_side` from it.
    """
    _warn_of_aliasing("timm", preprocessing)
    shortest, side = min(preprocessing.size), preprocessing.shorter_side
    crop_pct = shortest / side if side else 1.0
    while side and math.floor(shortest / crop_pct) < side:
        crop_pct = math.nextafter(crop_pct, 0)
    return {
        "input_size": [3, *preprocessing.size],
        "interpolation": preprocessing.interpolation,
        "crop_pct": crop_pct,
        "crop_mode": "center" if side and preprocessing.keep_aspect else "squash",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


def from_transformers(about: About, kind: str, arch: VitArchitecture) -> Preprocessing:
    """Returns the preprocessing that `preprocessor_config.json` describes.

    Missing keys have the defaults of the image processor that the file names. If there is no such file, a warning says
    so, and the preprocessing is that of the published models of this kind:

    - ViT resizes the whole image, bilinear.
    - DINOv3 resizes the whole image, bilinear, with ImageNet's mean and standard deviation.
    - SigLIP resizes the whole image, bicubic.
    - DINOv2 and DeiT resize, bicubic, to 256 / 224 of the image size and crop the centre, with ImageNet's mean and
      standard deviation. DINOv2 keeps the aspect ratio, DeiT does not.

    A warning is also logged if the file asks for resizing that this package can't do exactly.

    Args:
        about: the file's name and its `preprocessor_config.json`.
        kind: the kind of model: vit, deit, dinov2, dinov3 or siglip.
        arch: the architecture.

    Raises:
        UserError: a value has another type than in transformers.
    """
    config, size = about.preprocessor, arch.image_size
    if not config:
        _LOG.warning("%s has no preprocessor_config.json; what published models of its kind have is taken", about.name)
        if kind in ("vit", "siglip"):
            return Preprocessing(size, interpolation="bilinear" if kind == "vit" else "bicubic")
        if kind == "dinov3":
            return Preprocessing(size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        published = min(size) * 256 // 224
        return Preprocessing(size, published, IMAGENET_MEAN, IMAGENET_STD, "bicubic", keep_aspect=kind == "dinov2")
    with understood(about.name, "preprocessor_config.json"):
        named = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
        named = re.sub(r"(ImageProcessor|FeatureExtractor).*", "", named)
        defaults = _PROCESSORS[named if named in _PROCESSORS else _OF_KIND[kind]]
        settings = {**defaults, **{key: value for key, value in config.items() if value is not None}}
        wrong = [key for key, value in settings.items() if key.startswith("do_") and not isinstance(value, bool)]
        if wrong or isinstance(settings["resample"], bool):
            key = wrong[0] if wrong else "resample"
            raise UserError(f"{key} is {settings[key]!r}, which is none of its values")
        rescaled, normalized = settings.get("do_rescale", True), settings.get("do_normalize", True)
        scale = 255 * as_type(float, settings.get("rescale_factor", 1 / 255)) if rescaled else 255.0
        mean = _channels(settings["image_mean"] if normalized else (0.0, 0.0, 0.0), scale)
        std = _channels(settings["image_std"] if normalized else (1.0, 1.0, 1.0), scale)
        if settings["resample"] not in _RESAMPLE:
            known = ", ".join(f"{number} ({name})" for number, name in sorted(_RESAMPLE.items()))
            raise UserError(f"resample is {settings['resample']!r}; it can be {known}")
        size, side, keep_aspect, exact = _geometry(settings, named in ("Bit", "CLIP"), arch.image_size)
        if not exact:
            _LOG.warning(
                "what preprocessor_config.json beside %s says of the size can't be had here; images are %s",
                about.name,
                f"resized to a shorter side of {side} and cropped to {size}" if side else f"resized to {size}",
            )
        return Preprocessing(size, side, mean, std, _RESAMPLE[settings["resample"]], keep_aspect)


def _channels(values: Any, scale: float = 1.0) -> tuple[float, float, float]:
    red, green, blue = (as_type(float, value) / scale for value in values)
    return red, green, blue


def _geometry(
    settings: Mapping[str, Any], edge: bool, image_size: tuple[int, int]
) -> tuple[tuple[int, int], int | None, bool, bool]:
    """Returns `size`, `shorter_side` and `keep_aspect` of a `Preprocessing`, and whether they are exact.

    They are not exact if transformers, with the same settings, does something that a `Preprocessing` can't express. For
    example, it does not resize, pads, limits the longest edge, or keeps the aspect ratio without a crop.

    Args:
        settings: the content of preprocessor_config.json with defaults filled in.
        edge: whether a size of one number is the length of the shortest edge. If False, it is that of both sides.
        image_size: the model's image size, used if the settings do not determine the size.
    """
    size, crop = settings["size"], settings.get("crop_size") if settings.get("do_center_crop") else None
    if isinstance(size, int) and edge:
        size = {"shortest_edge": size}
    exact = settings.get("do_resize", True) and not settings.get("do_pad")
    target = image_size if crop is None else _both(crop)
    if isinstance(size, Mapping) and "shortest_edge" in size:
        side = max(size["shortest_edge"], min(target))
        exact = exact and crop is not None and target[0] == target[1] and size == {"shortest_edge": side}
        return target, side, True, exact
    if isinstance(size, Mapping) and "height" not in size:
        return target, None, True, False
    whole = _both(size)
    if crop is None or whole == target:
        return whole, None, True, exact
    side = max(min(whole), min(target))
    return target, side, False, exact and whole == tuple(edge * side // min(target) for edge in target)


def _both(size: Any) -> tuple[int, int]:
    """Returns (height, width) from one number, from a pair, or from a mapping with `height` and `width`."""
    if isinstance(size, int):
        return size, size
    height, width_px = (size["height"], size["width"]) if isinstance(size, Mapping) else size
    return as_type(int, height), as_type(int, width_px)


def to_transformers(preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns the content of `preprocessor_config.json` for a preprocessing.

    transformers can't resize an image to cover a box that is not square and keep the image's aspect ratio. If the
    preprocessing does that, the result is only near to it, and a warning says so. Another warning is logged if the
    preprocessing does not reduce aliasing, which transformers always does.
    """
    _warn_of_aliasing("transformers", preprocessing)
    height, width_px = preprocessing.size
    side = preprocessing.shorter_side
    config: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "resample": next(number for number, name in _RESAMPLE.items() if name == preprocessing.interpolation),
        "size": {"height": height, "width": width_px},
    }
    if side is None:
        return config
    config |= {"do_center_crop": True, "crop_size": config["size"]}
    if not preprocessing.keep_aspect:
        box = {key: edge * side // min(height, width_px) for key, edge in config["crop_size"].items()}
        return {**config, "image_processor_type": "DeiTImageProcessor", "size": box}
    if height != width_px:
        _LOG.warning(
            "transformers can't resize images to cover %dx%d pixels and keep their aspect ratio; it resizes them to "
            "another size than this model does, before both crop them",
            height,
            width_px,
        )
    return {
        **config,
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": max(side, height, width_px)},
    }


def _warn_of_aliasing(library: str, preprocessing: Preprocessing) -> None:
    if not preprocessing.antialias:
        _LOG.warning("%s reduces aliasing where it makes images smaller, and this model was trained without", library)
