"""A headless Chromium that the machine has, which tests drive, and the page of `demo` in it."""

import contextlib
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium or google-chrome on this machine")
# Pages that share a profile of the browser. More would wait for each other: Chromium has six connections to a server
# for all of them, and an open page of gradio keeps one.
_SHARE = 3


@contextlib.contextmanager
def browser(url, **options):
    """Yields a function that opens the page at `url` once more, and checks at the end that nothing went wrong.

    That is: no error in a console, and no request to another server. The function does not wait until the page has
    loaded, so that several pages load at once. Each page is a session of its own. Some share a profile of the browser,
    whose cache halves the work of loading them.
    """
    from playwright.sync_api import sync_playwright

    wrong = []

    def heard(message):
        if message.type == "error":
            wrong.append(message.text)

    def asked(request):
        if not request.url.startswith((url, "data:", "blob:")):
            wrong.append(request.url)

    def user():
        if len(profiles[-1].pages) == _SHARE:
            profiles.append(chromium.new_context(**options))
        page = profiles[-1].new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", asked)
        page.set_default_timeout(60_000)
        page.goto(url, wait_until="commit")
        return page

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            profiles = [chromium.new_context(**options)]
            yield user
        finally:
            chromium.close()
    assert not wrong, wrong


def drop(page, path):
    """Gives a file to the page."""
    page.set_input_files("#drop input[type=file]", path)


def said(page, text):
    """Waits until the page says something that contains `text`, and returns it."""
    page.wait_for_function("text => document.querySelector('#said [role]')?.innerText.includes(text)", arg=text)
    return page.inner_text("#said [role]")


def picture(page, name, other_than=None):
    """Returns the pixels of a picture on the page, once there is one that is not at the address `other_than`."""
    page.wait_for_function(
        "([name, old]) => { const found = document.querySelector(`#${name} img`); return found && found.src != old }",
        arg=[name, other_than],
    )
    content = page.request.get(address(page, name)).body()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def address(page, name):
    return page.locator(f"#{name} img").get_attribute("src")


@contextlib.contextmanager
def served(start, *args, **env):
    """Starts `demo` with the flags `args` at a free port, and yields the process and the page's address."""
    process = start("demo", "--port=0", *args, **env)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, process.communicate(timeout=300)[1]
        yield process, found[0]
    finally:
        process.terminate()  # it then deletes its files; there is nothing to end if all went well
        process.communicate(timeout=60)
