"""The config of a small model with dropout and all augmentations, whose training takes about a second."""

from vit_jax import config as config_lib


def get_config() -> config_lib.Section:
    config = config_lib.default()
    config.total_steps, config.global_batch_size, config.log_steps = 12, 16, 2
    config.data.name, config.data.num_examples, config.data.num_classes = "synthetic", 64, 4
    model = config.model
    model.name, model.image_size, model.width, model.depth, model.mlp_dim, model.num_heads = "Ti/4", 8, 16, 2, 32, 2
    model.dropout, model.drop_path = 0.1, 0.1
    config.augmentation.flip, config.augmentation.rotate_degrees, config.augmentation.mixup = True, 10.0, 0.2
    config.optimizer.learning_rate, config.optimizer.average = 1e-2, 0.9
    config.evaluations.test = config_lib.evaluation(every_steps=6)
    config.checkpoint.every_steps = 3
    config.log.tensorboard = False
    return config
