"""Fine-tune pre-trained weights, with the settings of Table 4 of "An Image is Worth 16x16 Words" (2010.11929).

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar10 --config.init_from=ViT-B_16.npz --workdir=/tmp/b16

Arguments: `transfer.py:VARIANT,DATASET` or `transfer.py:VARIANT,DATASET,OPTION,…`. VARIANT is the variant of the
weights, such as B/16, R50+L/32 or BiT-R101x3. DATASET is one of imagenet2012, cifar10, cifar100, oxford_iiit_pet,
oxford_flowers102, a task of VTAB-1k such as vtab/clevr_count, or `folder:DIR` for your own images (see below).

`--config.init_from` is a checkpoint of any format that docs/checkpoints.md lists, a run's folder, or `augreg:B/16` for
the recommended public checkpoint. Without it the run starts from scratch, for which these settings are not meant. The
model gets a new head, and the position embeddings are resampled to images of 384 px. What the config does not set
(pooling, the kind of GELU, mean and standard deviation of the images) is taken from the checkpoint. The paper's code
resizes without a filter against aliasing, `--config.preprocessing.antialias=false`, which is also faster.

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
Pets and Flowers .001, .003, .01 and .03 (10 %). The default is the third. For your own images we try what the paper
tries for Pets and Flowers. `study_transfer.py` chooses as the paper does, and then trains on all images:

    python -m vit_jax.study --config=configs/study_transfer.py:B/16,cifar100 --config.init_from=ViT-B_16.npz \
        --workdir=/tmp/b16_cifar100

One of its trainings to choose by is a run with the option `held_out`. The images held out are not trained on but
evaluated, as `held_out/accuracy`, in place of the test images.

    python -m vit_jax.main --config=configs/transfer.py:B/16,cifar100,held_out --config.init_from=ViT-B_16.npz \
        --config.optimizer.learning_rate=0.003 --workdir=/tmp/b16_lr003

Options of your own images come before them, since the name of a folder may have commas: `B/16,held_out,folder:DIR`. The
test images are then evaluated as well, at the last step.

VTAB-1k (1910.04867) has 19 tasks with 1,000 training images each, 800 and 200 that `held_out` validates on. The paper
trains on each for 2,500 steps with the learning rate .01 and publishes their mean accuracy: 72.72 % for L/16
pre-trained on ImageNet-21k (Table 2). We have not measured it.

    python -m vit_jax.main --config=configs/transfer.py:B/16,vtab/dtd --config.init_from=ViT-B_16.npz --workdir=/tmp/dtd

    natural      vtab/ caltech101, cifar100, dtd, oxford_flowers102, oxford_iiit_pet, sun397, svhn
    specialised  vtab/ patch_camelyon, eurosat, resisc45, diabetic_retinopathy
    structured   vtab/ clevr_count, clevr_distance, dmlab, dsprites_location, dsprites_orientation, kitti_distance,
                 smallnorb_azimuth, smallnorb_elevation

Structured tasks ask where things are, so their images are neither cropped nor flipped (as in BiT, 1912.11370, section
3.3), and the digits of svhn are not flipped. The warm-up of 200 steps is our choice: VTAB's own script warms up during
8 % of its run, and the paper does not say.

ImageNet has two more options: `real` evaluates on the reassessed labels of its validation images too (2006.07159; a
prediction is right if it is one of an image's labels, and images without a label do not count), and `v2` on the new
images of ImageNet-v2, matched-frequency (1902.10811). Their accuracies are `real/accuracy` and `v2/accuracy`.

    python -m vit_jax.main --config=configs/transfer.py:B/16,imagenet2012,real,v2 --config.init_from=ViT-B_16.npz \
        --workdir=/tmp/b16_imagenet

The ImageNet results in the paper's Table 2 use images of 512 px (518 for patches of 14) and averaged weights:
`--config.model.image_size=512 --config.optimizer.average=0.9999`.
"""

from typing import NamedTuple

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.data.catalog import IMAGENET_TESTS, vtab
from vit_jax.errors import UserError


class Setting(NamedTuple):
    """How a data set is fine-tuned on, and which of its images are trained on and evaluated."""

    steps: int
    warmup_steps: int  # from the paper's public code, since the paper does not give them
    learning_rates: tuple[float, ...]  # that the paper tries
    test: str
    train: str
    kept: str  # with the option held_out, what is trained on
    held_out: str  # and what is held out
    crop: str = "inception"
    flip: bool = True


def _vtab(name: str, task: vtab.Task) -> Setting:
    whole = task.group != vtab.STRUCTURED
    crop, flip = "inception" if whole else "resize", whole and name != "svhn"
    return Setting(2_500, 200, (0.01,), "test", "train800val200", "train800", "val200", crop, flip)


LOW, HIGH = (0.001, 0.003, 0.01, 0.03), (0.003, 0.01, 0.03, 0.06)  # learning rates of Table 4
SETTINGS = {
    "imagenet2012": Setting(20_000, 500, HIGH, "validation", "train", "train[:99%]", "train[99%:]"),
    "cifar10": Setting(10_000, 500, LOW, "test", "train", "train[:98%]", "train[98%:]"),
    "cifar100": Setting(10_000, 500, LOW, "test", "train", "train[:98%]", "train[98%:]"),
    "oxford_iiit_pet": Setting(500, 100, LOW, "test", "train", "train[:90%]", "train[90%:]"),
    "oxford_flowers102": Setting(500, 100, LOW, "test", "train", "train[:90%]", "train[90%:]"),
    "folder": Setting(500, 100, LOW, "test", "train", "train[:90%]", "train[90%:]"),
    **{vtab.PREFIX + name: _vtab(name, task) for name, task in vtab.TASKS.items()},
}


def get_learning_rates(arguments: str = "") -> tuple[float, ...]:
    """Returns the learning rates that the paper tries with the data set; `study_transfer.py` asks for them."""
    return SETTINGS[_split(arguments)[1]].learning_rates


def _split(arguments: str) -> tuple[str, str, str, list[str]]:
    """Returns the model, the data set, the folder of own images, "" for other data sets, and the options.

    Raises UserError if the arguments can't be read.
    """
    named, _, folder = arguments.partition("folder:")  # whose path may have commas
    variant, *words = [part.strip() for part in named.split(",")]
    own = bool(folder) and words[-1:] == [""]
    dataset, *options = ["folder", *words[:-1]] if own else words or [""]
    if not variant or dataset not in SETTINGS or (dataset == "folder") != own:
        raise UserError(
            f"transfer.py takes a model and a data set, such as transfer.py:B/16,cifar10, and got {arguments!r}; "
            f"the data sets are {', '.join(name for name in SETTINGS if name != 'folder')} and folder:DIR"
        )
    allowed = ["held_out", *(IMAGENET_TESTS if dataset == "imagenet2012" else ())]
    config_file.check_options("transfer.py", arguments, options, allowed, dataset)
    return variant, dataset, folder, options


def get_config(arguments: str = "") -> config_lib.Section:
    variant, dataset, folder, options = _split(arguments)
    setting = SETTINGS[dataset]

    config = config_lib.default()
    config.total_steps = setting.steps
    config.global_batch_size = 512

    config.data.name = dataset
    if folder:
        config.data.data_dir = folder
    config.data.split = setting.kept if "held_out" in options else setting.train
    config.data.crop = setting.crop
    config.augmentation.flip = setting.flip

    # The whole image is resized, without a crop, as in the paper's public code. This overrides the checkpoint's
    # preprocessing; the rest of it applies.
    config.preprocessing.shorter_side = 0

    config.model.name = variant
    config.model.image_size = 384
    config.model.dtype = "bfloat16"

    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.moment_dtype = "bfloat16"
    config.optimizer.learning_rate = setting.learning_rates[:3][-1]  # the third of four
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_steps = setting.warmup_steps

    name, split = ("held_out", setting.held_out) if "held_out" in options else (setting.test, setting.test)
    config.evaluations[name] = config_lib.evaluation(split=split, every_percent=10.0)
    if folder and name == "held_out":
        # A folder without test images gives up a tenth of the others only if they are asked for: ask for them, so that
        # none is trained on or held out.
        config.evaluations.test = config_lib.evaluation(split=setting.test)
    for option in (option for option in options if option in IMAGENET_TESTS):
        config.evaluations[option] = config_lib.evaluation(**IMAGENET_TESTS[option], every_percent=10.0)
    config.checkpoint.every_percent = 10.0
    return config
