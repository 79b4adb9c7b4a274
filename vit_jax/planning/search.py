"""Other settings of the same job, each compiled: what would make it fit, sweeps, the largest batch."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vit_jax.config import Config
from vit_jax.errors import UserError
from vit_jax.planning.plans import Plan

_LOG = logging.getLogger(__name__)

Override = tuple[str, str]  # (key of the config, text of the value)
Make = Callable[[Sequence[Override]], Plan]  # the plan of the config with these overrides


class Tried(NamedTuple):
    overrides: tuple[Override, ...]
    plan: Plan | None
    refused: str  # why there is no plan


def flags(overrides: Sequence[Override]) -> str:
    """As a user writes them."""
    return " ".join(f"--config.{key}={value}" for key, value in overrides) or "as configured"


def try_all(make: Make, candidates: Sequence[Sequence[Override]]) -> Iterator[Tried]:
    """Each candidate's plan, or the sentence that refuses it."""
    for number, overrides in enumerate(candidates):
        _LOG.info("%d of %d: %s", number + 1, len(candidates), flags(overrides))
        yield _try(make, overrides)


def _try(make: Make, overrides: Sequence[Override]) -> Tried:
    try:
        tried = Tried(tuple(overrides), make(overrides), "")
    except UserError as error:
        tried = Tried(tuple(overrides), None, str(error))
    fits = "fits" if tried.plan and tried.plan.fits else "does not fit"
    _LOG.info("%s: %s", flags(overrides), tried.refused or fits)
    return tried


def sweep(make: Make, axes: Sequence[tuple[str, Sequence[str]]]) -> list[Tried]:
    """All combinations of the values of some keys: what fits first, the most images a second first among these."""
    keys = [key for key, _ in axes]
    combinations = [tuple(zip(keys, values, strict=True)) for values in itertools.product(*(v for _, v in axes))]
    return sorted(try_all(make, combinations), key=lambda tried: -_speed(tried.plan))


def _speed(plan: Plan | None) -> float:
    if plan is None or plan.fits is False:
        return -1.0
    return plan.images_per_second or 0.0


def what_fits(make: Make, plan: Plan, config: Config) -> Iterator[Tried]:
    """Changes for a job that does not fit, the cheapest in time first, up to the first with which it does.

    First the state is split over all devices of a slice, then activations are computed again, then the batch is taken
    in parts; what is learned stays the same. Only where no parts are left the batch becomes smaller.
    """
    rows = plan.devices // (plan.mesh["tensor"] * plan.mesh["sequence"])
    changes: dict[str, str] = {}
    # Over the most devices of a slice that divide the model; others are refused before anything is compiled.
    for data in (n for n in range(plan.slices, rows + 1, plan.slices) if rows % n == 0):
        if rows // data <= plan.mesh["fsdp"]:
            break
        split = {"mesh.data": str(data), "mesh.fsdp": str(rows // data)}
        tried = _try(make, tuple(split.items()))
        if tried.plan:
            changes = split
            yield tried
            if tried.plan.fits:
                return
            break
    for step in _smaller_steps(plan, config, rows):
        changes.update(step)
        tried = _try(make, tuple(changes.items()))
        yield tried
        if tried.plan and tried.plan.fits:
            return


def _smaller_steps(plan: Plan, config: Config, rows: int) -> Iterator[dict[str, str]]:
    """Each in addition to those before: what is kept for the backward pass, parts of the batch, a smaller batch."""
    policies = ["none", "dots", "full"]
    saved = config.model.remat if config.model.remat in policies else "dots"
    yield from ({"model.remat": policy} for policy in policies[policies.index(saved) + 1 :])
    parts = 2 * config.accumulation_steps
    while plan.global_batch_size % (rows * parts) == 0:
        yield {"accumulation_steps": str(parts)}
        parts *= 2
    size = plan.global_batch_size // 2
    while size >= rows and size % rows == 0:
        yield {"accumulation_steps": "1", "global_batch_size": str(size)}
        size //= 2


def largest_batch(make: Make, unit: int, start: int) -> list[Tried]:
    """The largest batch that fits, to an eighth: a multiple of `unit`, from `start` on; all that was tried, in order.

    The last in the list that fits is the largest.
    """
    tried: list[Tried] = []

    def fits(units: int) -> bool:
        found = _try(make, (("global_batch_size", str(units * unit)),))
        if found.plan is None:
            raise UserError(found.refused)
        tried.append(found)
        return bool(found.plan.fits)

    low, high = 0, max(1, start // unit)
    while fits(high):
        low, high = high, high * 2
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return sorted(tried, key=lambda t: t.plan.global_batch_size if t.plan else 0)
