"""Train a plain ViT-S/16 on ImageNet as "Better plain ViT baselines for ImageNet-1k" does (2205.01580).

    python -m vit_jax.main --config=configs/vit_s16_baseline.py --workdir=gs://BUCKET/s16
    python -m vit_jax.main --config=configs/vit_s16_baseline.py:300,real,v2 --workdir=gs://BUCKET/s16_300

Arguments: `vit_s16_baseline.py:EPOCHS,OPTION,…`. EPOCHS is 90 (the default), 150 or 300, for which results are
published. The options `real` and `v2` also evaluate on ImageNet ReaL and ImageNet-v2, which `transfer.py` describes.

In comparison with the paper's ImageNet runs (`pretrain.py`), the batch is 1,024 images instead of 4,096, the position
embeddings are fixed sines and cosines, the head reads the average of the patches, and there is RandAugment (2 layers,
magnitude 10) and mixup (0.2) in place of dropout. big_vision gives the weight decay as 1e-4 without the learning rate,
1e-3, which is 0.1 here. Like the paper, the run trains on 99 % of the training images. The rest are `held_out`, to
choose settings on; `validation` are the 50,000 images that results are published for. Both are resized to a shorter
side of 256 pixels, of which the centre, 224 x 224, is cropped.

Published accuracy on `validation`: 76.5 % after 90 epochs and 80.0 % after 300. We have not measured it.

Hardware and time: published are 6 to 7 hours for 90 epochs on a TPU v3-8. We have not measured it.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.data import levels
from vit_jax.data.catalog import IMAGENET_TESTS
from vit_jax.errors import UserError

EPOCHS = ("90", "150", "300")


def get_config(arguments: str = "") -> config_lib.Section:
    epochs, *options = (part.strip() for part in (arguments or "90").split(","))
    if epochs not in EPOCHS:
        raise UserError(
            f"vit_s16_baseline.py can't read the epochs {epochs!r}; it takes {', '.join(EPOCHS)}, such as "
            "vit_s16_baseline.py:90,real"
        )
    config_file.check_options("vit_s16_baseline.py", arguments, options, tuple(IMAGENET_TESTS), "it")
    config = config_file.section(",".join(["configs/pretrain.py:S/16,imagenet2012", *options]))
    config.total_epochs = float(epochs)
    config.global_batch_size = 1024

    config.data.split = "train[:99%]"
    config.augmentation.update(levels.augreg("light2"))
    config.preprocessing.shorter_side = 256

    config.model.dropout = 0.0
    config.model.posemb = "sincos2d"
    config.model.pool = "gap"
    config.model.pre_logits = 384  # the width of S/16

    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.moment_dtype = "bfloat16"

    config.evaluations.held_out = config_lib.evaluation(split="train[99%:]", every_percent=5.0)
    return config
