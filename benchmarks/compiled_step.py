"""Compares the compiled training step of B/16 with those of big_vision and of the original vit_jax.

    pip install '.[tpu]'      # libtpu, the compiler; no TPU is needed
    python benchmarks/compiled_step.py

The step: images of 224 px, 64 of them on each device of a v5e:2x2, Adam with a bfloat16 first moment, gradient
clipping, no dropout, computation in bfloat16.

Cycles are those of one device without collectives, by the compiler's own count: the sum over all instructions, where
those in a loop count as often as it runs. The compiler gives no count for a few instructions; they count with their
memory traffic at the chip's bandwidth. Temporaries are the memory that the program needs in addition to its arguments.
The other programs' numbers come from the same compiler (libtpu 0.0.42) and the same way of counting, without our
compiler options. At the chip's peak the step would take 51.4 million cycles.

If our blocks are unrolled, the last one computes only the token that the head reads. The result is the same, with less
work; the other programs compute all tokens. With all tokens, our step would take 105.6 million cycles and 3.71 GiB.

Hardware: any machine; on two cores the command takes about two minutes.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # JAX must not take this machine's own TPU, if there is one

from vit_jax import command_line
from vit_jax.planning import plans, slices

RECIPE = [
    ("global_batch_size", "256"),
    ("model.dropout", "0.0"),
    ("optimizer.moment_dtype", "bfloat16"),
]
# Our settings for each step, and for each other program its million cycles and GiB of temporaries.
STEPS = {
    "unrolled": ([], {"big_vision": (116.7, 3.51), "original": (136.3, 6.09)}),
    "scanned, remat full": ([("model.scan", "true"), ("model.remat", "full")], {"big_vision": (151.0, 1.58)}),
    "scanned": ([("model.scan", "true")], {}),
}


def measured(settings: list[command_line.Override]) -> tuple[float, float]:
    """Returns the million cycles and the GiB of temporaries of our step with these settings."""
    where = slices.parse("v5e:2x2")
    config = command_line.load_config("configs/pretrain.py:B/16,imagenet2012", [*RECIPE, *settings])
    plan, _ = plans.make_plan(config, where)
    assert plan.step_seconds and plan.step_seconds.compiler and plan.hbm_per_device.temporaries
    assert not plan.kernels, "nobody knows the cycles of a custom kernel"
    return plan.step_seconds.compiler * where.chip.clock / 1e6, plan.hbm_per_device.temporaries / 2**30


def main() -> None:
    print(f"{'step':<20} {'of':<10} {'M cycles':>8} {'ours/its':>8} {'GiB':>6} {'ours/its':>8}", flush=True)
    for name, (settings, peers) in STEPS.items():
        cycles, memory = measured(settings)
        print(f"{name:<20} {'vit_jax':<10} {cycles:8.1f} {'':>8} {memory:6.2f}", flush=True)
        for peer, (its_cycles, its_memory) in peers.items():
            times, space = cycles / its_cycles, memory / its_memory
            print(f"{'':<20} {peer:<10} {its_cycles:8.1f} {times:8.2f} {its_memory:6.2f} {space:8.2f}", flush=True)


if __name__ == "__main__":
    main()
