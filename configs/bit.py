"""Train BiT, the paper's ResNet baseline, from scratch, with the settings of "Big Transfer" (1912.11370, section 3.3).

    python -m vit_jax.main --config=configs/bit.py:R50x1,imagenet2012 --workdir=gs://BUCKET/r50x1

Arguments: `bit.py:NAME,DATASET`. NAME is R50x1, R50x2, R50x3, R101x1, R101x3, R152x1, R152x2, R152x4 or R200x3. DATASET
is imagenet2012 or imagenet21k.

The settings are SGD with momentum, 90 epochs, a batch of 4096 images, and a learning rate of 0.03 for each 256 images
of the batch. Two things differ from the paper. The learning rate falls along a cosine instead of in steps. The paper
adds a weight decay of 1e-4 to the gradient, inside the momentum; here it is decoupled, 1e-3 times the learning rate,
which has the same effect with a momentum of 0.9.

To fine-tune a BiT, public or your own, use `transfer.py`, as for a ViT:

    python -m vit_jax.main --config=configs/transfer.py:BiT-R50x1,cifar10 \
        --config.init_from=gs://bit_models/BiT-M-R50x1.npz --workdir=/tmp/bit

Hardware and time: big_vision publishes about 32 minutes for 90 epochs of R50x1 on ImageNet on a TPU v3-128. We have not
measured it. Large models need `--config.mesh.fsdp=8` or more and `--config.model.remat=full`.

Expect: the paper publishes, for BiT-L R152x4 pre-trained on JFT-300M (which is not public), 87.54 % on ImageNet,
99.37 % on CIFAR-10 and 93.51 % on CIFAR-100. We have measured only a small BiT, `digits.py:bit`.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError

# The split that is trained on, and the one evaluated.
SPLITS = {"imagenet2012": ("train", "validation"), "imagenet21k": ("full[51200:]", "full[:51200]")}


def get_config(arguments: str = "") -> config_lib.Section:
    name, _, dataset = (part.strip() for part in arguments.partition(","))
    if not name or dataset not in SPLITS:
        raise UserError(
            f"bit.py takes a model and a data set, such as bit.py:R50x1,imagenet2012, and got {arguments!r}; "
            f"the data sets are {', '.join(SPLITS)}"
        )
    train, held_out = SPLITS[dataset]

    config = config_lib.default()
    config.total_epochs = 90
    config.global_batch_size = 4096

    config.data.name = dataset
    config.data.split = train
    config.data.crop = "inception"
    config.augmentation.flip = True

    config.preprocessing.shorter_side = 256  # evaluations then crop the centre, 224 x 224

    config.model.name = f"BiT-{name.removeprefix('BiT-')}"
    config.model.image_size = 224
    config.model.dtype = "bfloat16"
    if dataset == "imagenet21k":
        config.task.loss = "sigmoid"  # images have several labels
        config.model.head_bias = -10.0  # at the start, the probability of each class is almost 0

    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.learning_rate = 0.03 * config.global_batch_size / 256
    config.optimizer.weight_decay = 1e-3
    config.schedule.name = "cosine"
    config.schedule.warmup_steps = 5000

    config.evaluations.validation = config_lib.evaluation(split=held_out, every_percent=5.0)
    config.checkpoint.every_percent = 5.0
    return config
