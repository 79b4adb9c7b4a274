"""Draws maps over photographs."""

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

SIDE = 224  # pixels of the longer side of a drawn photograph
_STRENGTH = 0.6  # share of the map's colour in an overlay
_COLOURS = matplotlib.colormaps["inferno"]

Picture = UInt8[np.ndarray, "height width_px 3"]


def fitted(photograph: Picture, side: int = SIDE) -> Picture:
    """Returns a photograph resized until its longer side has `side` pixels. Small images keep their hard pixels."""
    height, width_px = photograph.shape[:2]
    scale = side / max(height, width_px)
    size = max(1, round(width_px * scale)), max(1, round(height * scale))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(photograph).resize(size, smooth))


def overlay(picture: Picture, values: Float[np.ndarray, "rows columns"]) -> Picture:
    """Returns a picture with a map drawn over it: the smallest value is dark, and the largest bright.

    The map is enlarged to the size of the picture bilinearly. A map that is constant, or not finite, is dark.
    """
    low, span = np.min(values), np.ptp(values)
    scaled = (values - low) / span if np.isfinite(span) and span > 0 else np.zeros_like(values)
    enlarged = Image.fromarray(scaled.astype(np.float32)).resize(picture.shape[1::-1], Image.Resampling.BILINEAR)
    colours = 255 * _COLOURS(np.asarray(enlarged))[..., :3]
    grey = picture.mean(axis=-1, keepdims=True)
    return ((1 - _STRENGTH) * grey + _STRENGTH * colours).round().astype(np.uint8)
