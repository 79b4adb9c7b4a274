"""Choose the learning rate on images held out from training, then fine-tune on all images (Table 4 of 2010.11929).

    python -m vit_jax.study --config=configs/study_transfer.py:B/16,cifar100 --config.init_from=ViT-B_16.npz \
        --workdir=/tmp/b16_cifar100

Arguments: `study_transfer.py:VARIANT,DATASET` with what `transfer.py` takes; ImageNet's options `real` and `v2` too.
For each of three seeds, the recipe of `transfer.py` trains once at each of the learning rates that the paper tries, on
the images that its option `held_out` leaves, and once more on all images at the rate with the best `held_out/accuracy`.
This last model, in runs/RUN/final/, is tested. table.md has the mean and the standard deviation of the seeds, and the
rates that were chosen.

The paper's Table 2 gives the mean of three fine-tuning runs, too. It does not say whether each run chose its rate; here
each does, by the accuracy after the last step, and of equal rates the lowest is taken. `--only=B_16-cifar100-seed0`
makes one run instead of three.

    python -m vit_jax.study --config=configs/study_transfer.py:B/16,folder:DIR --config.init_from=ViT-B_16.npz \
        --workdir=/tmp/own

This chooses for your own images; a tenth of those to train on are held out.

    python -m vit_jax.study --config=configs/study_transfer.py:L/16,vtab --config.init_from=ViT-L_16.npz \
        --workdir=/tmp/vtab

The 19 tasks of VTAB-1k have one learning rate, so nothing is chosen. The last lines of table.md are the mean over the
tasks of each group, natural, specialised and structured, and over all tasks; study.json has them for each seed, under
`means`.

Hardware: as for `transfer.py`. Time: a data set with four learning rates has 15 trainings, and VTAB has 57;
`vit_jax.plan` estimates the time of one. We have not measured them. Published (mean of three runs): L/16,
pre-trained on ImageNet-21k, 93.25 % on CIFAR-100 and 72.72 % on VTAB; more in `transfer.py`.

    python -m vit_jax.study --config=configs/study_transfer.py --workdir=/tmp/transfer_small

This small study needs no download: a small ViT is pre-trained on scikit-learn's digits 0 to 4 and fine-tuned on the
digits 5 to 9, at .01, .03, .1 and .3, with a fifth of the training images held out. Hardware: two CPU cores. Time: one
minute of CPU time, which took 4 minutes on a busy machine. Expect: 98.1, 97.5 and 93.8 % on the 160 test images with
the seeds 0, 1 and 2, at the rates .03, .3 and .3. On the 143 images held out these had 95.8, 97.2 and 98.6 %: so few
images tell rates apart poorly. With `tiny` it is one seed and two rates: 94.4 %, in half the time.
"""

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.data.catalog import IMAGENET_TESTS, vtab
from vit_jax.errors import UserError
from vit_jax.studies import Best, Measure, Study, Training, run_at

SEEDS = (0, 1, 2)
FINAL = "final"  # the stage that trains on all images
HELD_OUT = "held_out"  # the evaluation by whose accuracy a learning rate is chosen
# The small study: learning rates, seeds, and the steps of the pre-training and of each fine-tuning.
SMALL = (0.01, 0.03, 0.1, 0.3), SEEDS, 300, 100
TINY = (0.01, 0.1), SEEDS[:1], 100, 50


def get_study(arguments: str = "") -> Study:
    if arguments in ("", "tiny"):
        return _small(*(TINY if arguments else SMALL))
    variant, _, data = (part.strip() for part in arguments.partition(","))
    if not variant or not data:
        raise UserError(
            f"study_transfer.py can't read {arguments!r}; it takes VARIANT,DATASET with a data set of transfer.py, "
            "VARIANT,vtab, tiny or nothing"
        )
    return _vtab(variant) if data == "vtab" else _one(variant, data)


def _one(variant: str, data: str) -> Study:
    """Returns the study of a data set of `transfer.py`, with that file's options if `data` names some."""
    own = data.startswith("folder:")
    dataset = "folder" if own else data.partition(",")[0].strip()
    options = f"{HELD_OUT},{data}" if own else f"{dataset},{HELD_OUT}"
    evaluated = set(_recipe(f"{variant},{data}").evaluations)
    if HELD_OUT in evaluated:
        raise UserError(f"study_transfer.py holds out images of {dataset} itself; leave out the option {HELD_OUT}")
    rates = config_file.result_of(f"configs/transfer.py:{variant},{data}", "get_learning_rates")

    def stages(seed: int) -> list[Training | Best]:
        if len(rates) == 1:
            return [Training(FINAL, _recipe(f"{variant},{data}", seed))]
        kept = {_name(rate): _recipe(f"{variant},{options}", seed, rate) for rate in rates}
        whole = {_name(rate): _recipe(f"{variant},{data}", seed, rate) for rate in rates}
        return _chosen(kept, whole)

    others = sorted(evaluated & set(IMAGENET_TESTS))
    (test,) = evaluated - set(others)
    measures = Measure("accuracy", FINAL, f"{test}/accuracy"), *(Measure(o, FINAL, f"{o}/accuracy") for o in others)
    runs = [run_at({"model": variant, "data": dataset, "seed": seed}, *stages(seed)) for seed in SEEDS]
    return Study(f"transfer_{variant}_{dataset}", tuple(runs), measures)


def _vtab(variant: str) -> Study:
    """Returns the study of the 19 tasks of VTAB-1k, for which the paper has one learning rate."""
    runs = [
        run_at(
            {"model": variant, "group": task.group, "task": name, "seed": seed},
            Training(FINAL, _recipe(f"{variant},{vtab.PREFIX}{name}", seed)),
        )
        for seed in SEEDS
        for name, task in vtab.TASKS.items()
    ]
    measure = Measure("accuracy", FINAL, "test/accuracy")
    return Study(f"transfer_{variant}_vtab", tuple(runs), (measure,), means=(("task",), ("group", "task")))


def _small(rates: tuple[float, ...], seeds: tuple[int, ...], pretrain_steps: int, steps: int) -> Study:
    """Returns the study that pre-trains on the digits 0 to 4, and fine-tunes on the digits 5 to 9."""
    runs = []
    for seed in seeds:
        pretrain = config_file.section("configs/digits.py:,0-4")
        pretrain.seed, pretrain.total_steps, pretrain.log_steps = seed, pretrain_steps, 50
        pretrain.log.tensorboard, pretrain.checkpoint.every_percent, pretrain.model.depth = False, 50.0, 2
        kept = {_name(rate): _digits("train[:80%]", HELD_OUT, "train[80%:]", seed, rate, steps) for rate in rates}
        whole = {_name(rate): _digits("train", "test", "test", seed, rate, steps) for rate in rates}
        stages = Training("pretrain", pretrain), *_chosen(kept, whole, starts_from="pretrain")
        runs.append(run_at({"model": "ViT", "data": "digits 5-9", "seed": seed}, *stages))
    measures = Measure("accuracy", FINAL, "test/accuracy"), Measure("pretrain_accuracy", "pretrain", "test/accuracy")
    return Study("transfer", tuple(runs), measures)


def _chosen(
    kept: dict[str, config_lib.Section], whole: dict[str, config_lib.Section], starts_from: str = ""
) -> list[Training | Best]:
    """Returns a training for each config of `kept`, and the training of the one of `whole` whose name is the best's."""
    candidates = [Training(name, config, starts_from) for name, config in kept.items()]
    return [*candidates, Best(FINAL, whole, f"{HELD_OUT}/accuracy", starts_from=starts_from)]


def _name(rate: float) -> str:
    return f"learning_rate{rate:g}"


def _recipe(arguments: str, seed: int = 0, rate: float | None = None) -> config_lib.Section:
    config = config_file.section(f"configs/transfer.py:{arguments}")
    config.seed = seed
    if rate is not None:
        config.optimizer.learning_rate = rate
    return config


def _digits(split: str, name: str, evaluated: str, seed: int, rate: float, steps: int) -> config_lib.Section:
    config = config_file.section("configs/digits.py:,5-9")
    config.seed, config.total_steps, config.global_batch_size, config.log_steps = seed, steps, 64, 50
    config.data.split, config.model.depth = split, 2
    # As in `transfer.py`. Without random augmentation the program is the same for all seeds, and compiles once.
    config.augmentation = config_lib.default().augmentation
    config.optimizer = config_lib.default().optimizer
    config.optimizer.name, config.optimizer.momentum, config.optimizer.learning_rate = "sgd", 0.9, rate
    config.optimizer.grad_clip_norm = 1.0
    del config.evaluations["test"]
    config.evaluations[name] = config_lib.evaluation(split=evaluated, every_percent=50.0)
    config.log.tensorboard, config.checkpoint.every_percent = False, 50.0
    return config
