"""Compiles a job with other settings: those that may make it fit, a sweep over values, or the largest batch."""

import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from vit_jax.chips import GIB
from vit_jax.config import Config
from vit_jax.errors import UserError
from vit_jax.planning.plans import Plan

_LOG = logging.getLogger(__name__)

# Splitting the batch into twice as many parts helps if the memory falls below this share of what it was.
_SAVES = 0.97

Override = tuple[str, str]  # (key of the config, text of the value)
Make = Callable[[Sequence[Override]], Plan]  # returns the plan of the config with these overrides


class Tried(NamedTuple):
    """Settings that were tried, and their plan."""

    overrides: tuple[Override, ...]
    plan: Plan | None  # None if the settings were refused
    refused: str  # why there is no plan; empty if there is one


def flags(overrides: Sequence[Override]) -> str:
    """Returns overrides as the flags that a user writes, such as `--config.mesh.fsdp=4`."""
    return " ".join(f"--config.{key}={value}" for key, value in overrides) or "as configured"


def try_all(make: Make, candidates: Sequence[Sequence[Override]]) -> Iterator[Tried]:
    """Yields the plan of each candidate, or the sentence that says why it was refused."""
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
    """Returns memory, step time and chip-hours in a few words, or why there is no plan."""
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
    """Compiles all combinations of the values of some keys.

    Args:
        make: makes a plan with overrides.
        axes: pairs of a key and its values, as texts.

    Returns:
        The combinations, the fastest (images per second) first, those that do not fit or were refused last.
    """
    keys = [key for key, _ in axes]
    # dict.fromkeys removes duplicates, so that a value given twice is compiled once.
    combinations = [*dict.fromkeys(tuple(zip(keys, v, strict=True)) for v in itertools.product(*(v for _, v in axes)))]
    return sorted(try_all(make, combinations), key=lambda tried: -_speed(tried.plan))


def _speed(plan: Plan | None) -> float:
    if plan is None or plan.fits is False:
        return -1.0
    return plan.images_per_second or 0.0


def what_fits(make: Make, plan: Plan, config: Config) -> Iterator[Tried]:
    """Compiles other settings of a job that does not fit, and yields each as it is tried.

    The caller chooses among those that fit, with `cheapest`. The settings are tried in this order:

    1. One change alone, none of which alters what is learned: the batch is split into parts (gradient accumulation; the
       number of parts doubles until the job fits), the backward pass computes activations again (`model.remat=dots`),
       or the state is split over more devices (`mesh.fsdp`). The first two are skipped if the state alone is larger
       than the memory.
    2. If none fits: these changes together, then with `model.remat=full`, which costs a quarter of all operations.
    3. If none fits: smaller batches, which alter what is learned.

    Args:
        make: makes a plan with overrides.
        plan: the plan of the job, which does not fit.
        config: the config of the job.
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
    """Returns whether the state alone is smaller than a device's memory; True if its size is not known."""
    state = plan.hbm_per_device.arguments
    return state is None or state < plan.hbm_per_device.limit


def _policies(config: Config) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Returns the remat policies that keep fewer activations than the config's: `dots` and `full`, each in a list.

    A list is empty if the config's policy keeps no more than that already.
    """
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
    """Tries `steps`, each together with the settings of `base`, and returns whether one fits.

    Stops at the first that fits, and at the first that needs hardly less memory (`_SAVES`) than the one before it.
    """
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
    """Tries to split the state over as many devices as possible, and returns what was tried, or None.

    Tries `mesh.fsdp` from the largest down to the plan's own, so that it divides the devices of a slice, and stops at
    the first that is not refused. A size that does not divide the model's shapes is refused before it is compiled.
    """
    for data in (n for n in range(plan.slices, rows + 1, plan.slices) if rows % n == 0):
        if rows // data <= plan.mesh["fsdp"]:
            return None
        tried = _try(make, (("mesh.data", str(data)), ("mesh.fsdp", str(rows // data))))
        if tried.plan:
            yield tried
            return tried
    return None


def largest_batch(make: Make, unit: int, start: int) -> list[Tried]:
    """Searches for the largest batch that fits, to within an eighth of its size.

    Doubles the batch from `start` until it does not fit, then halves the interval between the two.

    Args:
        make: makes a plan with overrides.
        unit: the number that batches have to be a multiple of.
        start: the batch to try first, rounded down to a multiple of `unit`.

    Returns:
        All batches that were tried, the smallest first. The last that fits is the largest; perhaps none fits.

    Raises:
        UserError: a batch was refused.
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
