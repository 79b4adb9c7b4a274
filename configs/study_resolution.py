"""Measure images per second, and the largest batch, against the image size (Figure 12 of 2010.11929).

    python -m vit_jax.study --config=configs/study_resolution.py --workdir=/tmp/resolution

This measures on the devices at hand how many images a second four models classify, with random weights: Ti/16, S/16,
R26+S/32 and BiT-R50x1 at 64 to 224 pixels, in batches of 8. There are three rounds, each of which measures every model
at every size, so that a slow moment of the machine does not fall on one model alone; the figure shows their median,
with the slowest and the fastest. The argument `tiny` measures 2 models at 2 sizes in 2 rounds.

Figures: speed_by_resolution, and with a TPU slice as the argument batch_by_resolution.

    pip install '.[tpu]' -c constraints.txt
    python -m vit_jax.study --config=configs/study_resolution.py:v3:2x2 --workdir=/tmp/batches

This finds for B/16, B/32, L/16, L/32, R50+B/16 and BiT-R50x1 at 64 to 448 pixels the largest training batch that fits
on a device of the slice, by the TPU compiler, on a machine without a TPU (`vit_jax.plan --largest`), and measures no
speed. The paper shows the batch of a TPU v3 core.

    python -m vit_jax.study --config=configs/study_resolution.py:large --workdir=/tmp/speeds

This measures the speed of the paper's models in batches of 64 a run, on an accelerator.

Hardware: any; two CPU cores for the default. Time: `tiny` took 0.7 minutes on a busy machine; the others we have not
measured. Expect that the time of an image grows with the number of its pixels. In a Transformer it grows faster for
large images, because attention compares all pairs of tokens.
"""

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.studies import Axis, Figure, LargestBatch, Measure, Speed, Study, run_at

SMALL, SMALL_SIZES = ("Ti/16", "S/16", "R26+S/32", "BiT-R50x1"), (64, 96, 128, 224)
LARGE, LARGE_SIZES = ("B/16", "B/32", "L/16", "L/32", "R50+B/16", "BiT-R50x1"), (64, 128, 224, 320, 448)
TINY, TINY_SIZES = ("Ti/16", "Ti/32"), (32, 64)
ROUNDS = 3
PIXELS = Axis("image_size", "side of the image (pixels)", log=True)


def get_study(arguments: str = "") -> Study:
    if arguments and arguments not in ("tiny", "large") and ":" not in arguments:
        raise UserError(f"study_resolution.py can't read {arguments!r}; it takes tiny, large, or a TPU such as v3:2x2")
    if ":" in arguments:
        return _batches(arguments)
    models, sizes = {"tiny": (TINY, TINY_SIZES), "large": (LARGE, LARGE_SIZES)}.get(arguments, (SMALL, SMALL_SIZES))
    batch = 64 if arguments == "large" else 8
    runs = [
        run_at({"model": model, "image_size": size, "round": number}, Speed("speed", _config(model, size, batch)))
        for number in range(2 if arguments == "tiny" else ROUNDS)
        for size in sizes
        for model in models
    ]
    speed = Axis("images_per_second", "images per second", log=True)
    figure = Figure("speed_by_resolution", PIXELS, speed, over="round", statistic="median")
    measure = Measure("images_per_second", "speed", "images_per_second", percent=False)
    return Study(f"resolution{arguments and '_' + arguments}", tuple(runs), (measure,), (figure,), over="round")


def _batches(topology: str) -> Study:
    runs = [
        run_at(
            {"model": model, "image_size": size},
            LargestBatch("batch", _config(model, size, 64), topology),
        )
        for size in LARGE_SIZES
        for model in LARGE
    ]
    batch = Axis("largest_batch", f"largest batch a device of {topology}", log=True)
    measure = Measure("largest_batch", "batch", "largest_batch", percent=False)
    name = f"resolution_{topology.replace(':', '_')}"
    return Study(name, tuple(runs), (measure,), (Figure("batch_by_resolution", PIXELS, batch),))


def _config(model: str, image_size: int, batch: int) -> config_lib.Section:
    config = config_lib.default()
    config.total_steps = 1  # nothing is trained, but a plan wants a length
    config.global_batch_size = batch
    config.data.name = "imagenet2012"  # for the number of classes; no image of it is read
    config.model.name = model
    config.model.image_size = image_size
    config.model.dtype = "bfloat16"
    return config
