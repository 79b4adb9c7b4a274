"""What a key of the config is: a dataclass field with its meaning and limits."""

import dataclasses
from typing import Any

from vit_jax.values import Limits

UNITS = ("steps", "epochs", "examples", "percent")


def key(
    default: Any, doc: str, *, unit: str = "", only: tuple[str, ...] = (), needs: tuple[str, ...] = (), **limits: Any
) -> Any:
    """Returns the dataclass field of a key.

    Args:
        default: the value of the key if nobody sets it.
        doc: the meaning of the key, in one phrase without a full stop.
        unit: the unit of the value, such as "pixels".
        only: the name of another key in the same section, followed by those of its values with which this key has an
            effect.
        needs: names of other keys in the same section that must be set, to anything but 0, False or None, for this key
            to have an effect. Without this and `only`, the key always has an effect.
        limits: the limits of the value; keywords of `Limits`.
    """
    return dataclasses.field(
        default=default,
        metadata={"doc": doc, "unit": unit, "only": only, "needs": needs, "limits": Limits(**limits)},
    )


def duration(what: str, unit: str, default: int | None = None, **limits: Any) -> Any:
    """Returns the field of a key that gives the duration `what` in `unit`, one of `UNITS`.

    `limits` are keywords of `Limits`; without any, the duration must be above 0.
    """
    return key(default, f"{what}, in {unit}{' of the run' if unit == 'percent' else ''}", **limits or {"above": 0})
