"""Checkpoints: those of a training run (`store`), and model files in published formats (`model_file`).

`load` and `save` are imported when they are first used, so that a command can report the user's mistakes before it
imports JAX.
"""

from typing import Any

__all__ = ["load", "save"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vit_jax.checkpoints import model_file

        return getattr(model_file, name)
    raise AttributeError(f"module 'vit_jax.checkpoints' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
