"""Measures how fast onnxruntime computes an exported model, beside JAX and beside timm's own export.

    python benchmarks/export.py --peers=PYTHON --json=FILE

All compute the same ViT with the same random weights, images of 224 pixels, float32, on the CPU:

    jax        the model of this package, by jax.jit
    onnx       its ONNX file, by onnxruntime
    timm       the ONNX file that torch.onnx writes of timm's model, by onnxruntime; PYTHON is an interpreter that has
               torch, timm and onnx, and without --peers this is left out

They are measured in one process, in turn, several rounds. The numbers are medians over the rounds.

Hardware: any; nothing else should run. Time on two cores: about two minutes with S/16.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
import onnxruntime

import vit_jax
from vit_jax.models.functional import split

TIMM = {"Ti/16": "vit_tiny_patch16_224", "S/16": "vit_small_patch16_224", "B/16": "vit_base_patch16_224"}
_WRITE = """
import sys, timm, torch
name, weights, target = sys.argv[1:]
model = timm.create_model(name, checkpoint_path=weights).eval()
names = {"input_names": ["images"], "output_names": ["logits"], "opset_version": 18, "dynamo": False}
torch.onnx.export(model, (torch.zeros(2, 3, 224, 224),), target, dynamic_axes={"images": {0: "batch"}}, **names)
"""


def run_by_onnxruntime(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="S/16", choices=TIMM)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="numbers of images in a batch")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--peers", help="a Python that has torch and timm")
    parser.add_argument("--json", help="the file that receives the numbers")
    options = parser.parse_args()
    # timm has the exact GELU.
    model = vit_jax.create(options.model, num_classes=1000, image_size=224, mlp="gelu_erf")
    kernel = model.head.kernel
    kernel[...] = np.random.default_rng(0).normal(0, 0.05, kernel.shape).astype(np.float32)
    bind, params = split(model)
    forward = jax.jit(lambda params, images: bind(params)(images))
    with tempfile.TemporaryDirectory() as folder:
        ours, weights, theirs = (pathlib.Path(folder) / name for name in ("a.onnx", "a.safetensors", "b.onnx"))
        print(f"the file differs from the model by {vit_jax.export(model, ours)}")
        programs = {"jax": lambda images: np.asarray(forward(params, images)), "onnx": run_by_onnxruntime(ours)}
        if options.peers:
            vit_jax.save(model, weights, format="timm")
            subprocess.run([options.peers, "-c", _WRITE, TIMM[options.model], weights, theirs], check=True)
            channels_first = run_by_onnxruntime(theirs)
            programs["timm"] = lambda images: channels_first(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    medians: dict[str, dict[str, float]] = {}
    for batch in options.batches:
        images = np.random.default_rng(1).uniform(-1, 1, (batch, 224, 224, 3)).astype(np.float32)
        results = {name: run(images) for name, run in programs.items()}  # compiles
        for name, result in results.items():
            assert np.abs(result - results["jax"]).max() < 1e-3, f"{name} computes another model"
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(options.rounds):
            for name, run in programs.items():
                begin = time.perf_counter()
                run(images)
                seconds[name].append(time.perf_counter() - begin)
        medians[str(batch)] = {name: statistics.median(each) for name, each in seconds.items()}
        for name, median in medians[str(batch)].items():
            ratio = median / medians[str(batch)]["jax"]
            print(f"batch of {batch}: {name:<5} {1000 * median:8.1f} ms, {ratio:5.2f} of jax", flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"seconds": medians}, indent=1) + "\n")


if __name__ == "__main__":
    main()
