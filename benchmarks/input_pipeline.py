"""Measures how many images a second the input pipeline makes, beside tf.data and torchvision.

    python benchmarks/input_pipeline.py --data=FOLDER --json=FILE

FOLDER has the images as FOLDER/CLASS/IMAGE.jpg, such as some of ImageNet. Every pipeline reads the same files on the
same CPU cores, crops a random box (area 0.05 to 1, aspect 3/4 to 4/3) of each, resizes it to 224 pixels bilinearly,
without a filter against aliasing, and makes batches of 64 images of uint8:

    vit_jax             worker processes, one for each core
    vit_jax_threads     threads
    vit_jax_prepared    as vit_jax, on images that `vit_jax.prepare` made smaller (shorter side 292, quality 90)
    tf_data             tf.data with decode_and_crop_jpeg and sample_distorted_bounding_box
    torch               torchvision's RandomResizedCrop in a DataLoader, if torch is installed; it reduces aliasing,
                        as it always does for images of Pillow

Each runs in a process of its own, one after another, several rounds in turn. The numbers are medians over the rounds,
and ratios to tf_data. Files that were read before come from the memory of the operating system.

Hardware: any; nothing else should run. Time: about two minutes for three rounds of ten seconds.
"""

import argparse
import importlib.util
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

SIZE, BATCH, AREA_MIN, ASPECT = 224, 64, 0.05, (3 / 4, 4 / 3)
COPIES = 300  # a few images stand for a large data set, whose shuffled order is found faster than that of a small one
PREPARED = "vit_jax_prepared"


def vit_jax(folder: str, cores: int, *, processes: bool = True, name: str = "folder") -> Iterator[Any]:
    from vit_jax import data

    spec = data.Spec(
        name=name,
        split="+".join(["train"] * COPIES),
        data_dir=folder,
        crop="inception",
        crop_area_min=AREA_MIN,
        antialias=False,
        size=(SIZE, SIZE),
        workers=cores if processes else 0,
        threads=cores,
    )
    return (batch["image"] for batch in data.open(spec).batches(BATCH))


def tf_data(folder: str, cores: int) -> Iterator[Any]:
    import tensorflow as tf

    def crop(path: Any) -> Any:
        file = tf.io.read_file(path)
        shape = tf.image.extract_jpeg_shape(file)
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            shape,
            bounding_boxes=tf.zeros((1, 0, 4)),
            min_object_covered=0,
            aspect_ratio_range=ASPECT,
            area_range=(AREA_MIN, 1),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], 0)
        image = tf.image.decode_and_crop_jpeg(file, window, channels=3)
        return tf.cast(tf.image.resize(image, (SIZE, SIZE)), tf.uint8)

    files = sorted(map(str, pathlib.Path(folder).glob("*/*")))
    dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=0).repeat()
    dataset = dataset.map(crop, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = cores
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options).as_numpy_iterator()


def torch(folder: str, cores: int) -> Iterator[Any]:
    import torch.utils.data
    from torchvision import datasets, transforms

    crop = transforms.RandomResizedCrop(SIZE, scale=(AREA_MIN, 1), ratio=ASPECT)
    dataset = datasets.ImageFolder(folder, transforms.Compose([crop, transforms.PILToTensor()]))
    # An epoch of a DataLoader ends with a pause, which so few files would make long: the files are listed many times.
    dataset.samples = dataset.samples * COPIES
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, num_workers=cores, drop_last=True, persistent_workers=True
    )
    return (images for _ in itertools.count() for images, _ in loader)


PIPELINES: dict[str, Callable[[str, int], Iterator[Any]]] = {
    "vit_jax": vit_jax,
    "vit_jax_threads": lambda folder, cores: vit_jax(folder, cores, processes=False),
    PREPARED: lambda folder, cores: vit_jax(folder, cores, name="prepared"),
    "tf_data": tf_data,
    "torch": torch,
}


def rate(batches: Iterator[Any], seconds: float) -> float:
    """Returns the images a second of a pipeline, after its first batches."""
    for _ in range(8):
        shape = next(batches).shape
    assert shape[0] == BATCH, shape
    begin = time.perf_counter()
    for number in itertools.count(1):
        next(batches)
        passed = time.perf_counter() - begin
        if passed >= seconds:
            return number * BATCH / passed
    raise AssertionError


def measure(name: str, folder: str, options: argparse.Namespace) -> float:
    """Returns the images a second of a pipeline in a process of its own."""
    command = [sys.executable, __file__, f"--only={name}", f"--data={folder}", f"--cores={options.cores}"]
    command.append(f"--seconds={options.seconds}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr}")
    return float(done.stdout.split()[-1])


def prepare(folder: str, to: str) -> None:
    command = [sys.executable, "-m", "vit_jax.prepare", "--dataset=folder", f"--data_dir={folder}", "--name=prepared"]
    subprocess.run([*command, "--shorter_side=292", "--quality=90", f"--out={to}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of the images, with a folder for each class")
    parser.add_argument("--json", help="the file that receives the numbers")
    parser.add_argument("--cores", type=int, default=min(2, os.cpu_count() or 1), help="CPU cores that each may use")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="time of one measurement")
    parser.add_argument("--only", choices=PIPELINES, help="measure one pipeline once, in this process")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(options.cores))
    if options.only:
        print(rate(PIPELINES[options.only](options.data, options.cores), options.seconds))
        os._exit(0)  # without waiting for batches that nobody wants
    with tempfile.TemporaryDirectory() as prepared:
        prepare(options.data, prepared)
        folders = {name: prepared if name == PREPARED else options.data for name in PIPELINES}
        if importlib.util.find_spec("torch") is None:
            del folders["torch"]
        rates: dict[str, list[float]] = {name: [] for name in folders}
        for number in range(options.rounds):
            for name, folder in folders.items():
                rates[name].append(measure(name, folder, options))
                print(f"round {number + 1}: {name:<20} {rates[name][-1]:8.0f} images/s", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in medians.items():
        print(f"{name:<20} {value:8.0f} images/s {value / medians['tf_data']:6.2f} of tf_data")
    if options.json:
        cores = {"cores": options.cores, "rounds": rates}
        pathlib.Path(options.json).write_text(json.dumps({**medians, **cores}, indent=1) + "\n")


if __name__ == "__main__":
    main()
