"""Measures how many images a second `predict` classifies, beside the bare forward pass.

    python benchmarks/predict.py --images=FOLDER --json=FILE

FOLDER has photographs, such as some of ImageNet, at any depth. Both use the same model of random weights, images of 224
pixels in batches of 32, and the same compiled computation:

    forward    the batches are in memory as pixels, and each is computed before the next begins
    predict    `vit_jax.predicting.predict`, which reads and decodes the files while the device computes

They are measured in one process, in turn, several rounds. The numbers are medians over the rounds.

Hardware: any; nothing else should run. Time on two cores: about a minute for three rounds of 240 images with Ti/16.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import numpy as np

import vit_jax
from vit_jax.data.choose import listed
from vit_jax.models.functional import split
from vit_jax.predicting import predict

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", required=True, help="the folder of the images")
    parser.add_argument("--model", default="Ti/16", help="the name of a model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="the file that receives the numbers")
    options = parser.parse_args()
    paths = listed([options.images])
    paths = paths[: len(paths) // BATCH * BATCH]  # whole batches, for both
    if not paths:
        parser.error(f"{options.images} has fewer than {BATCH} images; name a folder with more")
    model = vit_jax.create(options.model, num_classes=1000, image_size=224)
    kernel = model.head.kernel
    kernel[...] = np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)  # zeros would not classify
    bind, params = split(model)
    forward = jax.jit(lambda params, images: bind(params)(images))
    pixels = [vit_jax.read_images(paths[at : at + BATCH], model) for at in range(0, len(paths), BATCH)]

    def bare() -> None:
        for images in pixels:
            forward(params, images).block_until_ready()

    def whole() -> None:
        assert sum(not found.error for found in predict(model, paths, batch_size=BATCH, count=5)) == len(paths)

    rates: dict[str, list[float]] = {"forward": [], "predict": []}
    forward(params, pixels[0]).block_until_ready()  # compiles
    list(predict(model, paths[:BATCH], batch_size=BATCH, count=5))
    for number in range(options.rounds):
        for name, work in (("forward", bare), ("predict", whole)):
            begin = time.perf_counter()
            work()
            rates[name].append(len(paths) / (time.perf_counter() - begin))
            print(f"round {number + 1}: {name:<8} {rates[name][-1]:8.1f} images/s", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"predict runs at {medians['predict'] / medians['forward']:.0%} of the rate of the forward pass")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**medians, "rounds": rates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
