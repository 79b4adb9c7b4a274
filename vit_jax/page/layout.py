"""The page itself, in gradio: where a photograph is dropped, and what is shown of it.

What is shown of a photograph stays in the session of the user who gave it, and files of photographs are deleted.
"""

import html
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from vit_jax.analysis.measuring import Map
from vit_jax.analysis.overlay import fitted, overlay
from vit_jax.errors import UserError
from vit_jax.models import summary
from vit_jax.page.look import COUNT, SIDE, Look, Picture, bars, chosen, missing
from vit_jax.page.reading import read

LARGEST = "100mb"  # of files
_THUMBNAIL = 96
_DELETED = (60, 300)  # every so many seconds, the files that were uploaded or drawn so many seconds ago are deleted
_SESSIONS, _SECONDS = 100, 3600  # how many sessions keep their looks, and for how long
_NO_LAYER, _MEAN = "One layer, once there is a photograph", "mean of all heads"

# Fonts of the user's system: gradio's own themes load theirs from Google.
THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)
CSS = """
.about h1 { font-size: 1.5rem; margin: 0 0 0.25rem; }
.title h2 { font-size: 0.95rem !important; font-weight: 600; margin: 0 !important; }
#samples .grid-wrap { min-height: 0; }
.about p, .note p { color: var(--body-text-color-subdued); margin: 0 0 0.25rem; }
.said [role="alert"] { color: #b91c1c; }
.dark .said [role="alert"] { color: #fca5a5; }
"""
_NOTE = (
    "Bright is much attention, and each map is scaled for itself. The attention of one layer is that of the token that "
    "the head of the model reads, or the mean of all patches. Rollout multiplies the layers, with half an identity in "
    "each for the residual connection (ViT paper, Figure 6; 2005.00928)."
)


class Parts(NamedTuple):
    """What users give to the page or see on it. The last five are None for a model without attention."""

    look: gr.State  # what is shown, a Look
    drop: gr.File
    said: gr.HTML
    classes: gr.Label
    photograph: gr.Image
    samples: gr.Gallery
    rollout: gr.Image | None = None
    title: gr.HTML | None = None  # of `attention`
    attention: gr.Image | None = None
    layer: gr.Slider | None = None
    head: gr.Dropdown | None = None


def layout(
    model: Any, name: str, look: Callable[[Picture], Look], samples: Sequence[tuple[str, Picture]] = ()
) -> gr.Blocks:
    """Returns the page.

    Args:
        model: the model.
        name: what the page calls it.
        look: what `look.looker` returns for it.
        samples: photographs that can be clicked, of the model's size, with their names.

    Raises:
        UserError: the model has nothing to show.
    """
    lacks = missing(model)
    with gr.Blocks(title=f"{name} – vit_jax", analytics_enabled=False, delete_cache=_DELETED) as page:
        page.state_session_capacity = _SESSIONS
        gr.HTML(_about(model, name), elem_classes="about")
        parts = _parts(model, [fitted(picture, _THUMBNAIL) for _, picture in samples], lacks)
        notes = list(lacks.values()) if "attention" in lacks else [*lacks.values(), _NOTE]
        gr.HTML(_paragraphs(*notes), elem_classes="note")
        _connect(parts, model.preprocessing, look, samples)
    return page


def _parts(model: Any, thumbnails: Sequence[Picture], lacks: Mapping[str, str]) -> Parts:
    """Returns the parts of the page, which are put where they belong."""
    attends = "attention" not in lacks
    made: dict[str, Any] = {"look": gr.State(None, time_to_live=_SECONDS)}
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            made["drop"] = gr.File(label="Drop a photograph, or click to choose one", height=150, elem_id="drop")
            made["said"] = gr.HTML(_said("There is no photograph yet."), elem_classes="said", elem_id="said")
            made["classes"] = gr.Label(
                label="Most probable classes",
                num_top_classes=COUNT,
                show_heading=False,
                elem_id="classes",
                visible="classes" not in lacks,
            )
        with gr.Column(scale=3):
            with gr.Row():
                _, made["photograph"] = _titled("As the model sees it", "photograph")
                if attends:
                    _, made["rollout"] = _titled("Attention rollout", "rollout")
                    made["title"], made["attention"] = _titled(_NO_LAYER, "attention")
            if attends:
                with gr.Row():
                    made["layer"], made["head"] = _choice(model.arch)
            gr.HTML(_title("Photographs to click"), elem_classes="title", visible=bool(thumbnails))
            made["samples"] = gr.Gallery(
                list(thumbnails),
                label="Photographs to click",
                show_label=False,
                columns=8,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                interactive=False,
                format="png",
                buttons=[],
                elem_id="samples",
                visible=bool(thumbnails),
            )
    return Parts(**made)


def _connect(
    parts: Parts, preprocessing: Any, look: Callable[[Picture], Look], samples: Sequence[tuple[str, Picture]]
) -> None:
    """Makes the page answer to its users. The model computes for one of them at a time."""
    shown: list[Any] = [parts.look, parts.said, parts.photograph, parts.classes]
    shown += [] if parts.rollout is None else [parts.rollout]

    def show(label: str, picture: Picture) -> list:
        """Returns the values of `shown`."""
        found = look(picture)
        size = f"{picture.shape[0]}x{picture.shape[1]}"
        enlarged = fitted(picture, SIDE)
        said = _said(f"{label}, as the model sees it: {size} pixels.")
        maps = [] if found.rollout is None else [overlay(enlarged, found.rollout)]
        return [found, said, enlarged, bars(found.classes) or None, *maps]

    def dropped(path: str) -> list:
        """Returns nothing for the place of the file, so that the next one can be dropped, and the values of `shown`."""
        file = pathlib.Path(path)
        try:
            return [None, *show(file.name, read(file, preprocessing))]
        except UserError as error:
            return [None, None, _said(f"{error}.", "alert"), *[None] * (len(shown) - 2)]

    def clicked(event: gr.SelectData) -> list:
        return show(*samples[event.index])

    model_alone: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
    events = [
        parts.drop.upload(dropped, parts.drop, [parts.drop, *shown], **model_alone),
        parts.samples.select(clicked, None, shown, **model_alone),
    ]
    if parts.layer is None or parts.head is None:
        return
    drawing: dict[str, Any] = {
        "fn": _drawn, "inputs": [parts.look, parts.layer, parts.head], "outputs": [parts.title, parts.attention],
        "show_progress": "hidden", "concurrency_limit": 4, "concurrency_id": "drawing", "api_visibility": "private",
    }  # fmt: skip
    for event in events:
        event.then(**drawing)
    for control in (parts.layer, parts.head):
        control.change(**drawing, trigger_mode="always_last")


def _drawn(look: Look | None, layer: int, head: int) -> tuple[str, dict]:
    """Returns the title and the picture of a layer and a head, of which 0 is the mean of all heads."""
    if look is None or look.attention is None:
        return _title(_NO_LAYER), gr.update(value=None, alt_text=_NO_LAYER)
    which = Map(int(layer), head - 1 if head else None)
    text = f"Layer {which.layer}, {_MEAN if which.head is None else f'head {which.head}'}"
    picture = overlay(fitted(look.photograph, SIDE), chosen(look, which))
    return _title(text), gr.update(value=picture, alt_text=text)


def _titled(text: str, name: str) -> tuple[gr.HTML, gr.Image]:
    """Returns a picture's title and, below it, the picture."""
    with gr.Column(min_width=160):
        return gr.HTML(_title(text), elem_id=f"{name}_title", elem_classes="title"), gr.Image(
            alt_text=text,
            show_label=False,
            elem_id=name,
            interactive=False,
            format="png",
            buttons=["download", "fullscreen"],
        )


def _title(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def _choice(arch: Any) -> tuple[gr.Slider, gr.Dropdown]:
    """Returns the controls of the layer and the head. That of the layer is hidden if there is only one."""
    last = arch.depth - 1
    layer = gr.Slider(
        maximum=max(1, last),  # gradio refuses a range of one value
        value=last,
        step=1,
        label="Layer",
        info="counted from 0",
        elem_id="layer",
        visible=last > 0,
        buttons=[],
    )
    heads = [_MEAN, *(f"head {number}" for number in range(arch.num_heads))]
    return layer, gr.Dropdown(heads, value=_MEAN, type="index", label="Head", info="counted from 0", elem_id="head")


def _about(model: Any, name: str) -> str:
    rows = summary.rows(model.arch, model.preprocessing, model.class_names)
    return f"<h1>{html.escape(name)}</h1>" + _paragraphs(" · ".join(f"{key.strip()}: {text}" for key, text in rows))


def _said(text: str, role: str = "status") -> str:
    """Returns a sentence about the photograph, which screen readers speak when it changes."""
    return f'<p role="{role}">{html.escape(text)}</p>'


def _paragraphs(*texts: str) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)
