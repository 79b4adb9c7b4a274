"""The page itself, in gradio: where a photograph is dropped, and what is shown of it.

What is shown of a photograph stays in the session of the user who gave it, and files of photographs are deleted.
"""

import html
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

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
_LAYER, _MEAN = "One layer", "mean of all heads"

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
        kept = gr.State(None, time_to_live=_SECONDS)
        gr.HTML(_about(model, name), elem_classes="about")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                drop = gr.File(label="Drop a photograph, or click to choose one", height=150, elem_id="drop")
                said = gr.HTML(_said("There is no photograph yet."), elem_classes="said", elem_id="said")
                classes = gr.Label(
                    label="Most probable classes",
                    num_top_classes=COUNT,
                    show_heading=False,
                    elem_id="classes",
                    visible="classes" not in lacks,
                )
            with gr.Column(scale=3):
                with gr.Row():
                    _, photograph = _titled("As the model sees it", "photograph")
                    if "attention" not in lacks:
                        _, rollout = _titled("Attention rollout", "rollout")
                        title, attention = _titled(_LAYER, "attention")
                if "attention" not in lacks:
                    with gr.Row():
                        layer, head = _choice(model.arch)
                gr.HTML(_title("Photographs to click"), elem_classes="title", visible=bool(samples))
                gallery = gr.Gallery(
                    [fitted(picture, _THUMBNAIL) for _, picture in samples],
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
                    visible=bool(samples),
                )
        gr.HTML(_paragraphs(*lacks.values(), *(() if "attention" in lacks else (_NOTE,))), elem_classes="note")

        parts = [kept, said, photograph, classes, *(() if "attention" in lacks else (rollout, attention))]

        def show(label: str, picture: Picture) -> dict:
            found = look(picture)
            size = f"{picture.shape[0]}x{picture.shape[1]}"
            shown: dict = {kept: found, said: _said(f"{label}, as the model sees it: {size} pixels.")}
            shown[photograph] = enlarged = fitted(picture, SIDE)
            if found.classes:
                shown[classes] = bars(found.classes)
            if found.rollout is not None:
                shown[rollout] = overlay(enlarged, found.rollout)
            return shown

        def dropped(path: str) -> dict:
            file = pathlib.Path(path)
            try:  # the place to drop a photograph is empty again, for the next one
                return {drop: None, **show(file.name, read(file, model.preprocessing))}
            except UserError as error:
                return {drop: None, **dict.fromkeys(parts), said: _said(f"{error}.", "alert")}

        def clicked(event: gr.SelectData) -> dict:
            return show(*samples[event.index])

        def redrawn(found: Look | None, layer: int, head: int) -> tuple[str, gr.Image]:
            if found is None or found.attention is None:
                return _title(_LAYER), gr.Image(None, alt_text=_LAYER)
            which = Map(int(layer), head - 1 if head else None)
            text = f"Layer {which.layer}, {_MEAN if which.head is None else f'head {which.head}'}"
            picture = overlay(fitted(found.photograph, SIDE), chosen(found, which))
            return _title(text), gr.Image(picture, alt_text=text)

        model_alone: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
        events = [
            drop.upload(dropped, drop, [drop, *parts], **model_alone),
            gallery.select(clicked, None, parts, **model_alone),
        ]
        if "attention" not in lacks:
            drawing: dict[str, Any] = {
                "fn": redrawn, "inputs": [kept, layer, head], "outputs": [title, attention], "show_progress": "hidden",
                "concurrency_limit": 4, "concurrency_id": "drawing", "api_visibility": "private",
            }  # fmt: skip
            for event in events:
                event.then(**drawing)
            for control in (layer, head):
                control.change(**drawing, trigger_mode="always_last")
    return page


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
    """Returns the controls of the layer and the head. One layer alone leaves nothing to choose."""
    last = arch.depth - 1
    layer = gr.Slider(
        0, last, last, step=1, label="Layer", info="counted from 0", elem_id="layer", visible=last > 0, buttons=[]
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
