"""The figures of a study show the numbers of its rows."""

import statistics

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from PIL import Image

from vit_jax import figures as saving
from vit_jax.studies import Axis, Figure, figures

AXES = ("model", "examples", "seed")
RNG = np.random.default_rng(0)
ROWS = [
    {"model": model, "examples": examples, "seed": seed, "accuracy": float(RNG.uniform()), "exaflops": 2.0 * flops,
     "steps": 10, "parameters": 7, "curves": {"loss": [[5, 9.0]], "accuracy": [[5, 0.25 + seed / 100], [10, 0.5]]}}
    for model, flops in (("ViT", 1.0), ("BiT", 3.0)) for examples in (1000, 100) for seed in (0, 1, 2)
]  # fmt: skip
BY_EXAMPLES = Figure("a", Axis("examples", "images", log=True), Axis("accuracy", "accuracy (%)", percent=True))


def values(model, examples):
    return [row["accuracy"] for row in ROWS if (row["model"], row["examples"]) == (model, examples)]


def test_means_and_deviations():
    canvas = figures.draw(BY_EXAMPLES, AXES, ROWS)
    (plot,) = canvas.axes
    bars = [c for c in plot.containers if isinstance(c, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["ViT", "BiT"]
    for bar in bars:
        line, _, (stems,) = bar.lines
        x, y = line.get_data()
        assert x == pytest.approx([100, 1000], rel=0.02)  # beside each other
        for at, examples in enumerate((100, 1000)):
            found = 100 * np.array(values(bar.get_label(), examples))
            assert y[at] == pytest.approx(found.mean())
            low, high = stems.get_segments()[at][:, 1]
            assert (low, high) == pytest.approx((found.mean() - found.std(ddof=1), found.mean() + found.std(ddof=1)))
    assert (plot.get_xscale(), plot.get_xlabel(), plot.get_ylabel()) == ("log", "images", "accuracy (%)")
    canvas.canvas.draw()
    assert [tick.get_text() for tick in plot.get_xticklabels()] == ["100", "1,000"]


def test_medians_reach_to_the_extremes():
    figure = Figure("a", BY_EXAMPLES.x, Axis("accuracy", ""), statistic="median")
    for model, points in figures.lines(figure, AXES, ROWS).items():
        for point in points:
            found = values(model, point.x)
            assert point.y == statistics.median(found)
            assert (point.y - point.below, point.y + point.above) == pytest.approx((min(found), max(found)))


def test_a_single_run_has_no_bar_and_a_missing_value_no_point():
    rows = [{**ROWS[0]}, {**ROWS[3], "accuracy": None}]
    assert figures.lines(BY_EXAMPLES, AXES, rows) == {"ViT": [(1000, ROWS[0]["accuracy"], 0.0, 0.0)]}
    assert figures.draw(BY_EXAMPLES, AXES, rows[1:]) is None


def test_along_the_training():
    compute = Axis("exaflops", "exaFLOPs", log=True)
    figure = Figure("a", compute, Axis("accuracy", ""), along=True, where={"examples": 100})
    found = figures.lines(figure, AXES, ROWS)
    assert [point.x for point in found["ViT"]] == [1.0, 2.0] and [point.x for point in found["BiT"]] == [3.0, 6.0]
    first, last = found["ViT"]
    assert first.y == pytest.approx(0.26) and first.above == pytest.approx(0.01) and last[1:] == (0.5, 0.0, 0.0)


def test_an_origin_begins_every_line():
    places = ("base", "1x", 1.0), ("depth", "4", 3.0), ("depth", "2", 2.0), ("width", "2", 2.5)
    rows = [{"scaled": key, "to": to, "seed": 0, "exaflops": x, "accuracy": x / 10} for key, to, x in places]
    figure = Figure("a", Axis("exaflops", ""), Axis("accuracy", ""), lines="scaled", origin="base")
    found = figures.lines(figure, ("scaled", "to", "seed"), rows)
    assert {key: [p.x for p in points] for key, points in found.items()} == {"depth": [1, 2, 3], "width": [1, 2.5]}


def test_png_and_pdf_are_written_whole(tmp_path):
    canvas = figures.draw(BY_EXAMPLES, AXES, ROWS)
    png, pdf = saving.save(canvas, tmp_path / "by.examples")
    assert sorted(tmp_path.iterdir()) == [pdf, png] and png.name == "by.examples.png"
    with Image.open(png) as image:
        assert min(image.size) > 500
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF") and b"/FontFile2" in content and b"/Type3" not in content
    before = png.read_bytes(), content
    saving.save(figures.draw(BY_EXAMPLES, AXES, ROWS), tmp_path / "by.examples")
    assert (png.read_bytes(), pdf.read_bytes()) == before
