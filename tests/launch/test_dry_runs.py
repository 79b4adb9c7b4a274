"""What each script prints with --dry-run, compared with files in goldens/.

After an intended change, `python tests/launch/test_dry_runs.py` writes the files again; check the difference.
"""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens"
RUN = "-- python -m vit_jax.main --config=configs/pretrain.py:B/16,imagenet2012 --workdir=gs://BUCKET/b16"
MAIN = RUN.removeprefix("-- python -m vit_jax.main ")
COMMANDS = {
    "tpu_vm_create": "tpu_vm.sh create b16 --topology=v5e:16x16 --tier=spot --zone=us-west4-a",
    "tpu_vm_create_slices": "tpu_vm.sh create b16 --topology=v4:8x8x8 --slices=2 --tier=reserved --project=p",
    "tpu_vm_create_no_queue": "tpu_vm.sh create b16 --topology=v3:4x4 --no-queue",
    "tpu_vm_setup": "tpu_vm.sh setup b16 --zone=us-west4-a --bucket=BUCKET",
    "tpu_vm_run": f"tpu_vm.sh run b16 --cache=gs://BUCKET/cache --bucket=BUCKET {RUN}",
    "tpu_vm_status": "tpu_vm.sh status b16",
    "tpu_vm_logs": "tpu_vm.sh logs b16 --worker=3",
    "tpu_vm_stop": "tpu_vm.sh stop b16 --no-queue",
    "tpu_vm_resume": f"tpu_vm.sh resume b16 --topology=v6e:16x16 --tier=spot --zone=z {RUN}",
    "tpu_vm_delete": "tpu_vm.sh delete b16",
    "worker_setup": "worker.sh setup --bucket=BUCKET",
    "worker_start": f"worker.sh start --cache=gs://BUCKET/cache --bucket=BUCKET {RUN}",
    "worker_exec": f"worker.sh exec {RUN}",
    "worker_logs": "worker.sh logs",
    "worker_stop": "worker.sh stop",
    "gke": f"gke.py --name=b16 --topology=v5e:16x16 --image=IMAGE {MAIN}",
    "gke_all": "gke.py --name=b16 --topology=v6e:16x16 --slices=4 --image=IMAGE --queue=tpus --namespace=vision --spot "
    f"--service_account=trainer --cache=gs://BUCKET/cache --bucket=BUCKET {MAIN} --config.mesh.fsdp=16",
    "slurm": f"slurm.sh --nodes=1 --gpus=8 {RUN.replace('gs://BUCKET', '/shared')}",
    "slurm_all": "slurm.sh --nodes=4 --gpus=8 --name=b16 --time=12:00:00 --partition=gpu --account=vision "
    "--seconds=120 --cpus_per_gpu=12 --constraint=h100 --env=/shared/env --cache=/shared/cache "
    f"{RUN.replace('gs://BUCKET', '/shared')}",
}


def split(command):
    """Returns the script and its arguments, with --dry-run added before the command that is to be run."""
    script, *args = command.split()
    place = args.index("--") if "--" in args else len(args)
    return script, [*args[:place], "--dry-run", *args[place:]]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_dry_run_prints_what_it_would_do(launch, name):
    script, args = split(COMMANDS[name])
    done = launch(script, *args)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.replace(str(ROOT), "CLONE") == (GOLDENS / f"{name}.txt").read_text()


def test_every_golden_is_one_of_a_command():
    assert {path.stem for path in GOLDENS.iterdir()} == set(COMMANDS)


def main():
    for path in GOLDENS.iterdir():
        path.unlink()
    for name, command in COMMANDS.items():
        script, args = split(command)
        python = [sys.executable] if script.endswith(".py") else []
        done = subprocess.run(
            [*python, str(ROOT / "launch" / script), *args],
            env={"PATH": os.environ["PATH"], "HOME": "/home/user"},
            capture_output=True,
            text=True,
            check=True,
        )
        (GOLDENS / f"{name}.txt").write_text(done.stdout.replace(str(ROOT), "CLONE"))


if __name__ == "__main__":
    main()
