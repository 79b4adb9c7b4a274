"""The models. `create` builds one by its name. This package does not depend on `vit_jax.data` or `vit_jax.training`."""

from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.build import build, create
from vit_jax.models.model import Model
from vit_jax.models.table import tabulate
from vit_jax.models.variants import list_models
from vit_jax.models.vit import VisionTransformer

__all__ = ["Architecture", "Model", "Preprocessing", "VisionTransformer", "build", "create", "list_models", "tabulate"]
