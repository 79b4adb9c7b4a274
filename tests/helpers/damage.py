"""Damage to files, and what a test of damaged input checks."""

import contextlib
import math
import pathlib
import resource
import signal
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import vit_jax
from vit_jax.errors import UserError

SECONDS, BYTES = 20, 6 * 2**30  # the time and memory that one damaged input may take
ROUNDS, FILES = 10, 16  # tests of each kind and format, and damaged files in each test
TINY = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "image_size": 16, "num_classes": 3}
DINOV3 = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "image_size": 16, "num_classes": 0}
# For each naming of a format, the model that is saved: (name, keywords, suffix of the file).
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "original": ("Ti/8", TINY | {"registers": 1, "layer_scale": 0.1, "pre_logits": 8}, ".npz"),
    "big_vision": ("Ti/8", TINY | {"pool": "map"}, ".npz"),
    "big_vision_scan": ("Ti/8", TINY | {"pool": "gap", "posemb": "sincos2d"}, ".npz"),
    "bit": ("BiT-R50x1", {"stages": (1, 1), "stem_width": 32, "image_size": 32, "num_classes": 3}, ".npz"),
    "timm": ("Ti/8", TINY | {"mlp": "gelu_erf", "registers": 1, "qk_norm": True, "layer_scale": 0.1}, ".safetensors"),
    "transformers": ("Ti/8", TINY | {"mlp": "gelu_erf", "norm_eps": 1e-12}, ".safetensors"),
    "timm-dinov3": ("DINOv3-S/8", DINOV3 | {"num_classes": 3}, ".safetensors"),
    "transformers-dinov3": ("DINOv3-S+/8", DINOV3, ".safetensors"),
}
# Values that replace a value in a side file, or the value of a key in a config.
VALUES = (
    None, True, False, 0, -1, 1, 7, 10**9, 10**30, 0.5, -0.5, 1e308, math.nan, math.inf, "", "x", "16", "tok", "ä\0",
    [], [1], [16, 16], [0, 0], [-8, 8], [1, 2, 3], ["x", None], [[1]], [math.nan] * 3, {}, {"x": 1}, {"height": "x"},
)  # fmt: skip


class Hangs(BaseException):
    """Raised if a case takes longer than `SECONDS`."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Limits the time and the memory of the code inside the context."""

    def end(*_: Any) -> None:
        raise Hangs(f"more than {SECONDS} s")

    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def loaded(path: pathlib.Path) -> vit_jax.models.model.Model | None:
    """Returns the model in a file after checking that it can compute, or None if it is refused with one sentence."""
    try:
        model = vit_jax.load(path)
        size = (1, *model.arch.image_size, 3)
        logits = jax.eval_shape(model, jax.ShapeDtypeStruct(size, np.uint8))
    except UserError as error:
        assert_sentence(error)
        return None
    assert logits.shape[0] == 1 and logits.dtype == np.float32
    return model


def assert_sentence(error: UserError) -> None:
    text = str(error)
    assert text and "\n" not in text and len(text) < 4000, f"no sentence: {text!r}"


class Cases:
    """Collects the cases that fail, so that a test can report all of them."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    @contextlib.contextmanager
    def case(self, what: str) -> Iterator[None]:
        try:
            with bounded():
                yield
        except (Exception, Hangs) as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "vit_jax" in f.filename]
            where = f"{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            self.wrong.append(f"{what}: {type(error).__name__}: {str(error)[:300]!r} {where}")


def each_format(rounds: int = ROUNDS) -> Any:
    cases = [(format, number) for format in MODELS for number in range(rounds)]
    return pytest.mark.parametrize(
        ("file", "number"), cases, indirect=["file"], ids=[f"{format}-{number}" for format, number in cases]
    )


def damaged_bytes(content: bytes, rng: np.random.Generator, within: int) -> tuple[str, bytes]:
    """Returns a description of the damage, and `content` with it.

    The damage is within the first `within` bytes, or the content is cut at any place or made longer.
    """
    kind = rng.choice(["flip", "zeros", "cut", "longer", "remove", "insert"])
    at, count = int(rng.integers(within)), int(rng.integers(1, 64))
    noise = rng.bytes(count)
    if kind == "flip":
        return f"{count} bytes at {at}", content[:at] + noise + content[at + count :]
    if kind == "zeros":
        return f"{count} zeros at {at}", content[:at] + bytes(count) + content[at + count :]
    if kind == "cut":
        at = int(rng.integers(len(content)))
        return f"cut at {at}", content[:at]
    if kind == "longer":
        return f"{count} bytes more", content + noise
    if kind == "remove":
        return f"{count} bytes at {at} removed", content[:at] + content[at + count :]
    return f"{count} bytes at {at} inserted", content[:at] + noise + content[at:]
