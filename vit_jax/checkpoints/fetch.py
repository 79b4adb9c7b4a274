"""Where a checkpoint is: on this machine, in a bucket or on the web, or a public one by its short name."""

import csv
import hashlib
import http.client
import io
import logging
import os
import pathlib
import re
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import BinaryIO

from etils import epath
from tqdm import tqdm

from vit_jax.checkpoints import hints
from vit_jax.checkpoints.files import line, replacing
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)
_PUBLIC = "https://storage.googleapis.com/"  # where public buckets are to be had without an account
_AUGREG = "gs://vit_models/augreg/"
_BESIDE = ("config.json", "preprocessor_config.json")
_CHUNK = 1 << 20
_FAILURES = (OSError, http.client.HTTPException)  # of urllib, whose own error is an OSError

# Public checkpoints: a folder and the names in it. Those of AugReg are in its index.
PUBLIC = {
    "gs://vit_models/imagenet21k/": (
        "ViT-B_16", "ViT-B_32", "ViT-L_16", "ViT-L_32", "ViT-H_14", "R50+ViT-B_16", "R50+ViT-L_16",
    ),
    "gs://vit_models/imagenet21k+imagenet2012/": (
        "ViT-B_16-224", "ViT-B_16", "ViT-B_32", "ViT-L_16-224", "ViT-L_16", "ViT-L_32",
    ),
    "gs://vit_models/sam/": ("ViT-B_16", "ViT-B_32"),
    "gs://mixer_models/imagenet21k/": ("Mixer-B_16", "Mixer-L_16"),
    "gs://mixer_models/imagenet1k/": ("Mixer-B_16", "Mixer-L_16"),
    "gs://bit_models/": tuple(
        f"BiT-{data}-R{size}" for data in "SM" for size in ("50x1", "50x3", "101x1", "101x3", "152x2", "152x4")
    ),
}  # fmt: skip
AUGREG = ("Ti/16", "S/32", "S/16", "B/32", "B/16", "L/16", "R+Ti/16", "R26+S/32", "R50+L/32")


def public_names() -> Iterator[str]:
    """What `load` and `config.init_from` take for the public checkpoints."""
    yield from (f"augreg:{variant}" for variant in AUGREG)
    yield from (f"{folder}{name}.npz" for folder, names in PUBLIC.items() for name in names)


def local(path: epath.PathLike) -> tuple[epath.Path, str]:
    """Where to read what `path` names, and the subtree of it that `file.npz:img` asks for.

    What comes from the web is kept in the user's cache (`$XDG_CACHE_HOME/vit_jax`), with the JSON beside it.

    Raises:
        UserError: there is no such file, or it can't be fetched.
    """
    found = re.fullmatch(r"(.+\.npz):(\w+)", str(path))
    name, subtree = (found[1], found[2]) if found else (str(path), "")
    if name.startswith("augreg:"):
        name = _AUGREG + _recommended(name.removeprefix("augreg:"), _text(_AUGREG + "index.csv")) + ".npz"
    if name.startswith(("https://", "http://")):
        return _cached(name), subtree
    if name.startswith(("hf://", "hf:", "hf-hub:")):
        raise UserError(hints.missing(name))
    target = epath.Path(name)
    if name.startswith("gs://"):
        if not _accessible(target):
            return _cached(_PUBLIC + urllib.parse.quote(name.removeprefix("gs://"))), subtree
    elif not target.exists():
        raise UserError(hints.missing(name))
    return target, subtree


def _accessible(path: epath.Path) -> bool:
    """Whether the machine's own credentials and libraries show the bucket's object."""
    try:
        return path.exists()
    except Exception as error:  # of whichever library serves gs:// here
        _LOG.info("%s is read over https: %s", path, line(error))
        return False


def _recommended(variant: str, index: str) -> str:
    """The file of the best `final_val` among a variant's ImageNet-21k rows of AugReg's index (2106.10270)."""
    rows = [row for row in csv.DictReader(io.StringIO(index)) if row["ds"] == "i21k"]
    found = [row for row in rows if row["name"] == variant]
    if not found:
        raise UserError(f"there is no augreg:{variant}; there are {', '.join(sorted({r['name'] for r in rows}))}")
    return max(found, key=lambda row: float(row["final_val"]))["filename"]


def _text(path: str) -> str:
    target = epath.Path(path)
    if _accessible(target):
        return target.read_text()
    with _open(_PUBLIC + path.removeprefix("gs://")) as response:
        return response.read().decode()


def _open(url: str) -> BinaryIO:
    try:
        return urllib.request.urlopen(url, timeout=60)
    except (*_FAILURES, ValueError) as error:
        raise UserError(f"{url} can't be fetched ({line(error)}); fetch it elsewhere and name the file") from error


def _cached(url: str) -> epath.Path:
    """The file behind a URL, fetched the first time; with the JSON that lies beside it, where there is one."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vit_jax"
    name = urllib.parse.unquote(url.rpartition("/")[2])
    target = epath.Path(cache / hashlib.sha256(url.encode()).hexdigest()[:16] / name)
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home to write to
        target = epath.Path(tempfile.mkdtemp()) / name
    _LOG.info("fetching %s to %s", url, target)
    with _open(url) as response, replacing(target, shared=True) as temporary:
        _download(response, temporary, url)
        for sibling in _beside(url):
            try:
                with urllib.request.urlopen(sibling, timeout=60) as found:
                    (target.parent / urllib.parse.unquote(sibling.rpartition("/")[2])).write_bytes(found.read())
            except _FAILURES:
                pass  # most files have none
    return target


def _beside(url: str) -> list[str]:
    """Where the JSON that describes a file would be."""
    stem, _, suffix = url.rpartition(".")
    return [f"{stem}.json"] if suffix == "npz" else [f"{url.rpartition('/')[0]}/{file}" for file in _BESIDE]


def _download(response: BinaryIO, target: epath.Path, url: str) -> None:
    """With a bar on a terminal. Raises UserError where it breaks off."""
    size, done = int(getattr(response, "headers", {}).get("Content-Length") or 0), 0
    why = ""
    with target.open("wb") as file, tqdm(total=size or None, unit="B", unit_scale=True, disable=None) as bar:
        try:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                bar.update(len(chunk))
        except _FAILURES as error:
            why = f" ({line(error)})"
    if why or (size and done != size):
        raise UserError(f"{url} broke off after {done} of {size or 'unknown'} bytes{why}; start again")
