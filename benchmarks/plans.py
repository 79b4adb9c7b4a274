"""Prints the tables of plans in launch/README.md.

    python benchmarks/plans.py pairs --folder=/tmp/pairs
    python benchmarks/plans.py others --folder=/tmp/others
    python benchmarks/plans.py published --folder=/tmp/published

`pairs` plans five models on five slices, `others` plans jobs of other kinds, and `published` compares planned with
published training times. Each plan is made by `python -m vit_jax.plan … --json=FOLDER/NAME.json`, one after another.
Plans that the folder contains already are not made again, so that an interrupted run can be continued.

Needs libtpu. Hardware: any machine with 16 GB of memory; on two cores a plan takes half a minute to two minutes, and
all of `pairs` about half an hour.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
from typing import Any

MODELS = ("B/16", "L/16", "H/14", "g/14", "G/14")
SLICES = ("v3:16x16", "v4:8x8x8", "v5e:16x16", "v5p:8x8x8", "v6e:16x16")
# Each model is pre-trained as in the paper on JFT-300M, with a batch of 4096. The state of large ones is split over 16
# devices.
LARGE = "--config.mesh.fsdp=16"
SETTINGS = {"B/16": "", "L/16": "", "H/14": LARGE, "g/14": LARGE, "G/14": f"{LARGE} --config.model.remat=dots"}

# Jobs of other kinds and sizes: the model, its settings, the slice, and the number of slices.
OTHERS = (
    ("L/16", "", "v3:32x32", 1),
    ("BiT-R152x4", "mesh.fsdp=64 model.remat=full", "v3:32x32", 1),
    ("R50+L/16", "mesh.fsdp=64", "v5e:16x16", 1),
    ("H/14", "mesh.data=128 mesh.fsdp=16 global_batch_size=32768", "v5e:16x16", 8),
    ("22B/14", "mesh.fsdp=768 model.remat=full global_batch_size=61440", "v5p:16x16x24", 1),
    ("L/16", "model.image_size=1024 mesh.data=64 mesh.sequence=4 global_batch_size=64 model.remat=full model.scan=true",
     "v5e:16x16", 1),
)  # fmt: skip

# Runs with published times: name, config and flags, slice, published hours, source. First two long lists of flags.
PLAIN_S16 = (
    "--config=configs/pretrain.py:S/16,imagenet2012 --config.global_batch_size=1024 --config.total_epochs=90 "
    "--config.model.dropout=0.0 --config.model.pool=gap --config.model.posemb=sincos2d --config.model.pre_logits=384 "
    "--config.optimizer.moment_dtype=bfloat16 --config.augmentation.mixup=0.2"
)
MIXER = "--config=configs/pretrain.py:Mixer-B/16,imagenet2012 --config.model.dropout=0.0 --config.model.drop_path=0.1"
PUBLISHED = (
    ("S/16, ImageNet, 90 epochs", PLAIN_S16, "v3:2x2", 6.5, "2205.01580: 6 to 7 h on a v3-8"),
    ("BiT-R50x1, ImageNet, 90 epochs", "--config=configs/bit.py:R50x1,imagenet2012", "v3:8x8", 32 / 60,
     "big_vision: 32 min on a v3-128"),
    ("Mixer-B/16, ImageNet, 300 epochs", MIXER, "v3:8x8", 2 + 11 / 60, "big_vision: 2 h 11 min on a v3-128"),
    ("L/16, JFT-300M, 14 epochs", "--config=configs/pretrain.py:L/16,jft300m", "v3:16x16", 680 * 24 / 512,
     "2010.11929, Table 2: 0.68k core-days"),
    ("H/14, JFT-300M, 14 epochs", f"--config=configs/pretrain.py:H/14,jft300m {LARGE}", "v3:16x16", 2500 * 24 / 512,
     "2010.11929, Table 2: 2.5k core-days"),
)  # fmt: skip


def plan(folder: pathlib.Path, name: str, flags: str, topology: str) -> dict[str, Any]:
    """Returns the JSON of a plan from `folder`, after making it if the folder does not contain it.

    Args:
        folder: the folder of the plans.
        name: of the plan; its file is NAME.json.
        flags: of `vit_jax.plan`, without the topology.
        topology: the slice.
    """
    file = folder / f"{name}.json"
    if not file.exists():
        unfinished = file.with_suffix(".partial")
        command = f"{sys.executable} -m vit_jax.plan {flags} --topology={topology} --json={unfinished} --resume"
        print(f"+ {command}", file=sys.stderr, flush=True)
        subprocess.run(shlex.split(command), check=True, stdout=sys.stderr)
        unfinished.rename(file)
    return json.loads(file.read_text())


def memory_of(found: dict[str, Any]) -> str:
    """Returns the memory that a plan needs per device, and the limit, as text."""
    memory = found["hbm_per_device"]
    return f"{memory['total'] / 2**30:.1f} of {memory['limit'] / 2**30:.1f} GiB"


def print_row(cells: list[str], columns: int) -> None:
    """Prints a row of a table. Missing cells, as of a job that does not fit, are empty."""
    print("|", " | ".join([*cells, *[""] * (columns - len(cells))]), "|", flush=True)


def pairs(folder: pathlib.Path) -> None:
    """Prints the table of `MODELS` on `SLICES`."""
    print("| model | slice | fits | memory a device | step | images/s | MFU | whole run | chip-hours |")
    print("| --- | --- | --- | --: | --: | --: | --: | --: | --: |")
    for model in MODELS:
        for where in SLICES:
            name = f"{model}_{where}".replace("/", "").replace(":", "_")
            found = plan(folder, name, f"--config=configs/pretrain.py:{model},jft300m {SETTINGS[model]}", where)
            nearest = found.get("nearest")
            verdict = "yes" if found["fits"] else "no"
            if nearest:
                verdict = "with " + " ".join(f"`{key}={value}`" for key, value in nearest["settings"].items())
            best = nearest or found
            cells = [model, where, verdict, memory_of(best)]
            if best["fits"]:
                cells += [f"{1000 * best['step_seconds']['estimate']:.0f} ms", f"{best['images_per_second']:,.0f}"]
                cells += [f"{100 * best['mfu']:.0f} %", f"{best['total_hours']:,.1f} h"]
                cells += [f"{best['total_chip_hours']:,.0f}"]
            print_row(cells, 9)


def others(folder: pathlib.Path) -> None:
    """Prints the table of the jobs in `OTHERS`."""
    print("| model | slice | settings | fits | memory a device | step | over ICI | between slices |")
    print("| --- | --- | --- | --- | --: | --: | --: | --: |")
    for number, (model, settings, where, slices) in enumerate(OTHERS):
        flags = "".join(f" --config.{setting}" for setting in settings.split())
        name = f"{number}_{model}".replace("/", "")
        found = plan(folder, name, f"--config=configs/pretrain.py:{model},jft300m{flags} --slices={slices}", where)
        moved = found["collectives"].values()
        over = (sum(one["bytes"] for one in moved if one["link"] == link) for link in ("ici", "dcn"))
        written = ", ".join(f"`{setting}`" for setting in settings.split())
        cells = [model, f"{slices} x {where}" if slices > 1 else where, written]
        cells += ["yes" if found["fits"] else "no", memory_of(found)]
        if found["fits"]:
            cells += [f"{1000 * found['step_seconds']['estimate']:.0f} ms"]
            cells += [f"{size / 2**20:,.0f} MiB" if size else "" for size in over]
        print_row(cells, 8)


def published(folder: pathlib.Path) -> None:
    """Prints the table that compares planned with published training times, of the runs in `PUBLISHED`."""
    print("| run | slice | planned | published | ratio | source |")
    print("| --- | --- | --: | --: | --: | --- |")
    for run, flags, where, hours, source in PUBLISHED:
        found = plan(folder, run.partition(",")[0].replace("/", ""), flags, where)
        found = found.get("nearest") or found
        planned = found["total_hours"]
        print(f"| {run} | {where} | {planned:.2f} h | {hours:.2f} h | {planned / hours:.2f} | {source} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["pairs", "others", "published"])
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="keeps the plans' JSON")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    {"pairs": pairs, "others": others, "published": published}[arguments.table](arguments.folder)


if __name__ == "__main__":
    main()
