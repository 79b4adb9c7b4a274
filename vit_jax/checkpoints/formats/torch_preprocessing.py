"""How images become inputs: timm's `pretrained_cfg` and transformers' `preprocessor_config.json`, read and written."""

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
# What its published models of a kind have instead.
_TIMM_OF_KIND: dict[str, dict[str, Any]] = {
    "vit": {"crop_pct": 0.9, "mean": (0.5,) * 3, "std": (0.5,) * 3},
    "deit": {"crop_pct": 0.9},
    "dinov3": {"crop_pct": 1.0},
}
# The defaults of transformers' image processors, by their names without `ImageProcessor` or `FeatureExtractor`.
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
    """timm's evaluation: the shorter side resized to the input's over `crop_pct`, rounded down, then the centre.

    With `crop_mode=squash` the whole image is resized to both sides over `crop_pct`; `border`, which pads, is taken as
    that, with a warning. What config.json does not say has the default of timm's `PretrainedCfg`: bicubic, a crop_pct
    of 0.875, ImageNet's mean and deviation. Without any config.json the default is that of timm's models of the kind,
    which is vit (0.9 and a mean and deviation of 0.5), deit (0.9) or dinov3 (1).

    Raises:
        UserError: a value of another type than timm's.
    """
    # Before timm 0.9 the keys stood in config.json itself.
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
    """The same written: a `crop_pct` from which timm, too, finds `shorter_side`."""
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
    """From `preprocessor_config.json`; what it does not say has the default of the image processor that it names.

    Without that file it is what the kind's published models have: ViT the whole image, bilinear; DINOv3 the same with
    ImageNet's mean and deviation; SigLIP the whole image, bicubic; DINOv2 and DeiT bicubic with ImageNet's mean and
    deviation, resized to 256 / 224 of the image's size and its centre. DINOv2 keeps the aspect ratio for that and DeiT
    does not.

    Raises:
        UserError: a value of another type than transformers'.
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
    """The images' size, `shorter_side`, `keep_aspect`, and whether transformers makes the same of the settings.

    One number as the size is that of the shortest edge if `edge`, else of both sides. Without resizing, without a crop
    after one that keeps the aspect ratio, with bounds on the longest edge and with padding it makes something else.
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
    """(height, width) from one number, two, or a mapping."""
    if isinstance(size, int):
        return size, size
    height, width_px = (size["height"], size["width"]) if isinstance(size, Mapping) else size
    return as_type(int, height), as_type(int, width_px)


def to_transformers(preprocessing: Preprocessing) -> dict[str, Any]:
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
        _LOG.warning("transformers crops images of %dx%d pixels less closely than this model", height, width_px)
    return {
        **config,
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": max(side, height, width_px)},
    }
