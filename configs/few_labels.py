"""Fine-tune a ViT that was pre-trained on MNIST (`mnist5k.py`) on few labelled images of scikit-learn's digits.

    python -m vit_jax.main --config=configs/few_labels.py:2 --config.init_from=/tmp/mnist5k --workdir=/tmp/few

This command draws 2 images of each class from the split `train`, fine-tunes on them, and tests on all other images of
this split. The images have 24 pixels per side; the position embeddings, which were trained at 16 pixels, are resampled.
The classes are those of the pre-training, but the images have other writers, another scanner and another resolution.

    python -m vit_jax.main --config=configs/few_labels.py:2,scratch --workdir=/tmp/scratch

This command trains the same model from scratch on the same images. `--config.seed=1` draws other images.

Hardware: two CPU cores. Time: about half a minute. Expect (mean of five seeds): 74.9 % with 1 label per class, 83.3 %
with 2, 92.1 % with 5 and 94.7 % with 10. From scratch: 63.7, 73.1, 87.9 and 92.5 %, with the learning rates and numbers
of steps below.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError


def get_config(arguments: str = "2") -> config_lib.Section:
    labels, _, how = arguments.partition(",")
    if not labels.isdigit() or int(labels) < 1 or how not in ("", "scratch"):
        raise UserError(f"few_labels.py can't read {arguments!r}; write few_labels.py:LABELS or :LABELS,scratch")

    config = config_lib.default()
    # Learning rate and number of steps from scratch, for 1, 2, 5 and 10 labels: the best of several that were tried on
    # images that are not in the split `train` (see docs/transfer.md).
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
