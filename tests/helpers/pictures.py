"""Images for tests of augmentation: not noise, but with edges, smooth parts and different histograms."""

import numpy as np
from PIL import Image
from sklearn import datasets


def pictures(count: int, height: int, width_px: int) -> np.ndarray:
    """Returns uint8 images (count, height, width_px, 3): enlarged digits, tinted, over a gradient."""
    digits = datasets.load_digits().images[:count] * (255 / 16)
    across = np.linspace(0, 1, width_px)[None, :, None] * np.ones((height, 1, 3))
    made = []
    for number, digit in enumerate(digits):
        large = np.asarray(Image.fromarray(digit.astype(np.uint8)).resize((width_px, height), Image.Resampling.BICUBIC))
        tint = np.random.default_rng(number).uniform(0.2, 1, 3)
        made.append(np.clip(20 + number + large[..., None] * tint * 0.7 + 60 * across, 0, 255 - 3 * number))
    return np.stack(made).astype(np.uint8)
