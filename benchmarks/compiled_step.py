"""What the TPU compiler expects of a training step of B/16, beside the same step of big_vision and of the original.

    pip install '.[tpu]'      # libtpu, the compiler; no TPU is needed
    python benchmarks/compiled_step.py

224 px, 64 images on each device of a v5e:2x2, Adam with a bfloat16 first moment, clipping, no dropout, bfloat16
computation. Cycles are those of one device: the compiler's own count for each instruction, loops as often as they run,
and for the few of which it says nothing their memory traffic at the chip's bandwidth; without collectives. Temporaries
are what the program holds beside its arguments. The peers' figures come from the same compiler (libtpu 0.0.42) and the
same count, without our compiler options. At the chip's peak the step would take 51.4 million cycles. On two cores all
of it takes about two minutes.

Unrolled, our last block computes only the token that the head reads, which is the same function of the parameters for
less work; the peers compute all tokens. With all of them ours would take 105.6 million cycles and 3.71 GiB.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # where there is a TPU, it stays free

from vit_jax import command_line
from vit_jax.planning import plans, slices

RECIPE = [
    ("global_batch_size", "256"),
    ("model.dropout", "0.0"),
    ("optimizer.moment_dtype", "bfloat16"),
]
# Our settings, and million cycles and GiB of temporaries of the peers.
STEPS = {
    "unrolled": ([], {"big_vision": (116.7, 3.51), "original": (136.3, 6.09)}),
    "scanned, remat full": ([("model.scan", "true"), ("model.remat", "full")], {"big_vision": (151.0, 1.58)}),
    "scanned": ([("model.scan", "true")], {}),
}


def measured(settings: list[command_line.Override]) -> tuple[float, float]:
    """Million cycles and GiB of temporaries of our step."""
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
