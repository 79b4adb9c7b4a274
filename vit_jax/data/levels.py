"""The seven levels of augmentation of "How to train your ViT?" (AugReg, 2106.10270), for configs."""

import difflib

from vit_jax.errors import UserError

# RandAugment's layers and magnitude, and the alpha of mixup.
_LEVELS = {
    "none": (0, 0.0, 0.0),
    "light1": (2, 0.0, 0.0),
    "light2": (2, 10.0, 0.2),
    "medium1": (2, 15.0, 0.2),
    "medium2": (2, 15.0, 0.5),
    "strong1": (2, 20.0, 0.5),
    "strong2": (2, 20.0, 0.8),
}


def augreg(name: str) -> dict[str, int | float]:
    """Returns keys of the section `augmentation` and their values: `config.augmentation.update(augreg("light2"))`.

    Args:
        name: none, light1, light2, medium1, medium2, strong1 or strong2.

    Raises:
        UserError: there is no such level.
    """
    if name not in _LEVELS:
        near = difflib.get_close_matches(name, _LEVELS, 1)
        raise UserError(
            f"there is no augmentation level {name!r}{f' (did you mean {near[0]}?)' if near else ''}; take one of "
            f"{', '.join(_LEVELS)}"
        )
    layers, magnitude, mixup = _LEVELS[name]
    if not layers:
        return {"randaugment_layers": 0, "mixup": mixup}
    return {"randaugment_layers": layers, "randaugment_magnitude": magnitude, "mixup": mixup}
