"""Vision Transformers in JAX: train, transfer and use them."""

__version__ = "0.1.0"
