"""Other settings of the same job, each compiled: what would make it fit, sweeps, the largest batch."""

import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from vit_jax.chips import GIB
from vit_jax.config import Config
from vit_jax.errors import UserError
from vit_jax.planning.plans import Plan

_LOG = logging.getLogger(__name__)

_SAVES = 0.97  # of the memory that half as many parts take: above, more parts don't help

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
        yield _try(make, overrides, f"{number + 1} of {len(candidates)}: ")


def _try(make: Make, overrides: Sequence[Override], label: str = "") -> Tried:
    try:
        tried = Tried(tuple(overrides), make(overrides), "")
    except UserError as error:
        tried = Tried(tuple(overrides), None, str(error))
    _LOG.info("%s%s: %s", label, flags(overrides), summary(tried))
    return tried


def summary(tried: Tried) -> str:
    """A few words: memory, step time and chip-hours, or why there is no plan."""
    if tried.plan is None:
        return tried.refused
    memory, times, hours = tried.plan.hbm_per_device, tried.plan.step_seconds, tried.plan.total_chip_hours
    said = "?" if memory.total is None else f"{memory.total / GIB:.2f}"
    said += f" of {memory.limit / GIB:.2f} GiB"
    said += ", does not fit" if tried.plan.fits is False else ""
    return (
        said + (f", {1000 * times.estimate:.4g} ms" if times else "") + (f", {hours:,.0f} chip-hours" if hours else "")
    )


def sweep(make: Make, axes: Sequence[tuple[str, Sequence[str]]]) -> list[Tried]:
    """All combinations of the values of some keys: what fits first, the most images a second first among these."""
    keys = [key for key, _ in axes]
    # No two alike: a value given twice is compiled once.
    combinations = [*dict.fromkeys(tuple(zip(keys, v, strict=True)) for v in itertools.product(*(v for _, v in axes)))]
    return sorted(try_all(make, combinations), key=lambda tried: -_speed(tried.plan))


def _speed(plan: Plan | None) -> float:
    if plan is None or plan.fits is False:
        return -1.0
    return plan.images_per_second or 0.0


def what_fits(make: Make, plan: Plan, config: Config) -> Iterator[Tried]:
    """Yields changes for a job that does not fit, each compiled; `cheapest` chooses among those that fit.

    What is learned stays the same: the batch is taken in parts, activations are computed again, or the state is split
    over the devices of a slice. Each is tried alone first; parts double until the job fits, and parts alone are not
    tried where the state has no room by itself. Combinations follow only if none of these fits. Computing everything
    again costs a quarter of all operations, so it comes after what costs less. Only if nothing else is left does the
    batch become smaller.
    """
    rows = plan.devices // (plan.mesh["tensor"] * plan.mesh["sequence"])
    dots, full = _policies(config)
    parts = _parts(plan, config, rows)

    fits = False
    if _has_room(plan):
        fits |= yield from _first_that_fits(make, {}, parts)
        fits |= yield from _first_that_fits(make, {}, dots)
    split = yield from _widest_split(make, plan, rows)
    if split and split.plan and split.plan.fits:
        fits = True
    if fits or not _has_room((split and split.plan) or plan):
        return
    where = dict(split.overrides) if split else {}
    if split:
        fits |= yield from _first_that_fits(make, where, parts)
        fits |= yield from _first_that_fits(make, where, dots)
    for policy in (*dots, *full):
        if fits:
            return
        where.update(policy)
        fits = yield from _first_that_fits(make, where, [*([{}] if policy in full else []), *parts])
    size = plan.global_batch_size // 2
    smaller = []
    while size >= rows and size % rows == 0:
        smaller.append({"accumulation_steps": "1", "global_batch_size": str(size)})
        size //= 2
    if not fits:
        yield from _first_that_fits(make, where, smaller)


def cheapest(tried: Iterable[Tried]) -> Tried | None:
    """Returns the one with the fewest chip-hours among those that fit, or None if none does."""
    fitting = [one for one in tried if one.plan and one.plan.fits]
    return min(fitting, key=lambda one: (one.plan and one.plan.total_chip_hours) or 0.0, default=None)


def _has_room(plan: Plan) -> bool:
    """Whether the state alone leaves room on a device, as far as it is known."""
    state = plan.hbm_per_device.arguments
    return state is None or state < plan.hbm_per_device.limit


def _policies(config: Config) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What computes more again than the config does: the products kept, and nothing kept."""
    now = config.model.remat
    dots = [{"model.remat": "dots"}] if now == "none" else []
    return dots, [{"model.remat": "full"}] if now != "full" else []


def _parts(plan: Plan, config: Config, rows: int) -> list[dict[str, str]]:
    found, parts = [], 2 * config.accumulation_steps
    while plan.global_batch_size % (rows * parts) == 0:
        found.append({"accumulation_steps": str(parts)})
        parts *= 2
    return found


def _first_that_fits(make: Make, base: dict[str, str], steps: Sequence[dict[str, str]]) -> Generator[Tried, None, bool]:
    """Tries the steps on top of `base`, up to the first that fits or the second that saves hardly any memory."""
    before: int | None = None
    for step in steps:
        tried = _try(make, tuple({**base, **step}.items()))
        yield tried
        if tried.plan is None:
            continue
        if tried.plan.fits:
            return True
        total = tried.plan.hbm_per_device.total
        if before and total and total > _SAVES * before:
            return False
        before = total
    return False


def _widest_split(make: Make, plan: Plan, rows: int) -> Generator[Tried, None, Tried | None]:
    """Over the most devices of a slice that divide the model; others are refused before anything is compiled."""
    for data in (n for n in range(plan.slices, rows + 1, plan.slices) if rows % n == 0):
        if rows // data <= plan.mesh["fsdp"]:
            return None
        tried = _try(make, (("mesh.data", str(data)), ("mesh.fsdp", str(rows // data))))
        if tried.plan:
            yield tried
            return tried
    return None


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
