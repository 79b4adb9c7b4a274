"""A small ViT on scikit-learn's digits: real 8x8 images that come with the package, so nothing is downloaded.

    python -m vit_jax.main --config=configs/digits.py --workdir=/tmp/digits

Hardware: two CPU cores. Time: about a minute. Expect (measured, seeds 0 to 4): 98.7 to 99.3 % of the 297 test images;
`bit` 99.0 % with each seed, `hybrid` 99.3 to 100 %, `mixer` 98.7 to 99.7 %, in about a minute each.

Arguments, all optional, in this order, blanks allowed: `digits.py:VARIANT,CLASSES,LABELS`.
    VARIANT  a model instead of the small ViT: `hybrid`, `bit` or `mixer`, as small, or a published one such as Ti/2,
             whose patches must divide 8 pixels
    CLASSES  from one digit to another, such as 0-4, to pre-train on some and transfer to the others
    LABELS   so many labelled images of each class; the run stays as long as one on all images

    python -m vit_jax.main --config=configs/digits.py:bit --workdir=/tmp/digits_bit
    python -m vit_jax.main --config=configs/digits.py:hybrid --workdir=/tmp/digits_hybrid
    python -m vit_jax.main --config=configs/digits.py:Ti/2 --workdir=/tmp/digits_ti
    python -m vit_jax.main --config=configs/digits.py:,0-4 --workdir=/tmp/low
    python -m vit_jax.main --config=configs/digits.py:,5-9,10 --config.init_from=/tmp/low --workdir=/tmp/high
"""

import re

from vit_jax import config as config_lib
from vit_jax.errors import UserError

EPOCHS, EXAMPLES = 60, 1500
# The small models, by VARIANT.
TRANSFORMER = {"width": 64, "depth": 4, "mlp_dim": 128, "num_heads": 4}
SMALL = {
    "": {"name": "Ti/2", **TRANSFORMER},
    "hybrid": {
        "name": "R+Ti/16", "image_size": 16, "patch_size": 1, "stages": (1,), "stem_width": 32,
        **TRANSFORMER, "depth": 2,
    },
    "bit": {"name": "BiT-R50x1", "image_size": 16, "stages": (1, 1), "stem_width": 32},
    "mixer": {"name": "Mixer-S/8", "patch_size": 2, "width": 64, "depth": 4, "tokens_mlp_dim": 32, "mlp_dim": 128},
}  # fmt: skip


def get_config(arguments: str = "") -> config_lib.Section:
    variant, classes, labels = _split(arguments)

    config = config_lib.default()
    config.total_epochs = EPOCHS
    config.global_batch_size = 128
    config.log_steps = 10

    config.data.name = "digits"
    if classes:
        config.data.classes = classes
    if labels:
        config.data.labels_per_class = labels
        config.total_examples = EPOCHS * EXAMPLES  # in place of the epochs, which would be few steps

    config.model.image_size = 8
    config.model.name = variant or "Ti/2"
    for key, value in SMALL.get(variant, {}).items():
        config.model[key] = value
    if not config.model.name.startswith(("BiT", "Mixer")):
        # The positions count for more than anything else here: with the usual 0.02 the patches of so small an image are
        # told apart late, if at all.
        config.model.posemb_std = 0.5
    config.model.scan = False  # on a CPU a step takes a third less unrolled, and so few blocks compile as fast

    config.augmentation.rotate_degrees = 10.0
    config.augmentation.shift_pixels = 0.5

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_percent = 10.0

    config.evaluations.test = config_lib.evaluation(split="test", every_percent=20.0)
    config.checkpoint.every_percent = 10.0
    return config


def _split(arguments: str) -> tuple[str, tuple[int, ...], int]:
    """`"Ti/2,0-4,10"` to `("Ti/2", (0, 1, 2, 3, 4), 10)`; what is left blank comes back empty."""
    variant, classes, labels, *more = [part.strip() for part in f"{arguments},,".split(",")]
    if any(more):
        raise UserError(f"digits.py:{arguments} has too many arguments; it takes digits.py:VARIANT,CLASSES,LABELS")
    if re.fullmatch(r"[\d-]+", variant):
        raise UserError(
            f"digits.py:{arguments} names {variant} as the model; leave that blank to say the classes, digits.py:,0-4, "
            "or the labels of each class, digits.py:,,10"
        )
    found = re.fullmatch(r"(\d)-(\d)", classes)
    if classes and not (found and found[1] < found[2]):
        raise UserError(f"digits.py can't read the classes {classes!r}; give the first and the last digit, such as 0-4")
    if labels and not re.fullmatch(r"[1-9]\d*", labels):
        raise UserError(f"digits.py can't read {labels!r} as the labels of each class; give a number, such as 10")
    return variant, tuple(range(int(found[1]), int(found[2]) + 1)) if found else (), int(labels or 0)
