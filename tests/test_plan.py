"""The command `plan`: the table and the JSON of a small job, and errors of one sentence."""

import json
import pathlib
import signal

import pytest

JOB = (
    f"--config={pathlib.Path(__file__).parent / 'small.py'}",
    "--config.data.name=digits",
    "--config.data.num_examples=1024",  # needed because the small config sets it for other images
    "--config.data.num_classes=10",
)


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def plan(start, *args, without=("tensorflow",)):
    return ended(start("plan", *JOB, *args, without=without))


def test_a_plan_and_its_files(tpu_compiler, start, tmp_path):
    files = f"--json={tmp_path / 'plan.json'}", f"--hlo={tmp_path / 'step.txt'}"
    code, out, err = plan(start, "--topology=v5e:2x2", *files)
    assert code == 0, err
    for said in ("fits", "yes, ", "of 15.75 GiB a device", "compute bound", "chip-hours", "MFU"):
        assert said in out
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["fits"] is True
    assert found["total_chip_hours"] > 0
    assert (tmp_path / "step.txt").read_text().startswith("HloModule")


@pytest.mark.slow
def test_sweep(tpu_compiler, start, tmp_path):
    file = tmp_path / "sweep.json"
    sweep = "--sweep=global_batch_size=16,18", "--sweep=mesh.fsdp=1,4", f"--json={file}"
    code, out, err = plan(start, "--topology=v5e:2x2", *sweep)
    assert code == 0, err
    assert out.count("--config.global_batch_size=18") == 2
    assert "does not divide over 4 devices" in out
    found = json.loads(file.read_text())
    assert [record["settings"]["global_batch_size"] for record in found] == ["16", "16", "18", "18"]
    assert found[0]["images_per_second"] >= found[1]["images_per_second"]
    assert "refused" in found[2]


def test_a_signal_while_it_compiles(tpu_compiler, start, tmp_path):
    """A signal during compilation ends with one sentence, although libtpu's own handlers print a stack trace."""
    file = tmp_path / "sweep.json"
    large = "--config.model.depth=12", "--config.model.scan=false", "--topology=v5e:2x2", f"--json={file}"
    command = *JOB, *large, "--sweep=global_batch_size=18,16"
    process = start("plan", *command)
    lines = [process.stderr.readline() for _ in range(2)]
    assert "1 of 2: --config.global_batch_size=18: " in lines[0], lines
    assert "compiling --config.global_batch_size=16 for v5e:2x2" in lines[1], lines
    process.send_signal(signal.SIGTERM)
    code, out, err = ended(process)
    assert (code, out) == (143, "")
    assert err == f"error: ended by SIGTERM; {file} keeps what is done (1), and --resume goes on from there\n"
    code, out, err = ended(start("plan", *command))
    assert code == 1 and "add --resume" in err
    assert len(json.loads(file.read_text())) == 1


def test_gpus(start):
    code, out, err = plan(start, "--topology=h100:4")
    assert code == 0, err
    assert "not known: nothing was compiled for GPUs" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), ["--topology=v5e:16x16"]),
        (("--topology=v9:2x2",), ["v5e:16x16", "v6e"]),
        (("--topology=v5e:2x2", "--config.mesh.fsdp=3"), ["does not multiply", "4 devices"]),
        (("--topology=h100:4", "--config.global_batch_size=18"), ["does not divide over 4"]),
        (("--topology=v5e:2x2", "--sweep=mesh.fspd=1,2"), ["mesh.fspd", "config.mesh.fsdp"]),
        (("--topology=v5e:2x2", "--sweep=mesh.fsdp"), ["no values"]),
        (("--topology=v5e:2x2", "--json=/no/such/folder/plan.json"), ["/no/such/folder"]),
        (("--topology=v5e:2x2", "--largest", "--hlo=step.txt"), ["one program"]),
        (("--topology=v5e:2x2", "--largest", "--sweep=seed=1,2"), ["one at a time"]),
        (("--topology=v5e:2x2", "--resume"), ["--json=FILE"]),
        (("more",), ["'more'"]),
    ],
)
def test_bad_input(start, args, said):
    code, out, err = plan(start, *args)
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert all(word in err for word in said), err
