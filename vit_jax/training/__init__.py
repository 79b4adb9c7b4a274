"""Training: the state, the step and the loop.

Names are imported when they are first used. Importing one file of this folder therefore does not import the loop.
"""

import importlib
from typing import Any

_PUBLIC = {
    "TrainState": "vit_jax.training.state",
    "create_state": "vit_jax.training.state",
    "make_step": "vit_jax.training.step",
    "model_of": "vit_jax.training.start",
    "preprocessed": "vit_jax.models.preprocessed",
    "resolve": "vit_jax.training.state",
    "to_model": "vit_jax.training.state",
    "train": "vit_jax.training.loop",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'vit_jax.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
