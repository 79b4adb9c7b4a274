"""The JSON of plans: written after each one, so that an interrupted search goes on where it stopped.

A sweep and a search for the largest batch are a list of records; one plan is a record whose `tried` lists the other
settings that were compiled to make the job fit, and whose `nearest` is the cheapest of these. `made_with` says in
each record what it holds for: `complete` is false until nothing is left to compile.
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
    """Returns what two plans have to share to be of one search: the config, the slice and the versions."""
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
    """The plans of one search by their settings, and the file that keeps them (None: they are not kept)."""

    def __init__(self, file: str | None, made_with: dict[str, Any], resume: bool) -> None:
        """Reads what `file` keeps if `resume`.

        Raises:
            UserError: the file holds something else than plans, or plans of another search, or those of an
                interrupted one and `resume` is False.
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
        """Plans that are known."""
        return len(self._tried)

    def remembering(self, make: Make) -> Make:
        """Returns `make`, but with settings that are known answered from here, and others kept once they are made."""

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
        """Replaces the file by the records of `tried`, in this order, and of whatever else is known.

        If the question is one plan, the first is the job itself.

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
                    self._file.write_text(text)  # a pipe or a terminal, which nothing can replace
                    return
                partial = self._file.with_name(f".{self._file.name}.partial")
                partial.write_text(text)
                partial.replace(self._file)
        except OSError as error:
            raise UserError(f"--json={self._file} can't be written ({error.strerror or error})") from error

    def kept(self) -> str:
        """Returns half a sentence: what an end now leaves."""
        if self._file is None:
            return "nothing is kept without --json"
        if not self._tried:
            return f"nothing was done yet that {self._file} could keep"
        return f"{self._file} keeps what is done ({self.count}), and --resume goes on from there"


def _record(tried: Tried, made: dict[str, Any]) -> dict[str, Any]:
    found = dataclasses.asdict(tried.plan) if tried.plan else {"refused": tried.refused}
    return {"settings": dict(tried.overrides), **found, "made_with": made}


def _read(file: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a file, of one plan the job's own first; empty where there is no file or nothing in it."""
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
    """Returns the plan of a record, None of one that was refused."""
    try:
        return None if "refused" in record else from_record(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _no_plans(file) from error


def _no_plans(file: pathlib.Path | str | None) -> UserError:
    return UserError(f"--json={file} exists and holds no plans; name another file")


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    return ", ".join(f"{key} ({theirs.get(key)}, not {ours[key]})" for key in ours if theirs.get(key) != ours[key])
