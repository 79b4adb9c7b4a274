"""A step of a linear probe, all but the head frozen, beside a forward pass of the same model and images.

    python benchmarks/probe.py --model=S/16 --batch=8

Seconds are medians over rounds in which one of each runs in turn, on one device; `forwards` beside them is the median
of the rounds' ratios. All include normalising the images; a step has the backward pass of what is trained and the
update besides. Operations are the compiler's own count, of unrolled layers, since it counts the body of a loop once.
`state` is how many numbers the optimizer keeps. Hardware: any; on two cores it takes about a minute.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")

import jax
import numpy as np

import vit_jax
from vit_jax import config as config_lib
from vit_jax import training
from vit_jax.models.functional import split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--optimizer", default="adam")
    arguments = parser.parse_args()
    config = config_lib.default()
    config.total_steps, config.global_batch_size = 1000, arguments.batch
    config.data.name = "synthetic"
    config.model.name, config.model.num_classes = arguments.model, 1000
    config.model.dropout, config.model.scan = 0.0, False
    config.optimizer.name = arguments.optimizer
    rng = np.random.default_rng(0)
    batch = jax.device_put(
        {
            "image": rng.integers(0, 256, (arguments.batch, 224, 224, 3), np.uint8),
            "label": rng.integers(0, 1000, arguments.batch),
        }
    )
    model = vit_jax.create(**vars(training.resolve(config).model))
    bind, params = split(model)

    forward = (
        jax.jit(lambda params, images: bind(params)(model.preprocessing.normalize(images)))
        .lower(params, batch["image"])
        .compile()
    )
    once: dict[str, Callable[[], Any]] = {"forward": lambda: forward(params, batch["image"])}
    costs = {"forward": forward.cost_analysis()}
    kept = {}
    for name, freeze in {"probe": ("^(?!head/)",), "full": ()}.items():
        config.optimizer.freeze = freeze
        state = training.create_state(config, model)
        kept[name] = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
        step = training.make_step(config, model).lower(state, batch).compile()
        once[name], costs[name] = _stepping(step, state, batch), step.cost_analysis()

    seconds: dict[str, list[float]] = {name: [] for name in once}
    for _ in range(arguments.rounds + 1):
        for name, run in once.items():
            begin = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - begin)
    measured = {name: times[1:] for name, times in seconds.items()}  # the first warms up
    print(f"{arguments.model}, {arguments.batch} images, {jax.devices()[0].device_kind}, {arguments.optimizer}")
    print(f"{'':<8} {'seconds':>8} {'forwards':>8} {'Gflop':>8} {'forwards':>8} {'state':>11}")
    for name, cost in costs.items():
        times = statistics.median(a / b for a, b in zip(measured[name], measured["forward"], strict=True))
        work = cost["flops"] / costs["forward"]["flops"]
        numbers = f"{statistics.median(measured[name]):8.3f} {times:8.2f} {cost['flops'] / 1e9:8.1f} {work:8.2f}"
        print(f"{name:<8} {numbers} {kept.get(name, 0):11,}")


def _stepping(step: Any, state: training.TrainState, batch: dict[str, jax.Array]) -> Callable[[], Any]:
    """Returns a function that goes one step on each time it is called; a step uses its state up."""

    def run() -> training.TrainState:
        nonlocal state
        state, _ = step(state, batch)
        return state

    return run


if __name__ == "__main__":
    main()
