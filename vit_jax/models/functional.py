"""Between a module and its parameters: the functional shell around NNX.

Training holds parameters as a plain nested dict of arrays, `{"encoder": {"blocks": …}, …}`, and a model as a function
of them.
"""

from collections.abc import Callable
from typing import Any

from flax import nnx

Params = dict[str, Any]


def split(model: nnx.Module) -> tuple[Callable[[Params], Any], Params]:
    """A function from parameters to the module, and the module's parameters (arrays, or shapes of an abstract one)."""
    graphdef, state = nnx.split(model)
    return lambda params: nnx.merge(graphdef, nnx.State(params)), nnx.to_pure_dict(state)
