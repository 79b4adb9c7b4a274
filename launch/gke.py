"""Start a training run on TPU slices of GKE: fill in jobset.yaml, which lies beside this file, and apply it by kubectl.

    python launch/gke.py --name=b16 --topology=v5e:16x16 --image=IMAGE --queue=QUEUE \\
        --config=configs/pretrain.py:B/16,imagenet2012 --workdir=gs://BUCKET/b16 --dry-run

With --dry-run, this prints the manifest and, as a comment, the kubectl command. Without it, the command is run. Flags
that set keys of the config, such as --config.mesh.fsdp=16, are passed on to main. The cluster needs JobSet 0.10.1 or
newer, node pools (or Autopilot) for the slice and, for --queue, Kueue. This script needs only Python, not the package.

Exit codes: 0 done; 1 an error, said in one sentence; otherwise that of kubectl.
"""

import argparse
import json
import math
import pathlib
import re
import shutil
import string
import subprocess
import sys
from typing import NamedTuple, NoReturn

_HERE = pathlib.Path(__file__).resolve().parent
# GKE's names of the chips, and how many sides their slices have:
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
_ACCELERATORS = {
    "v4": ("tpu-v4-podslice", 3),
    "v5e": ("tpu-v5-lite-podslice", 2),
    "v5p": ("tpu-v5p-slice", 3),
    "v6e": ("tpu-v6e-slice", 2),
    "tpu7x": ("tpu7x", 3),
}


class Slice(NamedTuple):
    """A TPU slice of GKE."""

    generation: str  # such as v5e
    shape: str  # such as 16x16
    hosts: int
    chips: int  # per host

    @property
    def accelerator(self) -> str:
        return _ACCELERATORS[self.generation][0]


def fail(message: str) -> NoReturn:
    """Prints an error message to stderr and exits with code 1."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def parse(topology: str) -> Slice:
    """Returns the slice that a name such as `v5e:16x16` means. Exits with an error if GKE has no such slice.

    A slice has hosts of 4 chips each, or a single host of 1, 4 or 8 chips.
    """
    generation, _, shape = topology.lower().partition(":")
    if generation in ("v2", "v3"):
        fail(f"--topology={topology}: {generation} is not taken here; launch/tpu_vm.sh has it")
    if generation not in _ACCELERATORS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        known = ", ".join(_ACCELERATORS)
        fail(f"--topology={topology} is no slice; write GENERATION:SHAPE, such as v5e:16x16, of {known}")
    sides = tuple(map(int, shape.split("x")))
    dimensions = _ACCELERATORS[generation][1]
    if len(sides) != dimensions:
        example = "x".join(["4"] * dimensions)
        fail(f"--topology={topology}: slices of {generation} have {dimensions} sides, such as {generation}:{example}")
    chips = math.prod(sides)
    squares = sides[-1] in (sides[0], 2 * sides[0]) and not chips & (chips - 1) and chips != 2 and chips <= 256
    if dimensions == 2 and not squares:
        fail(f"--topology={topology} is no slice that GKE has; take 1x1, 2x2, 2x4, 4x4, 4x8, … up to 16x16")
    small = sides in ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
    if dimensions == 3 and not small and (any(side % 4 for side in sides) or list(sides) != sorted(sides)):
        shapes = "2x2x1, 2x2x2, 2x2x4, 2x4x4 or multiples of 4, ascending"
        fail(f"--topology={topology} is no slice that GKE has; take {shapes}")
    if dimensions == 2 and chips in (1, 8):
        return Slice(generation, shape, 1, chips)
    return Slice(generation, shape, chips // 4, 4)


def fill(template: str, values: dict[str, object]) -> str:
    """Returns the template with its variables ($name) replaced by values, which are written as JSON.

    Lines that start with ## are left out, and so are lines that end in `#if KEY` if the value of KEY is empty.
    """
    kept = []
    for line in template.splitlines():
        text, _, condition = line.partition("  #if ")
        if not line.startswith("##") and (not condition or values[condition]):
            kept.append(text)
    return string.Template("\n".join(kept) + "\n").substitute({k: json.dumps(v) for k, v in values.items()})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gke.py",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.error = lambda message: fail(f"{message}; gke.py --help lists the flags")  # type: ignore[method-assign]
    add = parser.add_argument
    add("--name", required=True, help="of the JobSet")
    add("--topology", required=True, help="the slice, as vit_jax.plan takes it, such as v5e:16x16")
    add("--slices", type=int, default=1, help="so many of them")
    add("--image", required=True, help="built of launch/Dockerfile")
    add("--config", required=True, help="as main takes it")
    add("--workdir", required=True, help="as main takes it; all hosts must reach it, as gs://")
    add("--queue", default="", help="Kueue's local queue")
    add("--namespace", default="default")
    add("--service_account", default="", help="Kubernetes', that may read and write the buckets")
    add("--spot", action="store_true", help="on spot nodes")
    add("--reservation", default="", help="on nodes of this reservation")
    add("--cache", default="", help="gs://BUCKET/DIR: compiled programs kept there")
    add("--bucket", default="", help="mounted to read at /data: array_record wants files")
    add("--grace", type=int, default=300, help="seconds to save after SIGTERM")
    add("--restarts", type=int, default=10, help="starts after crashes; preemptions do not count")
    add("--dry-run", action="store_true", help="print the manifest and the command")
    return parser


def manifest(args: argparse.Namespace, rest: list[str]) -> str:
    """Returns the JobSet as YAML. Exits with an error if flags are wrong.

    `args` are the flags of this script, and `rest` are those that are passed on to main.
    """
    where = parse(args.topology)
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", args.name):
        fail(f"--name={args.name}: take small letters, digits and hyphens, at most 40, a letter first")
    if args.slices < 1:
        fail(f"--slices={args.slices}: there is at least one slice")
    if args.slices > 1 and where.hosts == 1:
        fail(f"--slices={args.slices}: GKE joins slices of several hosts only; take a larger one than {args.topology}")
    if args.spot and args.reservation:
        fail("--spot and --reservation are two kinds of nodes; leave out one")
    for key in ("workdir", "cache"):
        if getattr(args, key) and not getattr(args, key).startswith("gs://"):
            fail(f"--{key}={getattr(args, key)}: all hosts must reach it; write gs://BUCKET/DIR")
    for word in rest:
        if not word.startswith("--config."):
            fail(f"what is {word}? gke.py --help lists the flags; keys of the config are set by --config.KEY=VALUE")
    command = ["python", "-m", "vit_jax.main", f"--config={args.config}", f"--workdir={args.workdir}", *rest]
    values = {
        **vars(args),
        "accelerator": where.accelerator,
        "shape": where.shape,
        "hosts": where.hosts,
        "chips": where.chips,
        "command": command,
    }
    return fill((_HERE / "jobset.yaml").read_text(encoding="utf-8"), values)


def main(argv: list[str]) -> int:
    args, rest = _parser().parse_known_args(argv)
    text = manifest(args, rest)
    command = ["kubectl", "apply", "--filename=-"]
    if args.dry_run:
        print(text + f"# applied by: {' '.join(command)}")
        return 0
    if shutil.which("kubectl") is None:
        fail("kubectl is not installed; see https://kubernetes.io/docs/tasks/tools, or take --dry-run")
    print("+ " + " ".join(command), file=sys.stderr)
    return subprocess.run(command, input=text, text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
