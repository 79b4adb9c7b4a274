"""Scale the depth, the width, the MLP and the patches of a ViT, each alone and all together (Figure 8 of 2010.11929).

    pip install '.[mnist]' -c constraints.txt
    python -m vit_jax.study --config=configs/study_scaling.py --workdir=/tmp/scaling

All models start from the same small one: depth 2, width 32, an MLP of 64 and patches of 8 pixels, on 4,000 MNIST digits
of 16x16 pixels, without augmentation, with two seeds. Each of the four is scaled alone by 2 and by 4 (patches of 4 and
of 2 pixels), and all four together by 2. The models are tested on the other 1,000 images. The argument `tiny` makes 4
short runs.

Figure: accuracy_by_compute, the test accuracy against the operations of the training. The paper finds that depth gains
most, that smaller patches gain much without parameters, and that width gains least.

Hardware: two CPU cores. Time: `tiny` took 1.2 minutes on a busy machine; the 20 runs we have not measured. Expect from
`tiny` 67 % from the base, 76 % with all scaled by 2, and less with smaller patches alone, since its runs are too short.

    python -m vit_jax.study --config=configs/study_scaling.py:imagenet2012 --workdir=gs://BUCKET/scaling

On a pod, this starts from 8 layers, width 1024, an MLP of 2048 and patches of 32 pixels, as the paper does, with the
recipe of `pretrain.py` and one seed. The paper uses JFT-300M and 5-shot accuracy on ImageNet. We have not measured it.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.errors import UserError
from vit_jax.studies import Axis, Figure, Measure, Study, Training, run_at

# The config that the runs start from, by the study's arguments.
BASES = {"": "mnist5k.py:held_out", "tiny": "mnist5k.py:tiny", "imagenet2012": "pretrain.py:L/32,imagenet2012"}
BASE = "base"
# The base, and the values that each of its sizes is scaled to.
SMALL = {"depth": 2, "width": 32, "mlp_dim": 64, "patch_size": 8}, {
    "depth": (4, 8), "width": (64, 128), "mlp_dim": (128, 256), "patch_size": (4, 2),
}  # fmt: skip
LARGE = {"depth": 8, "width": 1024, "mlp_dim": 2048, "patch_size": 32}, {
    "depth": (16, 32), "width": (2048, 3072), "mlp_dim": (4096, 8192), "patch_size": (16, 14),
}  # fmt: skip


def get_study(arguments: str = "") -> Study:
    if arguments not in BASES:
        raise UserError(f"study_scaling.py can't read {arguments!r}; it takes tiny, imagenet2012 or nothing")
    base, scaled = LARGE if arguments == "imagenet2012" else SMALL
    cases = [(BASE, "1x", base)]
    cases += [(key, str(value), {**base, key: value}) for key, values in scaled.items() for value in values]
    cases.append(("all", "2x", {key: values[0] for key, values in scaled.items()}))
    if arguments == "tiny":
        cases = [
            case for case in cases if case[:2] in ((BASE, "1x"), ("depth", "4"), ("patch_size", "4"), ("all", "2x"))
        ]
    runs = [
        run_at(
            {"scaled": key, "to": value, "seed": seed},
            Training("train", _config(arguments, sizes, seed)),
        )
        for seed in range(1 if arguments else 2)
        for key, value, sizes in cases
    ]
    held_out = "validation" if arguments == "imagenet2012" else "test"
    figure = Figure(
        "accuracy_by_compute",
        Axis("exaflops", "training compute (exaFLOPs)", log=True),
        Axis("accuracy", f"{held_out} accuracy (%)", percent=True),
        lines="scaled",
        origin=BASE,
    )
    measure = Measure("accuracy", "train", f"{held_out}/accuracy")
    return Study(f"scaling{arguments and '_' + arguments}", tuple(runs), (measure,), (figure,))


def _config(arguments: str, sizes: dict[str, int], seed: int) -> config_lib.Section:
    config = config_file.section(f"configs/{BASES[arguments]}")
    config.seed = seed
    for key, value in sizes.items():
        config.model[key] = value
    return config
