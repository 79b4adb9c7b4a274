"""Models: `create` builds one by its name. This folder knows nothing of data or training."""

from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.build import build, create
from vit_jax.models.model import Model
from vit_jax.models.variants import list_models
from vit_jax.models.vit import VisionTransformer

__all__ = ["Architecture", "Model", "Preprocessing", "VisionTransformer", "build", "create", "list_models"]
