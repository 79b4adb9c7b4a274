"""The command `demo`: its page in a real browser, how it ends, and its errors."""

import pathlib
import re
import signal
import socket

import numpy as np
import pytest
from PIL import Image

import vit_jax
from helpers.browser import address, browser, drop, needs_browser, picture, said, served
from helpers.models import create
from helpers.pictures import pictures
from vit_jax.analysis.measuring import Map
from vit_jax.analysis.overlay import fitted, overlay
from vit_jax.page.look import SIDE, chosen, looker
from vit_jax.predicting import predict

ROOT = pathlib.Path(vit_jax.__file__).parents[1]
NAMES = ("ant", "bee", "cat", "dog", "eel")
# Python runs this when it starts. It tells of each connection to, or look-up of, another machine.
GUARD = """
import socket, sys

def guard(owner, name, host_of):
    original = getattr(owner, name)
    def guarded(*args, **keywords):
        host = host_of(*args)
        if host not in ("127.0.0.1", "localhost", None):
            print("this process asks for", host, file=sys.stderr)
        return original(*args, **keywords)
    setattr(owner, name, guarded)

guard(socket.socket, "connect", lambda self, address: address[0] if isinstance(address, tuple) else None)
guard(socket, "getaddrinfo", lambda host, *rest: host)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run's folder with a model whose images are not square, and whose classes have names."""
    folder = tmp_path_factory.mktemp("run")
    model = create()
    model.class_names = NAMES
    vit_jax.save(model, folder / "model.npz")
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Returns the paths of ten photographs that differ; the last one is a JPEG of 20 megapixels."""
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / f"{number}.png" for number in range(9)] + [folder / "camera.jpg"]
    for path, pixels in zip(paths, pictures(10, 48, 64), strict=True):
        image = Image.fromarray(pixels)
        (image if path.suffix == ".png" else image.resize((5472, 3648))).save(path)
    return paths


@pytest.fixture(scope="module")
def answers(run, photographs):
    """Returns what `predict` answers, as the page writes it: a list of names and percentages for each photograph."""
    found = predict(vit_jax.load(run), [*map(str, photographs)], batch_size=10, count=5)
    return [[word for top in each.classes for word in (top.name, f"{100 * top.probability:.0f}%")] for each in found]


def answered(page):
    return page.inner_text("#classes").split("\n")[1:]


def check_answer(page, answer):
    """Checks the classes, which the browser may draw a moment later than the sentence about the photograph."""
    for _ in range(50):
        if answered(page) == answer:
            return
        page.wait_for_timeout(100)
    assert answered(page) == answer


def same(shown, expected):
    """Checks that two pictures are equal, up to rounding."""
    np.testing.assert_allclose(shown.astype(int), expected.astype(int), atol=2)


@needs_browser
def test_the_page_in_a_browser(start, run, photographs, answers, tmp_path):
    """One server answers all: starting one takes longer than everything that is asked of it."""
    assert len({*map(tuple, answers)}) == 10
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "files").mkdir()
    env = {"PYTHONPATH": f"{tmp_path / 'guard'}:{ROOT}", "TMPDIR": str(tmp_path / "files")}
    flags = [f"--model={run}", f"--images={photographs[0].parent}"]
    with served(start, *flags, without=("tensorflow",), **env) as (process, url):
        with browser(url) as user:
            page = user()
            shows_a_photograph(page, vit_jax.load(run), photographs[3], answers[3])
            refuses_a_text(page, tmp_path)
            page.locator("#samples button").nth(2).click()  # they are sorted by name
            said(page, "2.png, as the model sees it: 16x12 pixels")
            check_answer(page, answers[2])
            answers_ten_at_once([page, *(user() for _ in range(9))], photographs, answers)
        assert any((tmp_path / "files").iterdir())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert not any((tmp_path / "files").iterdir())


def shows_a_photograph(page, model, path, answer):
    """The classes are those of `predict`, and the pictures those of `analyze`, for each layer and head."""
    drop(page, path)
    said(page, f"{path.name}, as the model sees it: 16x12 pixels")
    check_answer(page, answer)
    look = looker(model)(vit_jax.read_images(path, model)[0])
    whole = fitted(look.photograph, SIDE)
    same(picture(page, "photograph"), whole)
    same(picture(page, "rollout"), overlay(whole, look.rollout))
    same(picture(page, "attention"), overlay(whole, chosen(look, Map(1))))
    for which, choose in (
        (Map(0), lambda: page.get_by_label("number input for Layer").fill("0")),
        (Map(0, 1), lambda: (page.get_by_label("Head").click(), page.get_by_role("option", name="head 1").click())),
    ):
        before = address(page, "attention")
        choose()
        same(picture(page, "attention", other_than=before), overlay(whole, chosen(look, which)))
        text = f"Layer {which.layer}, " + ("mean of all heads" if which.head is None else f"head {which.head}")
        assert page.inner_text("#attention_title") == text
        assert page.locator("#attention img").get_attribute("alt") == text


def refuses_a_text(page, folder):
    """A file that is no image leaves nothing of the photograph before it on the page."""
    (folder / "<b>text.png").write_text("no image")
    drop(page, folder / "<b>text.png")
    assert re.fullmatch(r"[^.]*text\.png is no image that this page reads; give [^.]*\.", said(page, "no image"))
    page.wait_for_function("() => !document.querySelector('#photograph img, #rollout img, #attention img')")
    assert not any(word.endswith("%") for word in answered(page))


def answers_ten_at_once(pages, paths, answers):
    """Ten users give a photograph at the same time, and each sees what belongs to their own."""
    for page, path in zip(pages, paths, strict=True):
        drop(page, path)
    for page, path, answer in zip(pages, paths, answers, strict=True):
        said(page, f"{path.name}, as the model sees it")
        check_answer(page, answer)
    assert len({picture(page, "attention").tobytes() for page in pages}) == 10


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(
    ("model", "reason", "there", "not_there"),
    [
        (("Mixer-B/16", {}), "an MLP-Mixer has no attention", "#classes", "#rollout"),
        (("Ti/16", {"num_classes": 0, "depth": 1}), "this model has no head", "#rollout img", "#classes"),
    ],
    ids=["no attention", "no classes"],
)
def test_what_is_missing_has_a_reason(start, photographs, tmp_path, model, reason, there, not_there):
    """It is also served to other machines, with a warning, and ended by Ctrl-C."""
    vit_jax.save(create(model[0], **model[1]), tmp_path / "model.npz")
    with served(start, f"--model={tmp_path}", "--host=0.0.0.0") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        with browser(url, color_scheme="dark") as user:
            page = user()
            drop(page, photographs[0])
            said(page, "0.png, as the model sees it")
            picture(page, "photograph")
            page.wait_for_selector(there)
            assert reason in page.inner_text(".note") and page.locator(not_there).count() == 0
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err == "warning: with --host=0.0.0.0, whoever reaches this machine can use the page\n"


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which model? add --model=FOLDER_OR_FILE"),
        (["--model={run}", "one.png"], "demo takes no arguments, and got one.png; name images to click with --images"),
        (["--model={run}", "--port={taken}"], "the port {taken} is taken; give another one, or --port=0"),
        (["--model={run}"], "the page needs the package gradio, which is not installed: pip install 'vit_jax[demo]'"),
    ],
    ids=["no model", "an argument", "a taken port", "no gradio"],
)
def test_mistakes_are_found_before_jax(start, run, tmp_path, request, args, said):
    env = {}
    if "gradio" in request.node.name:
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['gradio'] = None")
        env["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        places = {"run": run, "taken": server.getsockname()[1]}
        code, out, err = ended(start("demo", *(arg.format(**places) for arg in args), without=("jax",), **env))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {said.format(**places)}") and len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_model_that_is_not_there(start, tmp_path):
    code, out, err = ended(start("demo", f"--model={tmp_path}/none", "--port=0"))
    assert (code, out) == (1, "") and err.startswith(f"error: there is no checkpoint {tmp_path}/none")
