"""How predictions are written: as text for people, and as JSON lines or CSV for programs."""

import csv
import io
import json
from collections.abc import Callable
from typing import NamedTuple

from vit_jax.predicting.classify import Prediction


class Format(NamedTuple):
    """A way to write predictions as whole lines.

    Attributes:
        head: returns the lines before the first prediction, given how many classes a prediction names.
        lines: returns the lines of a prediction, given the same number.
        tells_errors: whether the lines say of an image that can't be read why; if not, it has no lines.
    """

    head: Callable[[int], str]
    lines: Callable[[Prediction, int], str]
    tells_errors: bool


def _text(found: Prediction, count: int) -> str:
    if found.error:
        return ""
    return "".join([f"{found.path}\n", *(f"  {top.probability:6.1%}  {top.name}\n" for top in found.classes)])


def _json(found: Prediction, count: int) -> str:
    value = {"error": found.error} if found.error else {"classes": [top._asdict() for top in found.classes]}
    return json.dumps({"path": found.path, **value}) + "\n"


def _csv_head(count: int) -> str:
    ranks = range(1, count + 1)
    return _row(["path", "error", *(f"{name}_{rank}" for rank in ranks for name in ("name", "label", "probability"))])


def _csv(found: Prediction, count: int) -> str:
    """Returns one line, with as many columns whether the image can be read or not."""
    values = [value for top in found.classes for value in top] or [""] * (3 * count)
    return _row([found.path, found.error or "", *values])


def _row(values: list) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


FORMATS: dict[str, Format] = {
    "text": Format(lambda count: "", _text, False),
    "jsonl": Format(lambda count: "", _json, True),
    "csv": Format(_csv_head, _csv, True),
}
