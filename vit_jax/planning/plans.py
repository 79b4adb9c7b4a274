"""Makes the plan of one training job: the memory that it needs on a slice, and how long it takes there."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh

from vit_jax import config as config_lib
from vit_jax import sharding
from vit_jax.models.functional import flatten, of_model
from vit_jax.models.model import Model
from vit_jax.planning import watch
from vit_jax.planning.compiling import Memory, compile_step, model_of
from vit_jax.planning.estimate import StepSeconds, gpu_collectives, gpu_seconds, link, step_seconds
from vit_jax.planning.program import Collective, parse
from vit_jax.planning.slices import Slice, devices
from vit_jax.training import freeze
from vit_jax.training.state import TrainState, abstract_state, resolve
from vit_jax.training.work import flops_of_step


@dataclasses.dataclass(frozen=True)
class Moved:
    """The sum of all collectives of one kind over one kind of link, for one device and one step."""

    count: int  # executions
    bytes: int
    link: str  # `ici` between chips of a slice, `dcn` between slices or nodes, `chip` between the two cores of a chip
    overlapped_bytes: int  # the part of `bytes` that is sent while the device computes


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of one job, with the fields that `--json` writes.

    A job that does not fit has no usable program. The fields that are read from the program or computed from its step
    time are then None or empty: `step_seconds`, `images_per_second`, `mfu`, `collectives`, `kernels`, `total_hours` and
    `total_chip_hours`. For GPUs nothing is compiled: `compile_seconds` is None.
    """

    topology: str  # one slice, such as v5e:16x16
    slices: int
    devices: int  # in all slices
    chips: int  # in all slices
    mesh: dict[str, int]  # the size of each axis
    parameters: int  # of the model, without those of its task
    global_batch_size: int
    total_steps: int
    compiled: bool  # False for GPUs: the step time follows from published figures, and nothing is compiled
    fits: bool | None  # None if it is not known, as for GPUs
    hbm_per_device: Memory
    flops_per_step: int  # on all devices: three times the forward pass, less what is frozen saves, and the task's own
    total_exaflops: float  # of the whole run
    step_seconds: StepSeconds | None
    images_per_second: float | None
    mfu: float | None  # model FLOPs utilisation, from 0 to 1: `flops_per_step` over what the chips do at their peak
    collectives: dict[str, Moved]
    kernels: tuple[str, ...]  # custom kernels in the program, whose time is not known and not in the estimate
    compile_seconds: float | None
    total_hours: float | None  # training alone, without evaluations, checkpoints and start
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
    """The part of a plan that needs a compiled program, or for GPUs what is known without one."""

    fits: bool | None
    memory: Memory
    times: StepSeconds | None = None
    collectives: dict[str, Moved] = dataclasses.field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    seconds: float | None = None
    text: str = ""


def make_plan(config: Any, where: Slice, name: str = "the step") -> tuple[Plan, str]:
    """Returns the plan of a config on a slice, and the text of the compiled program.

    The text is empty if nothing was compiled (GPUs) or if the program does not fit.

    Args:
        config: a config as a file gives it, or a typed one.
        where: the slice or the GPUs.
        name: what the log calls the job while it is being compiled.

    Raises:
        UserError: the mesh does not multiply to the number of devices, the batch does not divide over the mesh, libtpu
            is not installed, or the config is wrong.
    """
    config = resolve(config)
    model = model_of(config)
    size, steps = config.global_batch_size, config.total_steps
    assert steps is not None
    # The mesh and the batch are checked before libtpu is needed: these errors do not depend on it.
    mesh: Mesh | AbstractMesh
    mesh = AbstractMesh(sharding.mesh_shape(config.mesh, where.devices, where.slices), sharding.AXES)
    sharding.check_batch(mesh, size, "global_batch_size", config.accumulation_steps)
    if where.chip.tpu:
        mesh = sharding.make_mesh(config.mesh, devices(where))
    work = flops_of_step(config, model, size)
    state = abstract_state(config, model, mesh)
    if isinstance(mesh, Mesh):
        with watch.progress(f"{name} for {where}"):
            found = _compiled(config, model, mesh, where, work, _held(state))
    else:
        found = _analytic(state, freeze.frozen(config, model), mesh, where, work, model.arch.dtype)
    estimate = found.times.estimate if found.times else None
    hours = estimate and estimate * steps / 3600
    plan = Plan(
        topology=str(where),
        slices=where.slices,
        devices=where.devices,
        chips=where.chips,
        mesh=dict(mesh.shape),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(of_model(state.params))),
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
        if memory.arguments is None:  # the compiler refused the program, but the size of the state is known without it
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


def _analytic(
    state: TrainState, frozen: Collection[str], mesh: AbstractMesh, where: Slice, work: int, dtype: str
) -> _Found:
    held = _held(state)
    sizes = {path: leaf.size for path, leaf in flatten(state.params).items()}
    trained = sum(size for path, size in sizes.items() if path not in frozen)
    memory = Memory(held, 0, None, None, int(where.chip.hbm))
    if held > where.chip.hbm:
        return _Found(False, memory)
    collectives = gpu_collectives(sum(sizes.values()), trained, dict(mesh.shape), dtype)
    return _Found(None, memory, gpu_seconds(work, collectives, where), _moved(collectives, where, []))


def _held(state: TrainState) -> int:
    """Returns the bytes of the training state in one device's own memory, without what is kept on the host."""
    leaves = jax.tree.leaves(state)
    return sum(_bytes_a_device(leaf) for leaf in leaves if leaf.sharding.memory_kind != "pinned_host")


def _bytes_a_device(leaf: jax.ShapeDtypeStruct) -> int:
    assert leaf.sharding is not None
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _moved(collectives: tuple[Collective, ...], where: Slice, order: list[Any]) -> dict[str, Moved]:
    """Returns the sums of the collectives by operation; for links other than `ici` the key names the link, too."""
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
