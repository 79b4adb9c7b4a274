"""Copies a model's preprocessing into the config.

`vit_jax.data` reads images as the section `preprocessing` of the config says, and does not depend on the models.
"""

import dataclasses
from typing import Any

from vit_jax import config as config_lib
from vit_jax.models.model import Model


def preprocessed(config: Any, model: Model) -> config_lib.Config:
    """Returns a copy of the config whose section `preprocessing` has the values of `model.preprocessing`.

    The section has no image size; that stays in `config.model.image_size`.

    Raises:
        UserError: the config has an unknown key or a wrong value.
    """
    config = config_lib.typed(config)
    settings = {**dataclasses.asdict(model.preprocessing), "shorter_side": model.preprocessing.shorter_side or 0}
    del settings["size"]
    return dataclasses.replace(config, preprocessing=config_lib.Preprocessing(**settings))
