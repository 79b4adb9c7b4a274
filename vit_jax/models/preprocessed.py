"""A model's preprocessing as the config's section, which is how `vit_jax.data`, that knows no models, is told of it."""

import dataclasses
from typing import Any

from vit_jax import config as config_lib
from vit_jax.models.model import Model


def preprocessed(config: Any, model: Model) -> config_lib.Config:
    """Returns the config with the model's preprocessing in its section; the size is that of `config.model`.

    Raises:
        UserError: what is wrong with the config.
    """
    config = config_lib.typed(config)
    settings = {**dataclasses.asdict(model.preprocessing), "shorter_side": model.preprocessing.shorter_side or 0}
    del settings["size"]
    return dataclasses.replace(config, preprocessing=config_lib.Preprocessing(**settings))
