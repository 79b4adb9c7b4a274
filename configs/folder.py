"""Train a small ViT from scratch on a folder of images, DIR/{train,test}/CLASS/* or DIR/CLASS/*.

    python -m vit_jax.main --config=configs/folder.py:DIR --workdir=/tmp/folder

Hardware: two CPU cores. Time: four minutes for 10,000 images. Expect (measured): an accuracy of 51.4 % on 2,000 test
images of CIFAR-10, after training on 1,000 images of each of its classes. A ViT from scratch needs more images or more
epochs than that; or set `--config.init_from` to a pre-trained model of the same architecture.

The test images may also lie in DIR/val, DIR/valid or DIR/validation. If there are none, or if DIR contains the folders
of the classes itself, the training images are shuffled, always in the same way, and the last tenth is not trained on
but used for tests. Every format that Pillow decodes is read. Folders inside those of the classes are read, too. To
fine-tune a checkpoint on the same folder, see `transfer.py`.

Images are resized to 32 pixels. To use larger ones, set `--config.model.image_size` and `--config.model.patch_size`.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError


def get_config(arguments: str = "") -> config_lib.Section:
    if not arguments:
        raise UserError("which folder? write configs/folder.py:DIR, with DIR/{train,test}/CLASS/* or DIR/CLASS/* in it")
    config = config_lib.default()
    config.total_epochs = 10
    config.global_batch_size = 128
    config.log_steps = 50

    config.data.name = "folder"
    config.data.data_dir = arguments

    config.model.name = "Ti/4"
    config.model.image_size = 32
    config.model.width = 64
    config.model.depth = 4
    config.model.mlp_dim = 128
    config.model.num_heads = 4
    config.model.posemb_std = 0.5
    config.model.scan = False

    config.augmentation.flip = True
    config.augmentation.shift_pixels = 3.0
    config.augmentation.rotate_degrees = 5.0

    config.task.label_smoothing = 0.1
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_percent = 10.0

    config.evaluations.test = config_lib.evaluation(split="test", every_percent=20.0)
    config.checkpoint.every_percent = 10.0
    return config
