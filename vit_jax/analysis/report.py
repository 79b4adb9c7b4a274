"""Makes the report of an analysis: one HTML file that needs no other file and no network."""

import base64
import html
import io
import math
import pathlib
import string
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vit_jax.analysis.measuring import Analysis
from vit_jax.analysis.overlay import SIDE, fitted, overlay
from vit_jax.analysis.sections import sections

_TEMPLATE = pathlib.Path(__file__).with_name("report.html")
_BYTES = 9_000_000  # of the whole report, so that it can be sent by mail
_LEAST_SIDE = 48  # pixels of a photograph
_QUALITY = 82


def report(analysis: Analysis, about: Mapping[str, str], drawn: pathlib.Path) -> str:
    """Returns the report as HTML, below 10 MB if that can be: photographs are made smaller, down to 48 pixels.

    Args:
        analysis: the numbers.
        about: lines for its head, by their headings.
        drawn: the folder with the PNG of each figure.
    """
    parts, contents = [], []
    for section in sections(analysis.maps):
        if section.name not in analysis.arrays:
            continue
        contents.append(f'<a href="#{section.name}">{html.escape(section.title)}</a>')
        if section.draw:
            picture = _data((drawn / f"{section.name}.png").read_bytes(), "png")
            body = f'<figure><img alt="{html.escape(section.title)}" src="{picture}"></figure>'
            files = f"{section.name}.png, {section.name}.pdf"
        else:
            body, files = "", f"{section.name}_01.png, {section.name}_01.pdf, …"
        parts.append(
            f'<section id="{section.name}"><h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>'
            f'{body}<p class="files">Files: {files}; numbers: {section.name} in analysis.npz.</p></section>'
        )
    contents.append('<a href="#photographs">Photographs</a>')
    left = _BYTES - sum(map(len, parts))
    filled = {
        "title": html.escape(f"Inside {about.get('model', 'the model')}"),
        "about": "\n".join(
            f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in about.items()
        ),
        "contents": "\n".join(contents),
        "sections": "\n".join(parts),
        "missing": _missing(analysis),
        "photographs": _photographs(analysis, left),
    }
    return string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(filled)


def _missing(analysis: Analysis) -> str:
    titles = {section.name: section.title for section in sections()}
    lines = [f"<li>{titles[name]}: {html.escape(reason)}</li>" for name, reason in analysis.missing.items()]
    return f'<section id="missing"><h2>Not drawn</h2><ul>{"".join(lines)}</ul></section>' if lines else ""


def _photographs(analysis: Analysis, room: int) -> str:
    """Returns the cards of all photographs, small enough that they have at most `room` bytes, if that can be."""
    side = SIDE
    while len(text := _cards(analysis, side)) > room and side > _LEAST_SIDE:
        side = max(_LEAST_SIDE, int(side * min(0.9, math.sqrt(max(room, 0) / len(text)))))
    shown = len(analysis.photographs)
    of = f"{shown:,} photographs" if shown == analysis.images else f"The first {shown:,} of {analysis.images:,} images"
    return (
        f'<section id="photographs"><h2>Photographs</h2><p>{of}, as the model sees them.</p>'
        '<div class="pager" hidden><button id="back">Back</button><span id="page"></span>'
        '<button id="next">Next</button><span class="soft">or the arrow keys</span></div>'
        f'<div class="cards">{text}</div></section>'
    )


def _cards(analysis: Analysis, side: int) -> str:
    return "\n".join(_card(analysis, index, side) for index in range(len(analysis.photographs)))


def _card(analysis: Analysis, index: int, side: int) -> str:
    picture = fitted(analysis.photographs[index], side)
    maps = {}
    if "rollout" in analysis.arrays:
        maps["rollout"] = analysis.arrays["rollout"][index]
    for each in analysis.maps:
        head = "mean of heads" if each.head is None else f"head {each.head}"
        maps[f"layer {each.layer}, {head}"] = analysis.arrays[each.name][index]
    if "token_norms" in analysis.arrays:
        specials = getattr(analysis.arch, "specials", 0)
        maps["token norms"] = analysis.arrays["token_norms"][-1, index, specials:].reshape(analysis.grid)
    # With its range in the caption, a map that is nearly flat shows as such, though its colours are spread.
    pictures = [("image", picture)]
    pictures += [(f"{name}, {v.min():.2g} to {v.max():.2g}", overlay(picture, v)) for name, v in maps.items()]
    figures = "".join(
        f'<figure><img alt="{caption}" src="{_jpeg(pixels)}"><figcaption>{caption}</figcaption></figure>'
        for caption, pixels in pictures
    )
    top = ", ".join(f"{html.escape(each.name)} {each.probability:.1%}" for each in analysis.tops[index])
    name = html.escape(analysis.names[index])
    return (
        f'<article class="card"><div class="pictures">{figures}</div><div>{top}</div>'
        f'<div class="soft">{name}</div></article>'
    )


def _jpeg(pixels: UInt8[np.ndarray, "height width_px 3"]) -> str:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "JPEG", quality=_QUALITY)
    return _data(made.getvalue(), "jpeg")


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
