"""Draws the figures about a model as a whole. Each function takes an `Analysis` and returns a matplotlib figure."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_jax import figures
from vit_jax.analysis.measuring import Analysis

_MOST_PANELS = 16  # rows and columns of the grid of position similarities that are drawn
_PER_ROW = 7  # filters
_LAYER = "layer, counted from 0"
_BLUE, _ORANGE, _GREEN, *_ = figures.COLOURS
_GREY = "#777777"


def filters(analysis: Analysis) -> Figure:
    """Draws the principal components of the filters, and the share of variance that each explains."""
    components, explained = analysis.arrays["filters"], analysis.arrays["filters_explained_variance"]
    rows = -(-len(components) // _PER_ROW)
    figure = figures.new(7.4, 0.3 + 0.68 * max(rows, 3))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.9, 1))[0]
    grid = np.atleast_1d(left.subplots(rows, _PER_ROW)).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, component in zip(grid, components, strict=False):
        axes.imshow(0.5 + 0.5 * component / max(np.abs(component).max(), 1e-12), interpolation="nearest")
    axes = right.subplots()
    axes.bar(np.arange(1, len(explained) + 1), 100 * explained, color=_BLUE)
    axes.set(xlabel="component", ylabel="explained variance (%)")
    axes.locator_params(axis="x", integer=True)
    return figure


def posemb_similarity(analysis: Analysis) -> Figure:
    """Draws, at the place of each position, a map of its similarity to all positions."""
    similarity = analysis.arrays["posemb_similarity"]
    grid = similarity.shape[:2]
    taken = [np.unique(np.linspace(0, n - 1, min(n, _MOST_PANELS)).round().astype(int)) for n in grid]
    shape = len(taken[0]), len(taken[1])
    figure = figures.new(5.6, 0.6 + 5 * min(1.6, grid[0] * shape[0] / (grid[1] * shape[1])))
    gap = max(1, round(max(grid) / 8))  # cells between two maps
    mosaic = np.full((shape[0] * (grid[0] + gap) - gap, shape[1] * (grid[1] + gap) - gap), np.nan)
    for i, row in enumerate(taken[0]):
        for j, column in enumerate(taken[1]):
            y, x = i * (grid[0] + gap), j * (grid[1] + gap)
            mosaic[y : y + grid[0], x : x + grid[1]] = similarity[row, column]
    axes = figure.subplots()
    image = axes.imshow(mosaic, vmin=-1, vmax=1, cmap="viridis", interpolation="nearest")
    axes.set_xticks(np.arange(shape[1]) * (grid[1] + gap) + (grid[1] - 1) / 2, [str(i) for i in taken[1]])
    axes.set_yticks(np.arange(shape[0]) * (grid[0] + gap) + (grid[0] - 1) / 2, [str(i) for i in taken[0]])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="column of the patch", ylabel="row of the patch")
    figure.colorbar(image, ax=axes, label="cosine similarity", shrink=0.8)
    return figure


def attention_distance(analysis: Analysis) -> Figure:
    """Draws the mean attention distance of each head by layer, and the mean of the heads at random weights."""
    figure, axes = _by_layer()
    _heads(axes, analysis.arrays["attention_distance"])
    random = analysis.arrays["attention_distance_random"].mean(axis=1)
    axes.plot(random, "--", color=_GREY, marker="_", label="mean of the heads, random weights")
    axes.set(ylabel="mean attention distance (pixels)")
    _from_zero(axes)
    return figure


def attention_entropy(analysis: Analysis) -> Figure:
    """Draws the attention entropy of each head by layer, and the entropy of uniform attention."""
    figure, axes = _by_layer()
    _heads(axes, analysis.arrays["attention_entropy"])
    axes.axhline(np.log(analysis.arrays["token_norms"].shape[-1]), color=_GREY, ls="--", label="uniform attention")
    axes.set(ylabel="attention entropy (nats)")
    _from_zero(axes)
    return figure


def token_norms(analysis: Analysis) -> Figure:
    """Draws the norms of patch tokens by layer as quantiles, and those of the special tokens."""
    norms, arch = analysis.arrays["token_norms"], analysis.arch
    specials = getattr(arch, "specials", 0)
    patches = norms[..., specials:].reshape(len(norms), -1)
    layers = np.arange(len(norms))
    figure, axes = _by_layer()
    low, middle, high = np.quantile(patches, [0.05, 0.5, 0.95], axis=1)
    axes.fill_between(layers, low, high, color=_BLUE, alpha=0.2, lw=0, label="patches, 5 to 95 %")
    axes.plot(layers, middle, color=_BLUE, marker="o", label="patches, median")
    axes.plot(layers, patches.max(axis=1), ":", color=_BLUE, label="patches, largest")
    if getattr(arch, "class_token", False):
        axes.plot(layers, norms[..., 0].mean(axis=1), color=_ORANGE, marker="s", label="class token, mean")
    if getattr(arch, "registers", 0):
        registers = norms[..., specials - arch.registers : specials].mean(axis=(1, 2))
        whose = "distillation token" if arch.distilled else "registers"
        axes.plot(layers, registers, color=_GREEN, marker="^", label=f"{whose}, mean")
    if norms.max() > 30 * max(norms.min(), 1e-12):
        axes.set_yscale("log")
    axes.set(xlabel="layers passed", ylabel="norm of the tokens")
    axes.legend()
    return figure


def cka(analysis: Analysis) -> Figure:
    """Draws the similarity of each pair of layers as a matrix."""
    figure = figures.new(4.2, 3.5)
    axes = figure.subplots()
    image = axes.imshow(analysis.arrays["cka"], vmin=0, vmax=1, cmap="magma", origin="lower")
    axes.set(xlabel="layers passed", ylabel="layers passed")
    axes.locator_params(integer=True)
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="similarity (CKA)")
    return figure


def _by_layer() -> tuple[Figure, Axes]:
    figure = figures.new(5, 3.4)
    axes = figure.subplots()
    axes.set(xlabel=_LAYER)
    axes.locator_params(axis="x", integer=True)
    return figure, axes


def _heads(axes: Axes, values: Float[np.ndarray, "depth heads"]) -> None:
    """Draws a point for each head, and a line through the means of the heads."""
    layers = np.repeat(np.arange(len(values)), values.shape[1])
    axes.scatter(layers, values.ravel(), s=14, color=_BLUE, alpha=0.55, lw=0, label="heads")
    axes.plot(values.mean(axis=1), color=_ORANGE, label="mean of the heads")


def _from_zero(axes: Axes) -> None:
    """Lets the vertical axis start at zero and end a little above the largest value, and draws the legend."""
    axes.set_ylim(0, 1.08 * axes.dataLim.y1 if np.isfinite(axes.dataLim.y1) else 1)
    axes.legend(loc="best")
