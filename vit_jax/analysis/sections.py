"""The figures of an analysis in the order of the report, each with what it shows and where it comes from."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from matplotlib.figure import Figure

from vit_jax import figures as styled
from vit_jax.analysis import photographs, plots
from vit_jax.analysis.measuring import Analysis, Map
from vit_jax.errors import UserError


class Section(NamedTuple):
    """One figure.

    Attributes:
        name: the name of its array, and of its files.
        title: the heading in the report.
        text: what it shows and where it comes from, one sentence.
        draw: returns the figure; None if it is drawn over the photographs, on pages.
    """

    name: str
    title: str
    text: str
    draw: Callable[[Analysis], Figure] | None = None


_SECTIONS = (
    Section(
        "filters",
        "Filters of the first layer",
        "The principal components of the kernels that read the pixels, and the share of the kernels' variance that "
        "each explains; in a trained model they resemble a basis for the fine structure within a patch (ViT paper, "
        "Figure 7, left).",
        plots.filters,
    ),
    Section(
        "posemb_similarity",
        "Similarity of position embeddings",
        "Each small map shows how similar the position embedding of one patch is to those of all patches; if the model "
        "has learned the layout of the image, the embeddings of near patches, and of patches in the same row or "
        "column, are the most similar (ViT paper, "
        "Figure 7, centre, and Figure 10).",
        plots.posemb_similarity,
    ),
    Section(
        "attention_distance",
        "Attention distance",
        "The distance in pixels between a patch and the patches that it attends to, weighted by attention and averaged "
        "over patches and images; heads with a small distance see the image locally, as early convolutions do, and the "
        "dashed line is what the same architecture has at random weights (ViT paper, Figure 7, right, and Figure 11).",
        plots.attention_distance,
    ),
    Section(
        "attention_entropy",
        "Attention entropy",
        "The entropy of the attention weights of each head, averaged over tokens and images; it is 0 where a token "
        "attends to one token, and reaches the dashed line where it attends to all equally (2303.06296, section 3).",
        plots.attention_entropy,
    ),
    Section(
        "token_norms",
        "Norms of the tokens",
        "The Euclidean norm of the tokens before the first layer (0) and after each layer; a few patches far above all "
        "others are artefacts, which store global information and disturb maps of attention (2309.16588).",
        plots.token_norms,
    ),
    Section(
        "cka",
        "Similarity of layers",
        "The centred kernel alignment (CKA) of the tokens after each pair of layers, on tokens drawn at random; blocks "
        "of bright colour are layers that compute much the same representation (2108.08810, Figure 1).",
        plots.cka,
    ),
    Section(
        "rollout",
        "Where the model looks",
        "Attention rollout shows how much each patch reaches the output through all layers, with the mean of the heads "
        "and half an identity for the residual connection in each layer; bright is much, scaled for each image (ViT "
        "paper, Figure 6; 2005.00928).",
    ),
)
NAMES = tuple(section.name for section in _SECTIONS)


def sections(maps: tuple[Map, ...] = ()) -> Iterator[Section]:
    """Yields all sections, and one more for each map of attention weights that was asked for."""
    yield from _SECTIONS
    for each in maps:
        whose = "the mean of its heads" if each.head is None else f"its head {each.head}"
        yield Section(
            each.name,
            f"Attention of layer {each.layer}",
            f"The attention weights of layer {each.layer}, {whose}, from the token that the head reads (or the mean of "
            "all patches) to each patch, without the layers below; layers and heads are counted from 0 (ViT paper, "
            "equation 6).",
        )


def figures(section: Section, analysis: Analysis) -> Iterator[tuple[str, Figure]]:
    """Yields the figures of a section with the names of their files: one, or one for each page of photographs."""
    if section.draw:
        yield section.name, section.draw(analysis)
        return
    for page, figure in enumerate(photographs.pages(analysis, section.name), 1):
        yield f"{section.name}_{page:02d}", figure


def draw(analysis: Analysis, name: str, page: int = 1) -> Figure:
    """Returns one figure of an analysis, which a notebook shows. `analysis.missing` says which do not apply, and why.

    Args:
        analysis: what `measure` returns.
        name: the figure, such as `filters`; the names of all are those in `analysis.arrays` that `NAMES` has, and the
            `Map.name` of each map that was asked for.
        page: of a figure that is drawn over the photographs, 12 on a page, the first of which is 1.

    Raises:
        UserError: there is no such figure or page, or the figure does not apply to the model.
    """
    known = {section.name: section for section in sections(analysis.maps)}
    if name not in known:
        raise UserError(f"there is no figure {name!r}; the figures are {', '.join(known)}")
    if name in analysis.missing:
        raise UserError(f"{name} can't be drawn: {analysis.missing[name]} analysis.missing lists what does not apply")
    with styled.style():
        found = next(itertools.islice(figures(known[name], analysis), page - 1, None), None) if page > 0 else None
    if found is None:
        raise UserError(
            f"the figure {name} has no page {page}; pages count from 1 and have {photographs.PER_PAGE} images"
        )
    return found[1]
