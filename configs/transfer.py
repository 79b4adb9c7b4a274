"""Fine-tune pre-trained weights, with the settings of Table 4 of "An Image is Worth 16x16 Words" (2010.11929).

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar10 --config.init_from=ViT-B_16.npz --workdir=/tmp/b16

`transfer.py:VARIANT,DATASET`: VARIANT is that of the weights, such as B/16, R50+L/32 or BiT-R101x3; DATASET is one of
imagenet2012, cifar10, cifar100, oxford_iiit_pet, oxford_flowers102, or `folder:DIR` for images of your own (below).
`--config.init_from` is a checkpoint of any format that the README lists, a run's folder, or `augreg:B/16` for the
recommended public one; without it the run starts from scratch, which these settings are not meant for. The head is
replaced by a new one, the position embeddings are resampled to 384 px, and what else the config leaves open (pooling,
GELU, mean and deviation of the images) is the checkpoint's.

Expect, from the published ImageNet-21k checkpoints (%, published, not measured by us):

            CIFAR-10   CIFAR-100   ImageNet
    B/16       99.02       92.06      84.53
    B/32       98.88       92.31      81.66
    L/16       99.13       92.91      84.47
    L/32       99.06       93.29      81.89

B/16 on CIFAR-10 reaches 98.59 in 500 steps: `--config.total_steps=500 --config.schedule.warmup_steps=100`.

Hardware and time: not measured by us yet; `vit_jax.plan` estimates both for any TPU slice. Where the batch does not
fit, `--config.accumulation_steps=16` splits it and `--config.model.remat=full` saves memory for time; neither changes
what is learned.

Own images, DIR/{train,test}/CLASS/* or DIR/CLASS/* (a tenth is then held out and tested on; see `folder.py`):

    python -m vit_jax.main --config=configs/transfer.py:B/16,folder:DIR --config.init_from=ViT-B_16.npz \
        --workdir=/tmp/own

It trains for 500 steps of 512 images, as for Pets and Flowers. This suits up to some 20,000 training images; for more,
set `--config.total_steps=10000 --config.schedule.warmup_steps=500`, and 20000 steps beyond half a million (BiT's rule,
arXiv:1912.11370). `--config.total_epochs=10 --config.schedule.warmup_percent=10` counts in epochs instead. Hardware,
time and the result to expect depend on the images, and are not measured by us.

The learning rate matters. The paper tries these and keeps the best on images held out from training: ImageNet .003 .01
.03 .06 (1 % held out), CIFAR .001 .003 .01 .03 (2 %), Pets and Flowers .001 .003 .01 .03 (10 %). The default is the
third. To choose as the paper does, then train again on all images:

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar100 --config.init_from=ViT-B_16.npz \
        --config.optimizer.learning_rate=0.003 --config.data.split='train[:98%]' \
        --config.evaluations.test.split='train[98%:]' --workdir=/tmp/b16_lr003

The ImageNet figures of the paper's Table 2 are at 512 px (518 for patch 14), averaged:
`--config.model.image_size=512 --config.optimizer.average=0.9999`.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError

# Steps, warm-up steps (those of the public code; the paper doesn't say), learning rate, and the split evaluated.
SETTINGS = {
    "imagenet2012": (20_000, 500, 0.03, "validation"),
    "cifar10": (10_000, 500, 0.01, "test"),
    "cifar100": (10_000, 500, 0.01, "test"),
    "oxford_iiit_pet": (500, 100, 0.01, "test"),
    "oxford_flowers102": (500, 100, 0.01, "test"),
    "folder": (500, 100, 0.01, "test"),
}


def get_config(arguments: str = "") -> config_lib.Section:
    variant, _, data = (part.strip() for part in arguments.partition(","))
    dataset, _, folder = data.partition(":")
    if not variant or dataset not in SETTINGS or (dataset == "folder") != bool(folder):
        raise UserError(
            f"transfer.py takes a model and a data set, such as transfer.py:B/16,cifar10, and got {arguments!r}; "
            f"the data sets are {', '.join(SETTINGS)}:DIR"
        )
    steps, warmup_steps, learning_rate, held_out = SETTINGS[dataset]

    config = config_lib.default()
    config.total_steps = steps
    config.global_batch_size = 512

    config.data.name = dataset
    if folder:
        config.data.data_dir = folder
    config.data.split = "train"
    config.data.crop = "inception"
    config.augmentation.flip = True

    # The whole image, resized, as in the paper's public code, whatever the checkpoint says; the rest is as it says.
    config.preprocessing.shorter_side = 0

    config.model.name = variant
    config.model.image_size = 384
    config.model.dtype = "bfloat16"

    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.moment_dtype = "bfloat16"
    config.optimizer.learning_rate = learning_rate
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_steps = warmup_steps

    config.evaluations[held_out] = config_lib.evaluation(split=held_out, every_percent=10.0)
    config.checkpoint.every_percent = 10.0
    return config
