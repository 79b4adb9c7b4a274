"""Pre-train as "How to train your ViT?" does (AugReg, 2106.10270): longer, with levels of augmentation.

    python -m vit_jax.main --config=configs/augreg.py:B/16,imagenet21k,medium1 --workdir=gs://BUCKET/b16
    python -m vit_jax.main --config=configs/augreg.py:L/16,imagenet21k,medium1,regularised --workdir=gs://BUCKET/l16

Arguments: `augreg.py:VARIANT,DATASET,LEVEL` or `augreg.py:VARIANT,DATASET,LEVEL,regularised`. VARIANT is a ViT or a
hybrid, such as Ti/16, S/32, B/16, L/16 or R26+S/32. DATASET is imagenet21k or imagenet2012, as in `pretrain.py`. LEVEL
is one of seven levels of RandAugment and mixup:

                none  light1  light2  medium1  medium2  strong1  strong2
    layers         0       2       2        2        2        2        2
    magnitude      -       0      10       15       15       20       20
    mixup          0       0     0.2      0.2      0.5      0.5      0.8

`regularised` adds a dropout and a stochastic depth of 0.1. The weight decay is 0.1; the paper also tries 0.03,
`--config.optimizer.weight_decay=0.03`. All runs have 300 epochs; the paper also trains some on ImageNet-21k for 30,
`--config.total_epochs=30`. With more data or a smaller model, less augmentation and regularisation is better: of the
published files from ImageNet-21k, the recommended B/16 has the level medium1 without `regularised`, L/16 medium1 with
it, and Ti/16 none.

Fine-tune the result, or a published file, with `transfer.py`, which needs no level: the paper fine-tunes with crops and
flips alone.

    python -m vit_jax.main --config=configs/transfer.py:B/16,imagenet2012 --config.init_from=augreg:B/16 \
        --workdir=gs://BUCKET/b16_imagenet

Published for ImageNet after pre-training on ImageNet-21k and fine-tuning at 384 px: Ti/16 78.22 %, S/32 79.58, S/16
83.73, B/32 83.59, B/16 85.49 and L/16 85.59. We have not measured it.

Hardware and time: 300 epochs of ImageNet-21k with B/16 are 455 exaFLOPs, eleven times the ImageNet run of
`pretrain.py`. `python -m vit_jax.plan` estimates the time on any TPU slice. We have not measured it.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.data import levels
from vit_jax.errors import UserError

DATASETS = ("imagenet21k", "imagenet2012")


def get_config(arguments: str = "") -> config_lib.Section:
    parts = [part.strip() for part in arguments.split(",")]
    if len(parts) not in (3, 4) or parts[1] not in DATASETS or parts[3:] not in ([], ["regularised"]):
        raise UserError(
            "augreg.py takes a model, a data set, a level of augmentation and perhaps regularised, such as "
            f"augreg.py:B/16,imagenet21k,medium1, and got {arguments!r}; the data sets are {', '.join(DATASETS)}"
        )
    variant, dataset, level = parts[:3]
    if variant.startswith(("BiT", "Mixer")):
        raise UserError(f"augreg.py trains ViTs and hybrids, and {variant} is neither; take pretrain.py or bit.py")

    config = config_file.section(f"configs/pretrain.py:{variant},{dataset}")
    config.total_epochs = 300

    rate = 0.1 if parts[3:] else 0.0
    config.model.dropout = config.model.drop_path = rate
    config.model.pre_logits = None

    config.augmentation.update(levels.augreg(level))

    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.end_learning_rate = 0.0
    config.schedule.warmup_steps = 10_000
    return config
