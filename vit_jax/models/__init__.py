"""Models: `create` builds one by its name. This folder knows nothing of data or training."""

from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.vit import VisionTransformer, create

__all__ = ["Architecture", "Preprocessing", "VisionTransformer", "create"]
