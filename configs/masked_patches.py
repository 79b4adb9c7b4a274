"""Train a ViT without labels by masked patch prediction (2010.11929, section 4.6 and appendix B.1.2)."""

from vit_jax import config as config_lib


def get_config(arguments: str = "") -> config_lib.Section:
    config = config_lib.default()
    config.task.name = "masked_patches"
    config.total_steps = 1200
    config.global_batch_size = 128
    config.log_steps = 10
    config.data.name = arguments
    config.data.split = "train" if arguments == "digits" else "train+test"
    config.data.max_labels = 0

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

    config.evaluations.test = config_lib.evaluation(split="test", every_percent=20.0)
    config.log.tensorboard = False
    return config
