"""Train a small ViT on scikit-learn's digits: images of 8x8 pixels that come with scikit-learn, without a download.

    python -m vit_jax.main --config=configs/digits.py --workdir=/tmp/digits

Hardware: two CPU cores. Time: about a minute for each model. Expect (measured on one CPU; others round differently) an
accuracy on the 297 test images of 98.7 to 99.3 % with the seeds 0 to 4. With the seeds 0 and 1, `bit` has 99.3 and
100 %, `hybrid` 99.3 % twice, and `mixer` 99.0 and 99.3 %.

Arguments: `digits.py:VARIANT,CLASSES,LABELS`, in this order. Each is optional and may be left empty.
    VARIANT  a model instead of the small ViT: `hybrid`, `bit` or `mixer`, which are small, too; or a published one such
             as Ti/2, whose patch size must divide 8 pixels
    CLASSES  a range of digits such as 0-4, to pre-train on some digits and transfer to the others
    LABELS   the number of labelled images of each class to train on; the run has as many steps as with all images

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
        config.total_examples = EPOCHS * EXAMPLES  # epochs of so few images would have too few steps

    config.model.image_size = 8
    config.model.name = variant or "Ti/2"
    for key, value in SMALL.get(variant, {}).items():
        config.model[key] = value
    if not config.model.name.startswith(("BiT", "Mixer")):
        # Positions matter most in images of so few patches. With the usual standard deviation of 0.02, the model learns
        # late to tell the patches apart, if at all.
        config.model.posemb_std = 0.5
    config.model.scan = False  # on a CPU this makes a step a third faster, and few blocks compile as fast as one

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
    """Returns the variant, the classes and the labels per class: for "Ti/2,0-4,10" ("Ti/2", (0, 1, 2, 3, 4), 10).

    Arguments that are left out are "", () and 0. Raises UserError if an argument can't be read.
    """
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
