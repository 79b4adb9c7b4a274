"""Vision Transformers in JAX: create, load, save, train and evaluate them.

    model = vit_jax.create("B/16", num_classes=1000, image_size=224)
    logits = model(images)

Importing this package does not import JAX, so that the commands start fast: each public name is imported when it is
first used. If libtpu is installed and the machine seems to have no TPU, importing this package sets environment
variables that keep libtpu from printing messages (see `no_tpu.py`).
"""

import importlib
from typing import Any

from vit_jax import no_tpu

__version__ = "0.1.0"

_PUBLIC = {
    "create": "vit_jax.models",
    "list_models": "vit_jax.models",
    "tabulate": "vit_jax.models",
    "load_config": "vit_jax.config_file",
    "load": "vit_jax.checkpoints",
    "save": "vit_jax.checkpoints",
    "read_images": "vit_jax.data",
    "train": "vit_jax.training",
    "evaluate": "vit_jax.evaluation",  # the module of this name is its command line, and is not for import
    "export": "vit_jax.exporting",  # and so is this one
    "show": "vit_jax.showing",
    "read_metrics": "vit_jax.showing",
    "plot_metrics": "vit_jax.showing",
    "UserError": "vit_jax.errors",
}
_FOLDERS = ("analysis", "checkpoints", "config", "data", "evaluation", "models", "sharding", "studies", "training")

__all__ = [*_PUBLIC, *_FOLDERS]

no_tpu.quiet()


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _FOLDERS:
        return importlib.import_module(f"vit_jax.{name}")
    raise AttributeError(f"module 'vit_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
