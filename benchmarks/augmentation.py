"""Measures what each augmentation adds to the compiled training step of B/16.

    pip install '.[tpu]'      # libtpu, the compiler; no TPU is needed
    python benchmarks/augmentation.py

The step is that of `compiled_step.py`, unrolled: 64 images of 224 px on each device of a v5e:2x2. Cycles are counted as
there. The compiler does not count the time of gathers of single pixels, which are slow on a TPU. No operation but
`rotate_degrees` and `shift_pixels` makes such gathers, so these two cost more than the table says.

Hardware: any machine; on two cores the command takes about a quarter of an hour.
"""

from compiled_step import measured

SETTINGS = {
    "no augmentation": {},
    "RandAugment, 2 layers": {"randaugment_layers": 2, "randaugment_magnitude": 15},
    "AutoAugment": {"autoaugment": True},
    "brightness, contrast, saturation": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    "hue": {"hue": 0.1},
    "erasing": {"erasing": 0.25},
    "mixup": {"mixup": 0.2},
    "mixup and CutMix": {"mixup": 0.8, "cutmix": 1.0},
    "rotation and shift": {"rotate_degrees": 10.0, "shift_pixels": 4.0},
}


def main() -> None:
    print(f"{'augmentation':<34} {'M cycles':>8} {'added':>7} {'GiB':>6}", flush=True)
    plain = 0.0
    for name, keys in SETTINGS.items():
        cycles, memory = measured([(f"augmentation.{key}", str(value)) for key, value in keys.items()])
        plain = plain or cycles
        print(f"{name:<34} {cycles:8.1f} {cycles / plain - 1:7.1%} {memory:6.2f}", flush=True)


if __name__ == "__main__":
    main()
