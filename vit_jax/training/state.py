"""The training state: a plain pytree, whose arrays are created on the devices with their final sharding."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array

from vit_jax import config as config_lib
from vit_jax import data, sharding
from vit_jax.models.build import initial_params
from vit_jax.models.functional import TASK, Params, flatten, is_own, of_model, split, unflatten
from vit_jax.models.model import Model
from vit_jax.randomness import stream_key
from vit_jax.tasks import Learner, make_task
from vit_jax.training.freeze import Freeze, optimizer_of
from vit_jax.training.optimizer import make_optimizer


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["step", "params", "opt_state", "average"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes."""

    step: jax.Array  # int32, the number of steps done, which is also the index of the next step
    params: Params
    opt_state: Any  # that of the trained parameters; frozen ones have none
    average: Params | None  # Polyak's, of all parameters but frozen ones of the task; None without averaging


def resolve(config: Any, recorded: Mapping[str, Any] | None = None) -> config_lib.Config:
    """Returns the typed config with every duration in steps.

    Args:
        config: a `Config` or a ConfigDict.
        recorded: what `data.describe` returned when the run began, if it is resumed.
    """
    return data.resolved(config, recorded)


def initial(config: config_lib.Config, params: Params) -> TrainState:
    """Returns the state before the first step, with the given parameters."""
    settings = optimizer_of(config)
    freeze = Freeze(settings, params)
    opt_state = make_optimizer(settings, params).init(freeze.split(params)[0])
    average = None
    if settings.average:
        moving = {path: x for path, x in flatten(params).items() if not (path in freeze.frozen and is_own(path))}
        # A copy, because two leaves of a donated state can't share a buffer.
        average = unflatten({path: jnp.copy(x) for path, x in moving.items()})
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, average)


def abstract_state(config: config_lib.Config, model: Model, mesh: Mesh | AbstractMesh) -> TrainState:
    """Returns the shapes and shardings of the state.

    Raises:
        UserError: `config.mesh.fsdp` does not divide the parameters of the model.
    """
    shapes = jax.eval_shape(functools.partial(initial, config), Learner(model, make_task(config.task)).shapes)
    sharding.check_fsdp(shapes.params, mesh)
    shardings = sharding.state_shardings(shapes, mesh)
    if config.optimizer.offload:
        on_host = sharding.in_memory("pinned_host", shapes.opt_state, shardings.opt_state)
        shardings = dataclasses.replace(shardings, opt_state=on_host)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def create_state(config: Any, model: Model, params: Params | None = None, mesh: Mesh | None = None) -> TrainState:
    """Returns the state before the first step, sharded over the mesh.

    Args:
        config: a `Config` or a ConfigDict.
        model: its parameters are the initial ones. If it is abstract (from `nnx.eval_shape`), they are drawn with
            `config.seed`, and each device draws its own shards.
        params: initial parameters on the host, in place of those of the model.
        mesh: by default the mesh of the config over all devices.

    Raises:
        UserError: what is wrong with the config.
    """
    config = resolve(config)
    mesh = mesh or sharding.make_mesh(config.mesh)
    task = make_task(config.task)
    learner = Learner(model, task)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, model, mesh))
    given = _placed({TASK: task.given(model)}, shardings.params)
    params = split(model)[1] if params is None else params
    # The seed is an argument and no constant, so that runs that differ in their seed have the same program.
    root = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):

        def draw(given: Params, root: Array) -> TrainState:
            key = jax.random.wrap_key_data(root)
            drawn = initial_params(model.arch, stream_key(key, "parameters"))
            return initial(config, learner.with_own(drawn, key, given))

        return jax.jit(draw, out_shardings=shardings)(given, root)

    def begin(params: Params, given: Params, root: Array) -> TrainState:
        # A copy, so that the arrays of the model are not donated with the state.
        own = learner.with_own(jax.tree.map(jnp.copy, params), jax.random.wrap_key_data(root), given)
        return initial(config, own)

    return jax.jit(begin, out_shardings=shardings)(_placed(params, shardings.params), given, root)


def _placed(params: Params, shardings: Params) -> Params:
    """Returns parameters as arrays on the devices. `shardings` has theirs by the same path, and may have others."""
    flat, where = flatten(params), flatten(shardings)
    return unflatten(sharding.placed(flat, {path: where[path] for path in flat}))


def evaluated(state: TrainState) -> Params:
    """Returns the parameters that are evaluated and saved as the model: the averages of those that have one."""
    return state.params if state.average is None else unflatten({**flatten(state.params), **flatten(state.average)})


def to_model(model: Model, state: TrainState) -> Model:
    """Returns the model with the weights of a state: the averaged ones, if the state has them.

    The weights are copies, because the next step donates the arrays of the state.
    """
    return split(model)[0](jax.tree.map(jnp.copy, of_model(evaluated(state))))
