"""Makes demo.png, the picture of the page of `vit_jax.demo` in the README, with a headless Chromium.

    python -m vit_jax.main --config=configs/digits.py --workdir=/tmp/vit_digits
    PYTHONPATH=tests python docs/images/make_demo.py /tmp/vit_digits docs/images/demo.png

The photographs are digits of scikit-learn's that the model was not trained on, enlarged smoothly.
"""

import pathlib
import subprocess
import sys
import tempfile

from PIL import Image

from helpers.browser import browser, drop, picture, served
from vit_jax.data.embedded import images

COUNT = 16


def main(model: str, out: str) -> None:
    pixels, labels, test = images("digits")
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / f"{labels[index]}_{index}.png" for index in test[:COUNT]]
        for index, path in zip(test, paths, strict=False):
            Image.fromarray(pixels[index]).resize((256, 256), Image.Resampling.BICUBIC).save(path)
        command = ["--model", model, "--images", folder]
        with served(start, *command) as (_, url), browser(url, viewport={"width": 1280, "height": 800}) as user:
            page = user()
            drop(page, paths[3])
            picture(page, "attention")
            page.wait_for_function("() => [...document.images].every(image => image.complete)")
            page.screenshot(path=out, full_page=True)


def start(verb: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"vit_jax.{verb}", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
