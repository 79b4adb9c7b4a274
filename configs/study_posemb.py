"""Compare position embeddings (Table 8 of 2010.11929).

    pip install '.[mnist]' -c constraints.txt
    python -m vit_jax.study --config=configs/study_posemb.py --workdir=/tmp/posemb

These 27 runs train the small ViT of `mnist5k.py` on 4,000 MNIST digits, without augmentation, with three seeds: without
position embeddings; with the learned 1-D and 2-D tables, each added before the first layer (`stem`), in each layer with
a table of its own (`layers`) or in each layer with the same table (`shared`); and with relative positions in the
layers, of their own or shared. They are tested on the other 1,000 images. The argument `tiny` makes 4 short runs.

Result: table.md. The paper publishes these ImageNet 5-shot accuracies of B/16, pre-trained on JFT-300M: none 61.4 %,
1-D 64.2 %, 2-D 64.0 % and relative 64.0 % at the stem; where the embeddings are added makes a difference of 0.3 % at
most.

Hardware: two CPU cores. Time: `tiny` took 3 minutes on a busy machine; the 27 runs we have not measured. Expect from
`tiny` about 84 % with the 1-D and 2-D tables and less than 60 % without positions; its runs are too short for relative
positions, which reach 59 %.

    python -m vit_jax.study --config=configs/study_posemb.py:imagenet2012 --workdir=gs://BUCKET/posemb

On a pod, this does the same with B/16 and the recipe of `pretrain.py`, with one seed. We have not measured it.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.errors import UserError
from vit_jax.studies import Measure, Study, Training, run_at

# The config that the runs start from, by the study's arguments.
BASES = {"": "mnist5k.py:held_out", "tiny": "mnist5k.py:tiny", "imagenet2012": "pretrain.py:B/16,imagenet2012"}
# The words for the table, and the values of model.posemb and model.posemb_at.
KINDS = {"none": "none", "1-D": "learned", "2-D": "learned2d", "relative": "relative"}
PLACES = ("stem", "layers", "shared")


def get_study(arguments: str = "") -> Study:
    if arguments not in BASES:
        raise UserError(f"study_posemb.py can't read {arguments!r}; it takes tiny, imagenet2012 or nothing")
    cases = [("none", "stem"), *((kind, at) for kind in ("1-D", "2-D") for at in PLACES)]
    cases += [("relative", at) for at in PLACES[1:]]
    if arguments == "tiny":
        cases = [("none", "stem"), *((kind, "layers") for kind in ("1-D", "2-D", "relative"))]
    runs = [
        run_at(
            {"positions": kind, "at": at if kind != "none" else "nowhere", "seed": seed},
            Training("train", _config(arguments, kind, at, seed)),
        )
        for seed in range(1 if arguments else 3)
        for kind, at in cases
    ]
    held_out = "validation" if arguments == "imagenet2012" else "test"
    measure = Measure("accuracy", "train", f"{held_out}/accuracy")
    return Study(f"posemb{arguments and '_' + arguments}", tuple(runs), (measure,))


def _config(arguments: str, kind: str, at: str, seed: int) -> config_lib.Section:
    config = config_file.section(f"configs/{BASES[arguments]}")
    if kind == "none":
        config.model.posemb_std = None  # which belongs to tables
    config.seed = seed
    config.model.posemb, config.model.posemb_at = KINDS[kind], at
    return config
