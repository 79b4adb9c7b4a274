"""Plans of small jobs: for TPUs with the TPU compiler, and for GPUs by formulas."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import pytest

from vit_jax import data, sharding
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.planning import compiling, plans, slices
from vit_jax.training import compiler
from vit_jax.training.state import resolve

FIELDS = {  # users of the JSON rely on these names
    "topology", "slices", "devices", "chips", "parameters", "global_batch_size", "fits", "hbm_per_device",
    "flops_per_step", "step_seconds", "images_per_second", "mfu", "collectives", "compile_seconds", "total_chip_hours",
}  # fmt: skip


@pytest.fixture(scope="module")
def plan(small, four):
    digits = {"data.name": "digits", "data.num_examples": 1024, "data.num_classes": 10}
    return plans.make_plan(small({**digits, "mesh.fsdp": 2, "model.width": 128}), four)


def test_a_plan(plan, four):
    found, text = plan
    assert json.loads(json.dumps(dataclasses.asdict(found))).keys() >= FIELDS
    assert (found.topology, found.devices, found.chips, found.fits) == ("v5e:2x2", 4, 4, True)
    assert found.mesh == {"data": 2, "fsdp": 2, "tensor": 1, "sequence": 1}
    memory, times = found.hbm_per_device, found.step_seconds
    assert memory.total == memory.arguments + memory.outputs + memory.temporaries < memory.limit == int(15.75 * 2**30)
    assert times.estimate > max(times.compute, times.memory, times.interconnect) > 0
    assert times.compute == pytest.approx(found.flops_per_step / (4 * 197e12))
    assert found.images_per_second == pytest.approx(16 / times.estimate)
    assert found.mfu == pytest.approx(times.compute / times.estimate)
    assert found.total_chip_hours == pytest.approx(12 * times.estimate * 4 / 3600)
    assert "HloModule jit_step" in text


def test_parameters_are_gathered_and_gradients_scattered(plan):
    """Over fsdp, the parameters are gathered before they are used, and gradients are also reduced."""
    found, _ = plan
    gathered = found.collectives["all-gather"]
    assert gathered.link == "ici"
    assert gathered.bytes > found.parameters  # in bytes; 2 for each parameter in bfloat16, 4 in float32
    assert "all-reduce" in found.collectives


def test_the_batch_is_what_data_yields(job, four):
    config = resolve(job())
    model = compiling.model_of(config)
    mesh = sharding.make_mesh(config.mesh, jax.devices())
    batch = next(data.batches(config))
    for name, shape in compiling.abstract_batch(config, model, mesh).items():
        assert (shape.shape, shape.dtype) == (batch[name].shape, batch[name].dtype)


def test_a_job_that_does_not_fit(job, four):
    found, text = plans.make_plan(job({"model.width": 32768, "model.mlp_dim": 2**18}), four)
    assert found.fits is False
    assert found.hbm_per_device.total > found.hbm_per_device.limit
    assert found.step_seconds is found.mfu is found.total_chip_hours is None
    assert not text
    assert found.flops_per_step > 0


@pytest.mark.slow
def test_across_slices_go_gradients_alone(tpu_compiler, job):
    config = job({"mesh.data": 2, "mesh.fsdp": 4, "model.width": 128, "model.mlp_dim": 512})
    found, _ = plans.make_plan(config, slices.parse("v5e:2x2", 2))
    assert found.devices == 8
    crossing = [moved for moved in found.collectives.values() if moved.link == "dcn"]
    gradients = 4 * found.parameters / 4  # bytes of the float32 gradients of one device, which holds a quarter of them
    assert 0.9 * gradients < sum(moved.bytes for moved in crossing) < 1.3 * gradients


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mesh.fsdp": 3}, "does not multiply to the 4 devices"),
        ({"global_batch_size": 18}, "does not divide over 4 devices; take 16 say"),
        ({"accumulation_steps": 8}, "in 8 micro-batches"),
    ],
)
def test_what_does_not_divide(job, four, changes, said):
    with pytest.raises(UserError, match=said):
        plans.make_plan(job(changes), four)


def test_only_data_goes_across_slices(tpu_compiler, job):
    with pytest.raises(UserError, match="data=1, which does not divide over 2 slices"):
        plans.make_plan(job({"mesh.data": 1, "mesh.fsdp": 8}), slices.parse("v5e:2x2", 2))


def test_gpus(job):
    config = job({"mesh.fsdp": 8, "model.dtype": "bfloat16"})
    found, text = plans.make_plan(config, slices.parse("h100:16"))
    assert (found.compiled, found.fits, text) == (False, None, "")
    assert found.hbm_per_device.arguments > found.parameters * 16 / 8  # 16 bytes: parameter, two moments, average
    assert found.collectives["all-gather (dcn)"].bytes == 2 * 2 * found.parameters
    large = plans.make_plan(job({"model.width": 32768, "model.mlp_dim": 2**18}), slices.parse("h100:4"))[0]
    assert large.fits is False


def test_a_probe_is_planned_as_such(job):
    """Its step is a forward pass, up to the head's gradient."""
    config = job({"optimizer.freeze": ("^(?!head/)",)})
    model = compiling.model_of(resolve(config))
    found, _ = plans.make_plan(config, slices.parse("h100:16"))
    assert flops.forward(model, 16) < found.flops_per_step < 1.01 * flops.forward(model, 16)


@pytest.mark.slow
def test_arguments_count_too(job, four):
    """The arguments count: with memory only for its temporaries, a program does not fit, although it compiles."""
    config = resolve(job())
    model = compiling.model_of(config)
    mesh = sharding.make_mesh(config.mesh, slices.devices(four))
    memory = compiling.compile_step(config, model, mesh, four.chip.hbm).memory
    assert compiling.compile_step(config, model, mesh, memory.total).fits
    found = compiling.compile_step(config, model, mesh, memory.temporaries)
    assert (found.fits, found.text, found.memory.total) == (False, "", memory.total)


def test_the_step_brings_the_compilers_options(job, four, monkeypatch):
    monkeypatch.setitem(compiler.OPTIONS, "v5e", {"xla_tpu_no_such_option": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_no_such_option"):
        plans.make_plan(job(), four)


def test_bytes_of_a_refusal():
    wanted = compiling._wanted
    assert wanted("… Used 20.50G of 15.75G hbm. Exceeded …") == int(20.5 * 2**30)
    assert wanted("memory required for HLO temporaries (512.00M) exceeds available HBM (7.48G)") == 512 * 2**20
    assert wanted("out of memory") is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain.py:S/16,imagenet2012", "pretrain.py:Mixer-B/16,imagenet2012"])
def test_operations_agree_with_the_tpu_compiler(name, four):
    """Our count of operations and the compiler's agree to 3 %. The compiler also counts more than matrix products."""
    from vit_jax import command_line

    overrides = [("model.scan", "false"), ("global_batch_size", "32"), ("model.dropout", "0.0")]
    config = resolve(command_line.load_config(f"configs/{name}", overrides))
    model = compiling.model_of(config)
    mesh = sharding.make_mesh(config.mesh, slices.devices(four))
    from vit_jax.training.state import abstract_state
    from vit_jax.training.step import make_step

    state, batch = abstract_state(config, model, mesh), compiling.abstract_batch(config, model, mesh)
    compiled = make_step(config, model, mesh).lower(state, batch).compile()
    assert 4 * compiled.cost_analysis()["flops"] == pytest.approx(flops.step(model, 32), rel=0.03)


@pytest.mark.slow
def test_a_probe_costs_a_forward_pass_by_the_tpu_compiler(tpu_compiler):
    """As benchmarks/probe.py counts it: cycles, and numbers kept: two moments of the head alone and a counter."""
    script = pathlib.Path(__file__).parents[2] / "benchmarks" / "probe.py"
    command = [sys.executable, script, "--model=S/16", "--batch=64", "--topology=v5e:1x1", "--scan"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {name: numbers for name, *numbers in map(str.split, out.splitlines()[2:])}
    assert rows.keys() == {"forward", "probe", "full"}
    assert float(rows["probe"][1]) <= 1.25 < 3 < float(rows["full"][1])
    assert rows["probe"][3] == f"{2 * (384 + 1) * 1000 + 1:,}"
