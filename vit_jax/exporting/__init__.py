"""Files that compute a model without this package: StableHLO, for JAX and other runtimes of XLA, and ONNX.

`export` is imported when it is first used, so that the command can report the user's mistakes before it imports JAX.
"""

from typing import Any

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vit_jax.exporting.job import export

        return export
    raise AttributeError(f"module 'vit_jax.exporting' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
