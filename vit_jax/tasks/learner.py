"""A model and its task's own modules as one tree of parameters, which is what a run trains."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Key

from vit_jax.models.functional import TASK, Params, flatten, of_model, split, unflatten
from vit_jax.models.model import Model
from vit_jax.randomness import stream_key
from vit_jax.tasks.task import Task


class Learner:
    """What a step binds its parameters to.

    Attributes:
        has_own: whether the task has modules of its own.
        shapes: of all parameters: the model's, and the task's under the key `task`, if it has some.
    """

    def __init__(self, model: Model, task: Task):
        self._arch, self._task = model.arch, task
        self._bind, params = split(model)
        own = nnx.eval_shape(lambda: task.modules(model.arch, nnx.Rngs(0)))
        self._bind_own: Any = None
        self.has_own = own is not None
        if own is not None:
            self._bind_own, own_params = split(own)
            params = {**params, TASK: own_params}
        self.shapes: Params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)

    def bind(self, params: Params) -> tuple[Model, Any]:
        """Returns the model, and the task's own modules or None, with some parameters."""
        return self.model(params), self._bind_own(params[TASK]) if self._bind_own else None

    def model(self, params: Params) -> Model:
        """Returns the model with some parameters; those of the task need not be among them."""
        return self._bind(of_model(params))

    def with_own(self, params: Params, seed: int | Key[Array, ""], given: Params) -> Params:
        """Returns a model's parameters with initial ones of the task's own beside them; may be traced.

        `seed` is a seed or its key. `given` has those of them, under the key `task`, that are not to be drawn; see
        `Task.given`.
        """
        own = self._task.modules(self._arch, nnx.Rngs(stream_key(seed, "task")))
        if own is None:
            return params
        return {**params, **unflatten({**flatten({TASK: split(own)[1]}), **flatten(given)})}
