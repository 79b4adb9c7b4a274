"""Compares a training step of a linear probe, where only the head is trained, with a forward pass and a full step.

    python benchmarks/probe.py --model=S/16 --batch=8                       measured on the local device
    python benchmarks/probe.py --model=S/16 --batch=64 --topology=v5e:1x1   by the TPU compiler; needs libtpu, no TPU

Measured: each round runs a forward pass, a probe step and a full step in turn, on one device. `seconds` is the median
over the rounds, and `forwards` the median of the rounds' ratios to the forward pass. `operations` is the compiler's
count. The layers are unrolled, because the compiler counts the body of a loop once. It takes about a minute on two
cores.

By the TPU compiler: the cycles of one device, counted as in compiled_step.py, in bfloat16, as the configs compute on
TPUs. It takes a minute on two cores with `--scan`, and several minutes without.

All include the normalisation of the images. The steps also have the backward pass of the trained parameters and the
update. `state` is the number of values that the optimizer keeps.
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
from vit_jax import sharding, training
from vit_jax.models.functional import split
from vit_jax.models.model import Model
from vit_jax.planning import compiling, estimate, program, slices
from vit_jax.training import compiler
from vit_jax.training.state import abstract_state

STEPS = {"probe": ("^(?!head/)",), "full": ()}  # what is frozen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--topology", help="compile for this slice, such as v5e:1x1, and measure nothing")
    parser.add_argument("--scan", action="store_true", help="with --topology: scanned layers")
    arguments = parser.parse_args()
    config = config_lib.default()
    config.total_steps, config.global_batch_size = 1000, arguments.batch
    config.data.name = "synthetic"
    config.model.name, config.model.num_classes = arguments.model, 1000
    config.model.dropout, config.model.scan = 0.0, arguments.scan
    config.optimizer.name = arguments.optimizer
    if arguments.topology:
        jax.config.update("jax_platforms", "cpu")  # where there is a TPU, it stays free
        config.model.dtype = "bfloat16"
        compiled(config, slices.parse(arguments.topology))
    else:
        config.model.scan = False
        measured(config, arguments.rounds)


def forward_of(model: Model) -> Callable[[Any, Any], jax.Array]:
    """Returns the forward pass as a function of parameters and pixels."""
    bind, _ = split(model)
    return lambda params, images: bind(params)(model.preprocessing.normalize(images))


def compiled(config: Any, where: slices.Slice) -> None:
    """Prints what the TPU compiler counts."""
    mesh = sharding.make_mesh(training.resolve(config).mesh, slices.devices(where))
    model = compiling.model_of(training.resolve(config))
    layers = "scanned" if config.model.scan else "unrolled"
    print(f"{config.model.name}, {config.global_batch_size} images, {where}, {config.optimizer.name}, {layers}")
    print(f"{'':<8} {'M cycles':>8} {'forwards':>8} {'GiB':>8} {'state':>11}", flush=True)
    once = 0.0
    for name, freeze in {"forward": (), **STEPS}.items():
        config.optimizer.freeze = freeze
        resolved = training.resolve(config)
        state, batch = abstract_state(resolved, model, mesh), compiling.abstract_batch(resolved, model, mesh)
        if name == "forward":
            forward = jax.jit(forward_of(model), compiler_options=compiler.options(mesh))
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                lowered = forward.lower(state.params, batch["image"])
        else:
            lowered = training.make_step(resolved, model, mesh).lower(state, batch)
        made = lowered.compile()
        found = program.parse(made.as_text() or "")
        seconds = estimate.step_seconds(0, found, where, list(mesh.devices.flat)).compiler
        stats: Any = made.memory_analysis()
        assert seconds and not found.kernels, "nobody knows the cycles of a custom kernel"
        cycles = seconds * where.chip.clock / 1e6
        once = once or cycles
        kept = 0 if name == "forward" else sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
        space = stats.temp_size_in_bytes / 2**30
        print(f"{name:<8} {cycles:8.2f} {cycles / once:8.2f} {space:8.2f} {kept:11,}", flush=True)


def measured(config: Any, rounds: int) -> None:
    """Prints seconds and operations on the device that is here."""
    size = config.global_batch_size
    rng = np.random.default_rng(0)
    batch = jax.device_put(
        {"image": rng.integers(0, 256, (size, 224, 224, 3), np.uint8), "label": rng.integers(0, 1000, size)}
    )
    model = vit_jax.create(**vars(training.resolve(config).model))
    params = split(model)[1]
    forward = jax.jit(forward_of(model)).lower(params, batch["image"]).compile()
    once: dict[str, Callable[[], Any]] = {"forward": lambda: forward(params, batch["image"])}
    costs = {"forward": forward.cost_analysis()}
    kept = {}
    for name, freeze in STEPS.items():
        config.optimizer.freeze = freeze
        state = training.create_state(config, model)
        kept[name] = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
        step = training.make_step(config, model).lower(state, batch).compile()
        once[name], costs[name] = _stepping(step, state, batch), step.cost_analysis()

    seconds: dict[str, list[float]] = {name: [] for name in once}
    for _ in range(rounds + 1):
        for name, run in once.items():
            begin = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - begin)
    taken = {name: times[1:] for name, times in seconds.items()}  # the first warms up
    print(f"{config.model.name}, {size} images, {jax.devices()[0].device_kind}, {config.optimizer.name}")
    print(f"{'':<8} {'seconds':>8} {'forwards':>8} {'Gflop':>8} {'forwards':>8} {'state':>11}")
    for name, cost in costs.items():
        times = statistics.median(a / b for a, b in zip(taken[name], taken["forward"], strict=True))
        work = cost["flops"] / costs["forward"]["flops"]
        numbers = f"{statistics.median(taken[name]):8.3f} {times:8.2f} {cost['flops'] / 1e9:8.1f} {work:8.2f}"
        print(f"{name:<8} {numbers} {kept.get(name, 0):11,}")


def _stepping(step: Any, state: training.TrainState, batch: dict[str, jax.Array]) -> Callable[[], Any]:
    """Returns a function that makes one training step each time it is called."""

    def run() -> training.TrainState:
        nonlocal state
        state, _ = step(state, batch)
        return state

    return run


if __name__ == "__main__":
    main()
