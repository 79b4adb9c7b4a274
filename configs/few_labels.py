"""Transfer with few labels: a ViT pre-trained on MNIST (`mnist5k.py`), fine-tuned on scikit-learn's digits.

    python -m vit_jax.main --config=configs/few_labels.py:2 --config.init_from=/tmp/mnist5k --workdir=/tmp/few

draws 2 images of each class, fine-tunes on them at 24 pixels (the positions of 16 pixels are resampled), and tests on
all others of the same split. The same classes, another corpus: other writers, another scanner, another resolution.

    python -m vit_jax.main --config=configs/few_labels.py:2,scratch --workdir=/tmp/scratch

is the same model from scratch. `--config.seed=1` draws other images.

Hardware: two CPU cores. Time: about half a minute. Expect (five seeds): 76.6 % with 1 label a class, 85.3 with 2, 93.1
with 5 and 95.2 with 10; from scratch 60.3, 74.6, 87.7 and 93.2 with the learning rate and length below.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError


def get_config(arguments: str = "2") -> config_lib.Section:
    labels, _, how = arguments.partition(",")
    if not labels.isdigit() or int(labels) < 1 or how not in ("", "scratch"):
        raise UserError(f"few_labels.py can't read {arguments!r}; write few_labels.py:LABELS or :LABELS,scratch")

    config = config_lib.default()
    # From scratch: the best of several on held-out images, for 1, 2, 5 and 10 labels (see the README).
    from_scratch = {1: (4e-3, 600), 2: (2e-3, 1200), 5: (1e-3, 600)}.get(int(labels), (4e-3, 600))
    learning_rate, steps = from_scratch if how else (1e-3, 200)
    config.total_steps = steps
    config.global_batch_size = 32
    config.log_steps = 50

    config.data.name = "digits"
    config.data.labels_per_class = int(labels)

    config.model.name = "Ti/4"
    config.model.image_size = 24
    config.model.width = 64
    config.model.depth = 4
    config.model.mlp_dim = 128
    config.model.num_heads = 4
    config.model.posemb_std = 0.5
    config.model.scan = False

    config.augmentation.rotate_degrees = 15.0
    config.augmentation.shift_pixels = 2.0

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = learning_rate
    config.optimizer.weight_decay = 0.1
    config.optimizer.grad_clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup_percent = 10.0

    config.evaluations.test = config_lib.evaluation(split="train", exclude_train=True, batch_size=128)
    config.checkpoint.every_percent = 50.0
    return config
