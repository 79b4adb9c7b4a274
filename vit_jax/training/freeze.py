"""Splits the parameters into trained and frozen ones.

Frozen parameters are constants of the step. They have no gradient, no moments in the optimizer and no average. A
stacked parameter is one array: if only some of its layers are frozen, it is trained as a whole, and the gradients of
the frozen layers are set to zero.
"""

import dataclasses
from typing import Any

from vit_jax.config import Config, Optimizer
from vit_jax.errors import UserError
from vit_jax.models.functional import Params, flatten, unflatten
from vit_jax.models.model import Model
from vit_jax.tasks import Learner, make_task
from vit_jax.training import patterns


def optimizer_of(config: Config) -> Optimizer:
    """Returns the section `optimizer` of a config, whose `freeze` also has the patterns that the task freezes.

    They come first, because a pattern that finds nothing that an earlier one has not is an error, and those of a config
    often find everything but the head.
    """
    own = make_task(config.task).frozen
    return dataclasses.replace(config.optimizer, freeze=(*own, *config.optimizer.freeze))


class Freeze:
    """The split of the parameters by the key `freeze` of the section that `optimizer_of` returns.

    Attributes:
        factors: by path inside the model: 0 for a frozen parameter, 1 for a trained one, or an array over the layers of
            a stack.
        frozen: the paths of the frozen parameters.

    Raises:
        UserError: a pattern is no regular expression or matches no parameter, or all parameters are frozen.
    """

    def __init__(self, settings: Optimizer, params: Params):
        self.factors = patterns.factors(params, [(pattern, 0.0) for pattern in settings.freeze], "freeze")
        self.frozen = {path for path, factor in self.factors.items() if isinstance(factor, float) and not factor}
        if len(self.frozen) == len(self.factors):
            raise UserError(
                "config.optimizer.freeze finds every parameter, so nothing is left to learn; leave some out"
            )

    def split(self, params: Params) -> tuple[Params, Params]:
        """Returns the trained and the frozen parameters. Trees with the same paths, such as averages, also fit."""
        flat = flatten(params)
        trained: dict[str, Any] = {path: leaf for path, leaf in flat.items() if path not in self.frozen}
        frozen: dict[str, Any] = {path: leaf for path, leaf in flat.items() if path in self.frozen}
        return unflatten(trained), unflatten(frozen)

    def zero(self, gradients: Params) -> Params:
        """Returns the gradients of the trained parameters, with zeros for the frozen layers of stacks."""
        return patterns.scaled(gradients, self.factors)


def join(trained: Params, frozen: Params) -> Params:
    """Returns all parameters, from the two parts that `Freeze.split` returns."""
    return unflatten({**flatten(trained), **flatten(frozen)})


def frozen(config: Config, model: Model) -> set[str]:
    """Returns the paths of the frozen parameters of a model and of the config's task. Raises UserError as `Freeze`."""
    return Freeze(optimizer_of(config), Learner(model, make_task(config.task)).shapes).frozen
