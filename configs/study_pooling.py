"""Compare the class token with average pooling over learning rates (Figure 9 of 2010.11929).

    pip install '.[mnist]' -c constraints.txt
    python -m vit_jax.study --config=configs/study_pooling.py --workdir=/tmp/pooling

These 24 runs train the small ViT of `mnist5k.py` on 4,000 MNIST digits, without augmentation, with the class token and
with average pooling, at four learning rates, with three seeds. They are tested on the other 1,000 images. The argument
`tiny` makes 4 short runs.

Figure: accuracy_by_learning_rate. The paper finds that the two kinds of pooling are equally good, and that average
pooling wants a lower learning rate (3e-4) than the class token (8e-4).

Hardware: two CPU cores. Time: `tiny` took under 3 minutes on a busy machine; the 24 runs we have not measured. Expect
accuracies of 62 to 85 % from `tiny`, whose runs are too short to compare the two.

    python -m vit_jax.study --config=configs/study_pooling.py:imagenet2012 --workdir=gs://BUCKET/pooling

On a pod, this does the same with B/16 and the recipe of `pretrain.py`, with one seed. The paper uses JFT-300M, which is
not public. We have not measured it.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.errors import UserError
from vit_jax.studies import Axis, Figure, Measure, Study, Training, run_at

# The config that the runs start from, by the study's arguments.
BASES = {"": "mnist5k.py:held_out", "tiny": "mnist5k.py:tiny", "imagenet2012": "pretrain.py:B/16,imagenet2012"}
POOLS = {"class token": "tok", "average": "gap"}
SMALL, LARGE = (3e-4, 1e-3, 3e-3, 1e-2), (3e-4, 8e-4, 3e-3)  # learning rates


def get_study(arguments: str = "") -> Study:
    if arguments not in BASES:
        raise UserError(f"study_pooling.py can't read {arguments!r}; it takes tiny, imagenet2012 or nothing")
    rates = LARGE if arguments == "imagenet2012" else SMALL[1:3] if arguments else SMALL
    runs = [
        run_at(
            {"pool": pool, "learning_rate": rate, "seed": seed}, Training("train", _config(arguments, pool, rate, seed))
        )
        for seed in range(1 if arguments else 3)
        for rate in rates
        for pool in POOLS
    ]
    held_out = "validation" if arguments == "imagenet2012" else "test"
    accuracy = Axis("accuracy", f"{held_out} accuracy (%)", percent=True)
    figure = Figure("accuracy_by_learning_rate", Axis("learning_rate", "learning rate", log=True), accuracy, "pool")
    measure = Measure("accuracy", "train", f"{held_out}/accuracy")
    return Study(f"pooling{arguments and '_' + arguments}", tuple(runs), (measure,), (figure,))


def _config(arguments: str, pool: str, learning_rate: float, seed: int) -> config_lib.Section:
    config = config_file.section(f"configs/{BASES[arguments]}")
    config.seed = seed
    config.model.pool = POOLS[pool]
    config.optimizer.learning_rate = learning_rate
    return config
