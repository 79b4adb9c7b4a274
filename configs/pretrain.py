"""Train a ViT from scratch, with the settings of Table 3 of "An Image is Worth 16x16 Words" (2010.11929).

    python -m vit_jax.main --config=configs/pretrain.py:B/16,imagenet2012 --workdir=gs://BUCKET/b16

Arguments: `pretrain.py:VARIANT,DATASET`. VARIANT is a size and a patch size, such as S/16, B/32 or H/14, a hybrid such
as R50+B/16, or Mixer-B/16 (for BiT, see also `bit.py`). DATASET is one of the names below. The weight decay is
multiplied by the learning rate, as in the paper.

imagenet2012: 300 epochs. Published for B/16: 77.91 % on ImageNet, after fine-tuning at 384 px (Table 5). We have not
    measured it. Hardware and time: 3 to 4 hours on a TPU v3-128. This is an estimate: the run has 41 exaFLOPs, and the
    paper's Tables 2 and 6 imply 27 TFLOP/s per core for L/16. `pretrain.py:B/16,imagenet2012,real,v2` also evaluates on
    ImageNet ReaL and ImageNet-v2, which `transfer.py` describes.
imagenet21k: sigmoid loss, 90 epochs. The paper also trained L models for 30 epochs, `--config.total_epochs=30`.
    Published: B/16 84.53 % and L/16 84.47 % on ImageNet after fine-tuning with `transfer.py`; L/16 took 230 TPU v3
    core-days. We have not measured it. TFDS does not contain this data set: prepare your own under this name, with one
    split `full`. Its first 51,200 images are held out for the evaluation.
jft300m: sigmoid loss, 7 epochs (L/16 and H/14 14), also for BiT-R50x1 and other BiT models. Published: H/14 88.55 % and
    L/16 87.76 % on ImageNet, after 2,500 and 680 TPU v3 core-days. We have not measured it. The data set is not public:
    prepare your own under this name, with a split `train` and labels of the paper's 18,291 classes, or use this recipe
    for plans only.
cifar10, cifar100, oxford_iiit_pet, oxford_flowers102: the paper does not train on these from scratch, and they are so
    small that a ViT learns little from them. The settings are our own, not the paper's: those of ImageNet with a batch
    of 512, a lower learning rate, and a warm-up of 5 % of the run. We have not measured them. CIFAR's images of 32 px
    need small patches and no upsampling:

    python -m vit_jax.main --config=configs/pretrain.py:Ti/4,cifar10 --config.model.image_size=32 --workdir=/tmp/cifar

`python -m vit_jax.plan` says what a run needs before you pay for it. Large models need `--config.mesh.fsdp` and perhaps
`--config.model.remat`; the plan says which values.

In models up to L the blocks are unrolled. This takes longer to compile than a scan over the blocks, but a step is
faster: by `plan`, 68 instead of 101 ms for L/16 on a v5e:16x16. Larger models are scanned. With
`--config.model.scan=false` and `--config.mesh.fsdp=16`, a step of H/14 takes 160 ms there, by `plan`, and compiles in
two to four minutes.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.data.catalog import IMAGENET_TESTS
from vit_jax.errors import UserError

# The split that is trained on, and the one evaluated.
SPLITS = {
    "imagenet2012": ("train", "validation"),
    "imagenet21k": ("full[51200:]", "full[:51200]"),
    "jft300m": ("train", None),
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "oxford_iiit_pet": ("train", "test"),
    "oxford_flowers102": ("train", "test"),
}

# Variants whose blocks are unrolled. Larger ones take too long to compile: H/14 two to four minutes. BiT and hybrids
# were not tried.
UNROLLED = ("Ti", "S", "B", "L", "Mixer-S", "Mixer-B", "Mixer-L", "DINOv3-S", "DINOv3-S+", "DINOv3-B", "DINOv3-L")


def get_config(arguments: str = "") -> config_lib.Section:
    variant, *others = (part.strip() for part in arguments.split(","))
    dataset, *options = others or [""]
    if not variant or dataset not in SPLITS:
        raise UserError(
            f"pretrain.py takes a model and a data set, such as pretrain.py:B/16,imagenet2012, and got {arguments!r}; "
            f"the data sets are {', '.join(SPLITS)}"
        )
    allowed = tuple(IMAGENET_TESTS) if dataset == "imagenet2012" else ()
    config_file.check_options("pretrain.py", arguments, options, allowed, dataset)
    if variant.startswith("BiT") and dataset != "jft300m":
        raise UserError(f"BiT is trained in another way; take bit.py:{variant.removeprefix('BiT-')},{dataset}")
    train, held_out = SPLITS[dataset]

    config = config_lib.default()
    config.data.name = dataset
    config.data.split = train
    config.data.crop = "inception"
    config.augmentation.flip = True
    config.preprocessing.antialias = False  # as in the paper's code, in training and evaluation

    config.model.name = variant
    config.model.image_size = 224
    if not variant.startswith("BiT"):
        config.model.dropout = 0.1
    config.model.scan = variant.partition("/")[0] not in UNROLLED
    config.model.dtype = "bfloat16"

    config.optimizer.name = "adam"
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999

    if dataset == "imagenet21k":
        _imagenet21k(config)
    elif dataset == "imagenet2012":
        _imagenet(config)
    elif dataset == "jft300m":
        _jft300m(config, variant)
    else:
        _small(config)

    if held_out:
        name = "test" if held_out == "test" else "validation"
        config.evaluations[name] = config_lib.evaluation(split=held_out, every_percent=5.0)
    for option in options:
        config.evaluations[option] = config_lib.evaluation(**IMAGENET_TESTS[option], every_percent=5.0)
    return config


def _imagenet(config: config_lib.Section) -> None:
    config.total_epochs = 300
    config.global_batch_size = 4096
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.3
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_steps = 10_000


def _imagenet21k(config: config_lib.Section) -> None:
    from vit_jax.models import variants  # imported here, because it imports JAX, which is slow
    from vit_jax.models.architecture import VitArchitecture

    config.total_epochs = 90
    config.global_batch_size = 4096
    config.task.loss = "sigmoid"
    config.model.head_bias = -10.0  # at the start, the probability of each class is almost 0
    arch = variants.named(config.model.name)
    if isinstance(arch, VitArchitecture):
        config.model.pre_logits = arch.width
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.03
    config.schedule.name = "linear"
    config.schedule.end_learning_rate = 1e-5
    config.schedule.warmup_steps = 10_000


# The learning rates of Table 3 for JFT-300M. The first name applies with which the name of the variant starts.
_JFT300M = {
    "R50+ViT-L/32": 2e-4, "R50+ViT-L": 4e-4, "R50+ViT-B": 8e-4, "ViT-H": 3e-4, "ViT-L/32": 6e-4, "ViT-L": 4e-4,
    "BiT-R50": 1e-3, "BiT-R101x1": 8e-4, "BiT-R": 6e-4, "": 8e-4,
}  # fmt: skip


def _jft300m(config: config_lib.Section, variant: str) -> None:
    config.total_epochs = 14 if variant in ("L/16", "H/14") else 7
    config.global_batch_size = 4096
    config.task.loss = "sigmoid"
    config.model.head_bias = -10.0  # at the start, the probability of each class is almost 0
    if not variant.startswith("BiT"):
        config.model.dropout = 0.0
    stem, _, size = variant.rpartition("+")
    name = variant if variant.startswith(("BiT", "Mixer")) else f"{stem}+ViT-{size}".lstrip("+")
    config.optimizer.learning_rate = next(rate for start, rate in _JFT300M.items() if name.startswith(start))
    config.optimizer.weight_decay = 0.1
    config.schedule.name = "linear"
    config.schedule.end_learning_rate = 1e-5
    config.schedule.warmup_steps = 10_000


def _small(config: config_lib.Section) -> None:
    config.total_epochs = 300
    config.global_batch_size = 512
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.3
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_percent = 5.0
