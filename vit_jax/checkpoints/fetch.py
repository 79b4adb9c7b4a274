"""Finds checkpoints: local files, files in buckets or on the web, and public checkpoints by a short name."""

import contextlib
import csv
import hashlib
import http.client
import io
import logging
import os
import pathlib
import re
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, BinaryIO

from etils import epath
from tqdm import tqdm

from vit_jax.checkpoints import hints
from vit_jax.checkpoints.containers import INDEX, shards_of
from vit_jax.checkpoints.files import line, replacing, write_json
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)
_PUBLIC = "https://storage.googleapis.com/"  # serves the files of public buckets, without an account
_AUGREG = "gs://vit_models/augreg/"
_BESIDE = ("config.json", "preprocessor_config.json")
_CHUNK = 1 << 20
_TRIES, _WAIT_SECONDS, _TIMEOUT_SECONDS = 3, 2.0, 60.0
_FAILURES = (OSError, http.client.HTTPException)  # raised by urllib; its URLError is an OSError

# Public checkpoints: the names in each folder. Those of AugReg are not here; the index in its bucket lists them.
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
    """Yields the names of the public checkpoints, as `load` and `config.init_from` take them."""
    yield from (f"augreg:{variant}" for variant in AUGREG)
    yield from (f"{folder}{name}.npz" for folder, names in PUBLIC.items() for name in names)


def local(path: epath.PathLike) -> tuple[epath.Path, str]:
    """Returns where the checkpoint `path` can be read, and the name of the subtree to take from it.

    Files from the web are downloaded to the user's cache (`$XDG_CACHE_HOME/vit_jax`, by default `~/.cache/vit_jax`),
    with the JSON files that describe them. `gs://` is read with the machine's own credentials if these work, and
    otherwise downloaded over https.

    Args:
        path: a local file or folder, `gs://…`, `https://…`, or `augreg:VARIANT`, such as `augreg:B/16`. `FILE.npz:img`
            names the subtree `img` of a file.

    Returns:
        The path of a file or folder, and the subtree, which is "" if `path` names none.

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
    """Returns whether the object of a bucket exists and this machine's libraries and credentials can read it."""
    try:
        return path.exists()
    except Exception as error:  # any error of the library that serves gs:// here
        _LOG.info("%s is read over https: %s", path, line(error))
        return False


def _recommended(variant: str, index: str) -> str:
    """Returns the name of the AugReg checkpoint (2106.10270) that is recommended for a variant.

    It is the one with the best upstream validation score (`final_val`) among the variant's ImageNet-21k rows.

    Args:
        variant: such as `B/16`.
        index: the text of AugReg's `index.csv`.

    Raises:
        UserError: the index does not list the variant.
    """
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
        return urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)
    except (*_FAILURES, ValueError) as error:
        raise UserError(f"{url} can't be fetched ({line(error)}); fetch it elsewhere and name the file") from error


def _cached(url: str) -> epath.Path:
    """Returns the cached file of a URL, which is downloaded the first time.

    The JSON files that describe the model are downloaded with it, if the server has them, and so are the shards of an
    index. Each URL has a folder in the cache. When everything is downloaded, the file `.whole` is written there.
    Several processes may download the same URL at once. If the cache can't be written, a temporary folder is used.

    Raises:
        UserError: the file does not exist on the server or can't be downloaded.
    """
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vit_jax"
    folder = epath.Path(cache / hashlib.sha256(url.encode()).hexdigest()[:16])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # the cache can't be written
        folder = epath.Path(tempfile.mkdtemp())
    target, whole = folder / _name(url), folder / ".whole"
    if target.exists() and whole.exists():
        return target
    _LOG.info("fetching %s to %s", url, target)
    _remove_old_leftovers(folder)
    # A file without `.whole` may come from an earlier version of vit_jax, which did not tell a JSON file that does not
    # exist from one that could not be downloaded.
    before = target.exists()
    try:
        absent = [_name(sibling) for sibling in _beside(url) if not _fetch(sibling, folder)]
    except UserError as error:
        if not before:
            raise
        _LOG.warning("%s is used from the cache without what may lie beside it: %s", target, error)
        return target
    if not before and not _fetch(url, folder):
        raise UserError(f"there is no {url}; check the name, or fetch it elsewhere and name the file")
    if target.name.endswith(INDEX):
        for shard in shards_of(target):
            if not (folder / shard).exists() and not _fetch(f"{url.rpartition('/')[0]}/{shard}", folder):
                raise UserError(f"{url} names the shard {shard}, and that does not lie beside it")
    write_json(whole, {"absent": absent})
    return target


def _name(url: str) -> str:
    return urllib.parse.unquote(url.rpartition("/")[2])


def _remove_old_leftovers(folder: epath.Path) -> None:
    """Removes unfinished files of downloads that were killed more than a day ago."""
    for file in folder.glob(".*.partial"):
        with contextlib.suppress(FileNotFoundError):  # another process may finish its download in between
            if time.time() - file.stat().mtime > 24 * 3600:
                file.unlink(missing_ok=True)


def _fetch(url: str, folder: epath.Path) -> bool:
    """Downloads a file to a folder, whole or not at all, and returns whether the server has the file.

    The server does not have the file if it answers 404. On `https://storage.googleapis.com/` the answer 403 means the
    same, because a public bucket that forbids listing gives it for a missing file. After any other error, on the
    network or on the disk, the download is tried again, up to three times in all.

    Raises:
        UserError: the third try failed, too.
    """
    why = ""
    for attempt in range(_TRIES):
        time.sleep(_WAIT_SECONDS if attempt else 0)
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
                with replacing(folder / _name(url), shared=True) as temporary:
                    _download(response, temporary)
            return True
        except urllib.error.HTTPError as error:
            if error.code == 404 or (error.code == 403 and url.startswith(_PUBLIC)):
                return False
            why = line(error)
        except (*_FAILURES, ValueError) as error:
            why = line(error)
    raise UserError(f"{url} can't be fetched ({why}); start again, or fetch it elsewhere and name the file")


def _beside(url: str) -> list[str]:
    """Returns the URLs of the JSON files that may describe the model in a file. They need not exist."""
    stem, _, suffix = url.rpartition(".")
    return [f"{stem}.json"] if suffix == "npz" else [f"{url.rpartition('/')[0]}/{file}" for file in _BESIDE]


def _download(response: Any, target: epath.Path) -> None:
    """Writes the body of an HTTP response to a file, and shows a progress bar on a terminal.

    Raises:
        OSError: the file can't be written, or fewer bytes arrive than the response has announced.
        http.client.HTTPException: the connection fails.
    """
    size, done = int(response.headers.get("Content-Length") or 0), 0
    with target.open("wb") as file, tqdm(total=size or None, unit="B", unit_scale=True, disable=None) as bar:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            bar.update(len(chunk))
    if size and done != size:
        raise ConnectionError(f"it broke off after {done} of {size} bytes")
