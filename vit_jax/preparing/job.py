"""Prepares a data set from beginning to end, or goes on where an earlier process was killed.

The shards are written to the folder `incomplete.VERSION` beside the final one, each with a record of it in `.shards`. A
shard counts as made once that record is there. What tells other programs that the folder is a data set is written last,
and then the folder is renamed, so that one which is half-written is never taken for a whole one.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from vit_jax.checkpoints import files
from vit_jax.data import embedded, listing
from vit_jax.data.spec import OWN_FOLDERS
from vit_jax.errors import UserError
from vit_jax.preparing import finish, plan, work
from vit_jax.preparing.example import Origin
from vit_jax.preparing.images import KINDS, Images
from vit_jax.preparing.records import Records
from vit_jax.preparing.settings import Settings
from vit_jax.preparing.shard import Made, Shard
from vit_jax.preparing.writing import writing

_RECORDS, _PLAN = ".shards", ".shards/plan.json"
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes:
        folder: where it is.
        name: what `config.data.name` has to be to read it.
        examples: the number of examples of each split.
        skipped: the number of examples that could not be read.
        is_new: whether it was made just now.
    """

    folder: epath.Path
    name: str
    examples: Mapping[str, int]
    skipped: int
    is_new: bool


def prepare(settings: Settings) -> Prepared:
    """Prepares a data set, continues a preparation that was interrupted, or finds that it is complete already.

    Raises:
        UserError: the settings are not valid; the data set can't be read; the folder can't be written, holds something
            else, or is in use by another process; images can't be read and `settings.corrupt` is "fail"; or the
            preparation was begun with other settings.
    """
    files.check_folder(settings.out, "--out")
    origin = _opened(settings)
    info = origin.info(settings.name)
    _check_name(info.name)
    name = "/".join(filter(None, (info.name, info.config_name)))
    folder = settings.out / name / info.version
    wanted = plan.wanted(settings, origin, name)
    if folder.exists():
        return _found(folder, name, wanted)
    unfinished = folder.parent / f"incomplete.{info.version}"
    with writing(unfinished):
        (unfinished / _RECORDS).mkdir(parents=True, exist_ok=True)
    with _alone(unfinished):
        shards = _planned(unfinished, settings, origin, wanted, info.name)
        made = _made(unfinished, settings, origin, shards)
        skipped = _unreadable(made)
        if skipped and settings.corrupt == "fail":
            number = sum(origin.splits.values())
            raise UserError(
                f"{len(skipped):,} of {number:,} images can't be read: {listing.shortened(skipped)}; mend or "
                "remove them, or leave them out with --corrupt=skip, and start the command again"
            )
        with writing(unfinished):
            examples = finish.write(unfinished, origin, info, wanted, made)
            unfinished.rename(folder)
            shutil.rmtree(folder / _RECORDS)
    return Prepared(folder, name, examples, len(skipped), is_new=True)


def _opened(settings: Settings) -> Origin:
    if settings.dataset in KINDS:
        if settings.data_dir is None:
            raise UserError("where are the images? add --data_dir=DIR")
        origin = Images(settings.dataset, settings.data_dir, settings.splits, settings.labelled)
        if settings.out.resolve().is_relative_to(epath.Path(origin.folder).resolve()):
            raise UserError(f"--out={settings.out} lies in the folder of the images, {origin.folder}; choose another")
        return origin
    if not settings.labelled:
        raise UserError(f"{settings.dataset} keeps all its features; --nolabels is for {' and '.join(KINDS)}")
    reencodes = settings.encoding.shorter_side is not None
    return Records(settings.dataset, settings.data_dir, settings.splits, reencodes)


def _check_name(name: str) -> None:
    """Raises UserError if TFDS takes no data set of this name, or if the name has another meaning in a config."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(
            f"a data set can't be named {name!r}; add --name=NAME of small letters, digits and _, such as "
            "--name=my_images"
        )
    if name in (*OWN_FOLDERS, *embedded.NAMES):
        raise UserError(f"config.data.name={name} means something else; add --name=NAME of another name")


def _found(folder: epath.Path, name: str, wanted: Mapping[str, Any]) -> Prepared:
    """Returns the data set that is there already. Raises UserError if it is another one."""
    if not (folder / finish.FILE).exists():
        raise UserError(f"{folder} is there already, and prepare has not made it; choose another --out or --name")
    report = files.read_json(folder / finish.FILE)
    if other := plan.differences(report["settings"], wanted):
        raise UserError(f"{folder} was prepared otherwise ({other}); choose another --out or --name, or remove it")
    return Prepared(folder, name, report["examples"], len(report["skipped"]), is_new=False)


@contextlib.contextmanager
def _alone(folder: epath.Path) -> Iterator[None]:
    """Holds a lock on a folder, which ends with this process however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process writes to {folder}; wait until it has ended") from error
        yield
    finally:
        os.close(handle)


def _planned(
    folder: epath.Path, settings: Settings, origin: Origin, wanted: Mapping[str, Any], name: str
) -> list[Shard]:
    """Returns the shards. Their number is decided once, when the preparation begins, and kept in a file.

    Raises:
        UserError: the preparation was begun with other settings.
    """
    path = folder / _PLAN
    if path.exists():
        begun = files.read_json(path)
        if other := plan.differences(begun["settings"], wanted):
            raise UserError(
                f"{folder} was begun otherwise ({other}); start it with the same flags, choose another --out or "
                "--name, or remove that folder"
            )
        counts = begun["shards"]
    else:
        counts = plan.shard_counts(settings, origin)
        with writing(folder):
            files.write_json(path, {"settings": wanted, "shards": counts})
    return plan.shards(counts, origin.splits, name)


def _made(folder: epath.Path, settings: Settings, origin: Origin, shards: Sequence[Shard]) -> dict[Shard, Made]:
    """Returns the records of all shards, after making those that are not made yet.

    With `settings.corrupt` "fail", shards from which images are missing are made again, because the images may have
    been mended since.
    """
    found = {shard: made for shard in shards if (made := _recorded(folder, shard))}
    if settings.corrupt == "fail":
        found = {shard: made for shard, made in found.items() if not made.unreadable}
    if found:
        _LOG.info("going on in %s: %d of %d shards are made", folder, len(found), len(shards))
    rest = [shard for shard in shards if shard not in found]
    for shard, made in work.run(origin, settings.encoding, rest, folder, settings.workers) if rest else ():
        with writing(folder):
            files.write_json(folder / _RECORDS / f"{shard.file}.json", dataclasses.asdict(made))
        found[shard] = made
        for _, example, reason in made.unreadable:
            _LOG.warning("%s can't be read (%s)", example, reason)
    return {shard: found[shard] for shard in shards}


def _recorded(folder: epath.Path, shard: Shard) -> Made | None:
    """Returns the record of a shard, or None if the shard is not made."""
    record, file = folder / _RECORDS / f"{shard.file}.json", folder / shard.file
    if not record.exists():
        return None
    values = files.read_json(record)
    made = Made(**{**values, "unreadable": tuple(tuple(example) for example in values["unreadable"])})
    return made if file.exists() and file.stat().length == made.file_bytes else None


def _unreadable(made: Mapping[Shard, Made]) -> list[str]:
    return [f"{example} ({reason})" for one in made.values() for _, example, reason in one.unreadable]
