"""A plan of one job: what it needs and how long it takes on a slice."""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh

from vit_jax import config as config_lib
from vit_jax import sharding
from vit_jax.models import flops
from vit_jax.models.model import Model
from vit_jax.planning import watch
from vit_jax.planning.compiling import Memory, compile_step, model_of
from vit_jax.planning.estimate import StepSeconds, gpu_collectives, gpu_seconds, link, step_seconds
from vit_jax.planning.program import Collective, parse
from vit_jax.planning.slices import Slice, devices
from vit_jax.training import freeze
from vit_jax.training.state import TrainState, abstract_state, resolve


@dataclasses.dataclass(frozen=True)
class Moved:
    """All collectives of a kind over a kind of link, of one device in one step."""

    count: int
    bytes: int
    link: str  # ici, between chips of a slice; dcn, between slices or nodes; chip, between the two cores of one
    overlapped_bytes: int  # of these, those that move while something is computed


@dataclasses.dataclass(frozen=True)
class Plan:
    """As `--json` writes it. Of a job that does not fit everything is None that only a program can tell."""

    topology: str
    slices: int
    devices: int
    chips: int
    mesh: dict[str, int]
    parameters: int
    global_batch_size: int
    total_steps: int
    compiled: bool  # else analytic: of GPUs nothing is compiled
    fits: bool | None  # None where it is not known
    hbm_per_device: Memory
    flops_per_step: int  # of the whole job, 2 a multiply-add: three forwards, less what `optimizer.freeze` saves
    total_exaflops: float
    step_seconds: StepSeconds | None
    images_per_second: float | None
    mfu: float | None
    collectives: dict[str, Moved]
    kernels: tuple[str, ...]  # custom kernels in the program, of whose time nothing is known
    compile_seconds: float | None
    total_hours: float | None  # of training, without evaluations, checkpoints and start
    total_chip_hours: float | None


def from_record(record: dict[str, Any]) -> Plan:
    """Returns the plan that was written as JSON by `dataclasses.asdict`; other keys of the record are ignored."""
    known = {field.name: record[field.name] for field in dataclasses.fields(Plan)}
    times = known["step_seconds"]
    changes = {
        "hbm_per_device": Memory(**known["hbm_per_device"]),
        "step_seconds": StepSeconds(**times) if times else None,
        "collectives": {op: Moved(**moved) for op, moved in known["collectives"].items()},
        "kernels": tuple(known["kernels"]),
    }
    return Plan(**{**known, **changes})


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a program tells, or for GPUs the analytic part."""

    fits: bool | None
    memory: Memory
    times: StepSeconds | None = None
    collectives: dict[str, Moved] = dataclasses.field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    seconds: float | None = None
    text: str = ""


def make_plan(config: Any, where: Slice, name: str = "the step") -> tuple[Plan, str]:
    """The plan of a config on a slice, and the compiled program's text (empty where there is none).

    While it compiles, lines of the log say so of `name`.

    Raises:
        UserError: a mesh or a batch that does not divide, no libtpu, and what is wrong with the config.
    """
    config = resolve(config)
    model = model_of(config)
    size, steps = config.global_batch_size, config.total_steps
    assert steps is not None
    # Checked before the compiler is asked for: what does not divide is wrong without one, too.
    mesh: Mesh | AbstractMesh
    mesh = AbstractMesh(sharding.mesh_shape(config.mesh, where.devices, where.slices), sharding.AXES)
    sharding.check_batch(mesh, size, "global_batch_size", config.accumulation_steps)
    if where.chip.tpu:
        mesh = sharding.make_mesh(config.mesh, devices(where))
    work = flops.step(model, size, freeze.frozen(config.optimizer, model))
    state = abstract_state(config, model, mesh)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if isinstance(mesh, Mesh):
        with watch.progress(f"{name} for {where}"):
            found = _compiled(config, model, mesh, where, work, _held(state))
    else:
        found = _analytic(state, parameters, mesh, where, work, model.arch.dtype)
    estimate = found.times.estimate if found.times else None
    hours = estimate and estimate * steps / 3600
    plan = Plan(
        topology=str(where),
        slices=where.slices,
        devices=where.devices,
        chips=where.chips,
        mesh=dict(mesh.shape),
        parameters=parameters,
        global_batch_size=size,
        total_steps=steps,
        compiled=where.chip.tpu,
        fits=found.fits,
        hbm_per_device=found.memory,
        flops_per_step=work,
        total_exaflops=work * steps / 1e18,
        step_seconds=found.times,
        images_per_second=estimate and size / estimate,
        mfu=estimate and work / (estimate * where.devices * where.chip.device_peak),
        collectives=found.collectives,
        kernels=found.kernels,
        compile_seconds=found.seconds,
        total_hours=hours,
        total_chip_hours=hours and hours * where.chips,
    )
    return plan, found.text


def _compiled(config: config_lib.Config, model: Model, mesh: Mesh, where: Slice, work: int, held: int) -> _Found:
    compiled = compile_step(config, model, mesh, where.chip.hbm)
    if not compiled.fits:
        memory = compiled.memory
        if memory.arguments is None:  # the compiler refused; of the arguments the state is known all the same
            memory = dataclasses.replace(memory, arguments=held)
        return _Found(False, memory, seconds=compiled.seconds)
    program, order = parse(compiled.text), list(mesh.devices.flat)
    return _Found(
        True,
        compiled.memory,
        step_seconds(work, program, where, order),
        _moved(program.collectives, where, order),
        program.kernels,
        compiled.seconds,
        compiled.text,
    )


def _analytic(state: TrainState, parameters: int, mesh: AbstractMesh, where: Slice, work: int, dtype: str) -> _Found:
    held = _held(state)
    memory = Memory(held, 0, None, None, int(where.chip.hbm))
    if held > where.chip.hbm:
        return _Found(False, memory)
    collectives = gpu_collectives(parameters, dict(mesh.shape), dtype)
    return _Found(None, memory, gpu_seconds(work, collectives, where), _moved(collectives, where, []))


def _held(state: TrainState) -> int:
    """The state's bytes in one device's own memory."""
    leaves = jax.tree.leaves(state)
    return sum(_bytes_a_device(leaf) for leaf in leaves if leaf.sharding.memory_kind != "pinned_host")


def _bytes_a_device(leaf: jax.ShapeDtypeStruct) -> int:
    assert leaf.sharding is not None
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _moved(collectives: tuple[Collective, ...], where: Slice, order: list[Any]) -> dict[str, Moved]:
    """By operation; what goes over other links than `ici` is named for them."""
    moved: dict[str, Moved] = {}
    for collective in collectives:
        kind = link(collective, where, order).kind
        key = collective.op if kind == "ici" else f"{collective.op} ({kind})"
        so_far = moved.get(key, Moved(0, 0, kind, 0))
        size = collective.count * collective.bytes
        moved[key] = dataclasses.replace(
            so_far,
            count=so_far.count + collective.count,
            bytes=so_far.bytes + size,
            overlapped_bytes=so_far.overlapped_bytes + size * collective.overlapped,
        )
    return moved
