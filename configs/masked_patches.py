"""Train a ViT without labels by masked patch prediction (2010.11929, section 4.6 and appendix B.1.2).

    python -m vit_jax.main --config=configs/masked_patches.py:B/16,imagenet2012 --workdir=gs://BUCKET/masked
    python -m vit_jax.main --config=configs/transfer.py:B/16,imagenet2012 --config.init_from=gs://BUCKET/masked \
        --workdir=gs://BUCKET/tuned

Half of each image's patches are corrupted, and their mean colours, of 512, are predicted. The first command leaves a
model without a head, which the second one fine-tunes with labels. `--config.task.target` chooses the paper's other
targets: `downsized` (the colours of 4x4 parts of a patch) and `pixels`.

Arguments: `masked_patches.py:VARIANT,DATASET`. VARIANT is a size and a patch size, such as B/16 or L/16, a hybrid such
as R50+B/16, or Mixer-B/16. DATASET is imagenet2012, imagenet21k or jft300m, which `pretrain.py` describes.

From the paper: Adam with a learning rate of 2e-4, a warm-up of 10,000 steps, the cosine decay, batches of 4096 images,
and a million steps (14 epochs) on JFT-300M. Ours, because the paper does not state them: no weight decay, no dropout,
Inception crops and flips, and 100,000 steps on the two smaller data sets.

Hardware and time: 3 to 4 hours on a TPU v3-128 for 100,000 steps of B/16, and ten times that for jft300m. This is an
estimate, by the operations of the model and the 27 TFLOP/s per core that `pretrain.py` takes. Published: 79.9 % on
ImageNet for B/16 after JFT-300M and fine-tuning, 2 points above training from scratch and 4 points below supervised
pre-training. We have not measured it.

`masked_patches.py:digits` and `masked_patches.py:mnist5k` are small:

    python -m vit_jax.main --config=configs/masked_patches.py:digits --workdir=/tmp/masked
    python -m vit_jax.main --config=configs/few_labels.py:2 --config.init_from=/tmp/masked --workdir=/tmp/few

Hardware: two CPU cores. Time: about two minutes. Expect (measured): on 1,500 of scikit-learn's digits without their
labels, the training loss falls from 5.8 at step 10 to 0.78. On the 297 test images the loss is 0.70, and 70 % of the
colours are right, where 39 % of the patches are black. `mnist5k`, which trains on the 5,000 images of `mnist5k.py`,
ends at a training loss of 0.62, and with 49 % of the colours of the same test images right.

The small model gains nothing from it. Fine-tuned on 2 labels per class, it has these accuracies in %, means and
standard deviations of the seeds 0 to 4, where `few_labels.py:2,scratch` has 72.9 ± 3.1:

- `digits`: 69.4 ± 4.0 by `few_labels.py:2`, and 72.7 ± 1.9 with as many steps as from scratch and their learning rate,
  `--config.total_steps=1200 --config.optimizer.learning_rate=2e-3`;
- `mnist5k`: 72.4 ± 4.3 by `few_labels.py:2`, which by its docstring has 83.3 % after pre-training with labels.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.errors import UserError

STEPS = {"imagenet2012": 100_000, "imagenet21k": 100_000, "jft300m": 1_000_000}
SMALL = {"digits": "train", "mnist5k": "train+test"}  # the split that is trained on


def get_config(arguments: str = "") -> config_lib.Section:
    variant, _, dataset = (part.strip() for part in arguments.partition(","))
    if arguments in SMALL:
        config = _small(arguments)
    elif variant and dataset in STEPS:
        config = _large(variant, dataset)
    else:
        raise UserError(
            f"masked_patches.py takes a model and a data set, such as masked_patches.py:B/16,imagenet2012, and got "
            f"{arguments!r}; the data sets are {', '.join(STEPS)}, and {' and '.join(SMALL)} stand alone"
        )
    config.task = config_lib.default().task
    config.task.name = "masked_patches"
    config.data.max_labels = 0
    config.model.num_classes = 0  # no head: the task has a decoder of its own, which the saved model lacks
    return config


def _large(variant: str, dataset: str) -> config_lib.Section:
    """Returns a config with the images and the model of `pretrain.py`, but for what belongs to its head."""
    config = config_file.section(f"configs/pretrain.py:{variant},{dataset}")
    config.total_steps = STEPS[dataset]
    config.global_batch_size = 4096

    config.model.dropout = config.model.pre_logits = None
    config.model.head_bias = 0.0

    config.optimizer = config_lib.default().optimizer
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-4
    config.schedule.name = "cosine"
    config.schedule.end_learning_rate = 0.0
    config.schedule.warmup_steps = 10_000
    return config


def _small(dataset: str) -> config_lib.Section:
    """Returns a config with the model, the augmentation and the optimizer of `mnist5k.py`."""
    config = config_file.section("configs/mnist5k.py")
    config.total_steps = 1000

    config.data.name = dataset
    config.data.split = SMALL[dataset]

    del config.evaluations["digits"]
    config.evaluations.test = config_lib.evaluation(name="digits", split="test", every_percent=20.0)
    return config
