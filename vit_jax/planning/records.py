"""Reads and writes the JSON file of plans (`--json`).

The file is written after each plan, so that an interrupted search can go on with `--resume`. A sweep and a search for
the largest batch are written as a list of records. A single plan is one record: its `tried` lists the other settings
that were compiled to make the job fit, and its `nearest` is the cheapest of those that fit. In each record, `made_with`
says which config, slice and versions the plan is for; its `complete` is false until everything has been compiled.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from vit_jax import __version__
from vit_jax.config import Config
from vit_jax.errors import UserError
from vit_jax.planning.plans import Plan, from_record
from vit_jax.planning.search import Make, Override, Tried

Settings = tuple[Override, ...]


def made_with(question: str, config: Config, topology: str, slices: int) -> dict[str, Any]:
    """Returns what plans of the same search have in common, as JSON: the question, config, slice and versions.

    Args:
        question: `plan`, `sweep` or `largest`.
        config: the config without the changes of the search.
        topology: the slice, such as v5e:16x16.
        slices: how many slices.
    """
    text = json.dumps(dataclasses.asdict(config), sort_keys=True, default=str)
    versions = {name: _version(name) for name in ("jax", "libtpu")}
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    where = {"topology": topology, "slices": slices}
    return {"question": question, "config": digest, **where, "vit_jax": __version__, **versions}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


class Records:
    """The plans of one search, by their settings, and the JSON file that keeps them.

    Each plan's settings are the changes to the config that it was made with; `()` is the config itself.
    """

    def __init__(self, file: str | None, made_with: dict[str, Any], resume: bool) -> None:
        """Opens the records of a search.

        Args:
            file: the JSON file; None to keep the plans in memory alone.
            made_with: what tells this search from others, as the function `made_with` of this module returns it.
            resume: whether to take over the plans that the file holds. If not, a complete search of the same job in the
                file is replaced by the first new plan.

        Raises:
            UserError: the file holds something other than plans, or plans of another search; or it holds those of an
                interrupted search and `resume` is False.
        """
        self.lock = threading.Lock()  # held while the file is written
        self._file = pathlib.Path(file).resolve() if file else None
        self._made_with = made_with
        self._tried: dict[Settings, Tried] = {}
        self._single = made_with["question"] == "plan"
        found = _read(self._file) if self._file else []
        for record in found:
            if differs := _difference(record["made_with"], made_with):
                raise UserError(f"--json={file} holds plans of another {differs}; name another file")
            if not resume and not record["made_with"].get("complete"):
                raise UserError(
                    f"--json={file} keeps the plans of an interrupted search; add --resume, or name another file"
                )
        for record in found if resume else []:
            settings = tuple(map(tuple, record["settings"].items()))
            self._tried[settings] = Tried(settings, _plan(record, file), record.get("refused", ""))

    @property
    def count(self) -> int:
        """The number of plans that are known, refused ones included."""
        return len(self._tried)

    def remembering(self, make: Make) -> Make:
        """Returns a function like `make` that returns known plans without making them again.

        A new plan is kept and written to the file. So is a refusal (a UserError of `make`), which is raised again if
        the same settings are asked for; only a refusal of the job itself, in a search for one plan, is not kept.
        """

        def remembered(overrides: Sequence[Override]) -> Plan:
            settings = tuple(overrides)
            if settings not in self._tried:
                try:
                    self._tried[settings] = Tried(settings, make(settings), "")
                except UserError as error:
                    if self._single and not settings:
                        raise  # the job itself is wrong
                    self._tried[settings] = Tried(settings, None, str(error))
                self.write(list(self._tried.values()), complete=False)
            known = self._tried[settings]
            if known.plan is None:
                raise UserError(known.refused)
            return known.plan

        return remembered

    def write(self, tried: Sequence[Tried], *, complete: bool, nearest: Tried | None = None) -> None:
        """Writes the file anew: the records of `tried` in this order, then all others that are known.

        Args:
            tried: what was tried. If the question is one plan, the first is the job itself.
            complete: whether nothing is left to compile.
            nearest: the recommended one among `tried`, if there is one.

        Raises:
            UserError: the file can't be written.
        """
        if self._file is None:
            return
        asked = {one.overrides for one in tried}
        tried = [*tried, *(one for settings, one in self._tried.items() if settings not in asked)]
        records = [_record(one, {**self._made_with, "complete": complete}) for one in tried]
        value: Any = records
        if self._single:
            value = {key: item for key, item in records[0].items() if key != "settings"}
            if records[1:]:
                value["tried"] = records[1:]
            if nearest:
                value["nearest"] = next(record for one, record in zip(tried, records, strict=True) if one is nearest)
        text = json.dumps(value, indent=2) + "\n"
        try:
            with self.lock:
                if self._file.exists() and not self._file.is_file():
                    self._file.write_text(text)  # a pipe or a terminal can't be replaced by a rename
                    return
                partial = self._file.with_name(f".{self._file.name}.partial")
                partial.write_text(text)
                partial.replace(self._file)
        except OSError as error:
            raise UserError(f"--json={self._file} can't be written ({error.strerror or error})") from error

    def kept(self) -> str:
        """Returns what the file would hold if the process ended now, as the second half of a sentence."""
        if self._file is None:
            return "nothing is kept without --json"
        if not self._tried:
            return f"nothing was done yet that {self._file} could keep"
        return f"{self._file} keeps what is done ({self.count}), and --resume goes on from there"


def _record(tried: Tried, made: dict[str, Any]) -> dict[str, Any]:
    found = dataclasses.asdict(tried.plan) if tried.plan else {"refused": tried.refused}
    return {"settings": dict(tried.overrides), **found, "made_with": made}


def _read(file: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a file, or an empty list if it does not exist or is empty.

    For the file of a single plan, the job's own record comes first, with empty settings. Raises UserError if the file
    holds no plans.
    """
    if not file.exists() or not (file.is_file() and file.stat().st_size):
        return []
    try:
        found = json.loads(file.read_text())
        records = [{"settings": {}, **found}, *found.get("tried", [])] if isinstance(found, dict) else list(found)
        kinds = (isinstance(record["settings"], dict) and isinstance(record["made_with"], dict) for record in records)
        whole = all(kinds) and all("refused" in record or "hbm_per_device" in record for record in records)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _no_plans(file) from error
    if not whole:
        raise _no_plans(file)
    return records


def _plan(record: dict[str, Any], file: str | None) -> Plan | None:
    """Returns the plan of a record, or None if the settings were refused."""
    try:
        return None if "refused" in record else from_record(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _no_plans(file) from error


def _no_plans(file: pathlib.Path | str | None) -> UserError:
    return UserError(f"--json={file} exists and holds no plans; name another file")


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    return ", ".join(f"{key} ({theirs.get(key)}, not {ours[key]})" for key in ours if theirs.get(key) != ours[key])
