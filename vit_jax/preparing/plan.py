"""Which shards a data set is divided into, and whether a preparation that was begun is the same as this one."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vit_jax.data import messages
from vit_jax.errors import UserError
from vit_jax.preparing.example import Origin
from vit_jax.preparing.settings import Encoding, Settings
from vit_jax.preparing.shard import Shard, records

_SHARD_BYTES = 192 * 2**20
_FEW_SHARDS, _SHARD_EXAMPLES = 16, 1000  # a small data set, too, is made and read by several processes
_PLACES, _EACH = 8, 8  # of the examples whose sizes are tried


def wanted(settings: Settings, origin: Origin, name: str) -> dict[str, Any]:
    """Returns what determines the shards of a preparation, as JSON values."""
    return {
        "dataset": settings.dataset,
        "name": name,
        "labels": settings.labelled,
        "shards": settings.shards,
        **(dataclasses.asdict(settings.encoding) if origin.reencodes else {"shorter_side": None}),
        "splits": [origin.record(split) for split in origin.splits],
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns in words how the settings of a preparation differ from those that it was begun with; "" if they don't."""
    other = [
        f"{key} was {before.get(key)} and is {now.get(key)}"
        for key in {**before, **now}
        if key != "splits" and before.get(key) != now.get(key)
    ]
    old, new = ({record["split"]: record for record in side.get("splits", [])} for side in (before, now))
    if old.keys() != new.keys():
        other.append(f"the splits were {', '.join(old)} and are {', '.join(new)}")
    for split in old.keys() & new.keys():
        if old[split] != new[split]:
            counts = [f"{side[split]['num_examples']:,}" for side in (old, new)]
            other.append(
                f"the split {split} had {counts[0]} examples and has {counts[1]}"
                if counts[0] != counts[1]
                else f"the examples of the split {split} are others"
            )
    return "; ".join(other)


def shard_counts(settings: Settings, origin: Origin) -> dict[str, int]:
    """Returns the number of shards of each split.

    Unless `settings.shards` says it, a shard has about 192 MB, or 1,000 examples if those are less and there are no
    more than 16 shards; the size of the prepared examples is estimated from some of them.

    Raises:
        UserError: `settings.shards` is larger than a split, or of the examples that are tried none can be read.
    """
    counts = {}
    for split, length in origin.splits.items():
        if not length:
            raise UserError(f"the split {split} of {origin.folder} has no examples; leave it out of --splits")
        if settings.shards is not None and settings.shards > length:
            raise UserError(f"--shards={settings.shards} is more than the {length:,} examples of {split}; set it lower")
        if settings.shards is not None:
            counts[split] = settings.shards
            continue
        size = length * _example_bytes(settings.encoding, origin, split)
        counts[split] = max(1, min(length, math.ceil(size / _SHARD_BYTES)), min(_FEW_SHARDS, length // _SHARD_EXAMPLES))
    return counts


def _example_bytes(encoding: Encoding, origin: Origin, split: str) -> float:
    """Returns the mean size of a prepared example, from examples at places that are spread evenly over a split."""
    length = origin.splits[split]
    starts = range(0, length, max(_EACH, length // _PLACES))
    sizes, failed = [], []
    for start in starts:
        for index, record in records(origin, encoding, split, start, min(start + _EACH, length)):
            if isinstance(record, Exception):
                failed.append((index, record))
            else:
                sizes.append(len(record))
    if not sizes:
        index, error = failed[0]
        raise UserError(
            f"of {len(failed)} images of {origin.folder} that were tried, none can be read, such as "
            f"{origin.describe(split, index)} ({messages.in_words(error)}); check the data set"
        )
    return sum(sizes) / len(sizes)


def shards(counts: Mapping[str, int], lengths: Mapping[str, int], name: str) -> list[Shard]:
    """Returns the shards of all splits, of equally many examples up to one, with the names that TFDS gives them."""
    return [
        Shard(
            split,
            lengths[split] * number // count,
            lengths[split] * (number + 1) // count,
            f"{name}-{split}.array_record-{number:05}-of-{count:05}",
        )
        for split, count in counts.items()
        for number in range(count)
    ]
