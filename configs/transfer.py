"""Fine-tune pre-trained weights, with the settings of Table 4 of "An Image is Worth 16x16 Words" (2010.11929).

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar10 --config.init_from=ViT-B_16.npz --workdir=/tmp/b16

Arguments: `transfer.py:VARIANT,DATASET`. VARIANT is the variant of the weights, such as B/16, R50+L/32 or BiT-R101x3.
DATASET is one of imagenet2012, cifar10, cifar100, oxford_iiit_pet, oxford_flowers102, or `folder:DIR` for your own
images (see below).

`--config.init_from` is a checkpoint of any format that the README lists, a run's folder, or `augreg:B/16` for the
recommended public checkpoint. Without it the run starts from scratch, for which these settings are not meant. The model
gets a new head, and the position embeddings are resampled to images of 384 px. What the config does not set (pooling,
the kind of GELU, mean and standard deviation of the images) is taken from the checkpoint.

Expect, from the published ImageNet-21k checkpoints (accuracy in %, published; we have not measured it):

            CIFAR-10   CIFAR-100   ImageNet
    B/16       99.02       92.06      84.53
    B/32       98.88       92.31      81.66
    L/16       99.13       92.91      84.47
    L/32       99.06       93.29      81.89

B/16 on CIFAR-10 reaches 98.59 % in 500 steps: `--config.total_steps=500 --config.schedule.warmup_steps=100`.

Hardware and time: we have not measured these; `vit_jax.plan` estimates the time for any TPU slice. If the batch does
not fit into the memory, `--config.accumulation_steps=16` splits it, and `--config.model.remat=full` needs less memory
and more time. Neither changes what is learned.

Your own images lie in DIR/{train,test}/CLASS/*, or in DIR/CLASS/*, of which a tenth is then used for tests (see
`folder.py`):

    python -m vit_jax.main --config=configs/transfer.py:B/16,folder:DIR --config.init_from=ViT-B_16.npz \
        --workdir=/tmp/own

This trains for 500 steps of 512 images, as for Pets and Flowers, which is enough for up to about 20,000 training
images. For more images, set `--config.total_steps=10000 --config.schedule.warmup_steps=500`, and for more than half a
million, 20000 steps (the rule of BiT, arXiv:1912.11370). `--config.total_epochs=10 --config.schedule.warmup_percent=10`
sets the length in epochs instead. Hardware, time and result depend on the images; we have not measured them.

The result depends on the learning rate. The paper tries four and keeps the one that is best on images held out from
training: for ImageNet .003, .01, .03 and .06 (1 % of the images held out), for CIFAR .001, .003, .01 and .03 (2 %), for
Pets and Flowers .001, .003, .01 and .03 (10 %). The default is the third. To choose as the paper does, run this command
with each learning rate, and then train with the best one on all images:

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar100 --config.init_from=ViT-B_16.npz \
        --config.optimizer.learning_rate=0.003 --config.data.split='train[:98%]' \
        --config.evaluations.test.split='train[98%:]' --workdir=/tmp/b16_lr003

The ImageNet results in the paper's Table 2 use images of 512 px (518 for patches of 14) and averaged weights:
`--config.model.image_size=512 --config.optimizer.average=0.9999`.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError

# Steps, warm-up steps (from the paper's public code, since the paper does not give them), learning rate, and the split
# that is evaluated.
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

    # The whole image is resized, without a crop, as in the paper's public code. This overrides the checkpoint's
    # preprocessing; the rest of it applies.
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
