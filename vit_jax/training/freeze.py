"""Which parameters are learned. Frozen ones are constants of the step: no gradient, no moments, no average.

Of a stack in which only some layers are frozen the whole leaf is trained, and the frozen layers' gradients are set to
zero: a stacked leaf is one array.
"""

from typing import Any

from vit_jax.config import Optimizer
from vit_jax.errors import UserError
from vit_jax.models.functional import Params, flatten, split, unflatten
from vit_jax.models.model import Model
from vit_jax.training import patterns


class Freeze:
    """What `config.optimizer.freeze` makes of the parameters.

    Attributes:
        factors: by inner path, 0 for what is frozen, 1 for what is trained, or a vector over a stack's layers.
        frozen: the inner paths of the constants.

    Raises:
        UserError: a pattern that is no regular expression or matches nothing, or nothing is left to learn.
    """

    def __init__(self, settings: Optimizer, params: Params):
        self.factors = patterns.factors(params, [(pattern, 0.0) for pattern in settings.freeze], "freeze")
        self.frozen = {path for path, factor in self.factors.items() if isinstance(factor, float) and not factor}
        if len(self.frozen) == len(self.factors):
            raise UserError(
                "config.optimizer.freeze finds every parameter, so nothing is left to learn; leave some out"
            )

    def split(self, params: Params) -> tuple[Params, Params]:
        """Returns the trained parameters and the frozen ones; of other leaves of the same paths likewise."""
        flat = flatten(params)
        trained: dict[str, Any] = {path: leaf for path, leaf in flat.items() if path not in self.frozen}
        frozen: dict[str, Any] = {path: leaf for path, leaf in flat.items() if path in self.frozen}
        return unflatten(trained), unflatten(frozen)

    def zero(self, gradients: Params) -> Params:
        """Returns the gradients of the trained parameters, zero where a layer of a stack is frozen."""
        return patterns.scaled(gradients, self.factors)


def join(trained: Params, frozen: Params) -> Params:
    """Returns all parameters: what `Freeze.split` has taken apart."""
    return unflatten({**flatten(trained), **flatten(frozen)})


def frozen(settings: Optimizer, model: Model) -> set[str]:
    """Returns the inner paths of a model's parameters that are constants of the step. Raises as `Freeze` does."""
    return Freeze(settings, split(model)[1]).frozen
