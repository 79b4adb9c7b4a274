"""Damaged input of every kind must give a result, a `UserError`, or a replacement that is logged and counted.

`pytest -m slow tests/test_fuzz.py` runs the tests. The random numbers of a test depend only on the number in its name,
so a failure can be repeated by `pytest -m slow 'tests/test_fuzz.py::test_arrays[original-3]'`. The message of a failure
lists all the cases that went wrong.
"""

import contextlib
import io
import json
import logging
import math
import pathlib
import resource
import signal
import struct
import traceback
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax
from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.checkpoints import containers
from vit_jax.errors import UserError
from vit_jax.models import variants
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.functional import flatten, split, unflatten
from vit_jax.training import make_step, start
from vit_jax.training.state import abstract_state, resolve

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> pathlib.Path:
    """Returns a folder that holds, for each format, a folder with an undamaged file and its side files."""
    root = tmp_path_factory.mktemp("originals")
    for naming, (name, keywords, suffix) in MODELS.items():
        rng, arch = np.random.default_rng(0), variants.named(name, **keywords)
        preprocessing = Preprocessing(arch.image_size, 2 * min(arch.image_size), (0.25, 0.5, 0.75), (0.5, 0.25, 1.0))
        bind, shapes = split(abstract(arch, preprocessing, ("a", "ä", "ß")[: arch.num_classes]))
        arrays = {path: rng.standard_normal(s.shape, np.float32) for path, s in flatten(shapes).items()}
        (root / naming).mkdir()
        format = naming.partition("-")[0]
        vit_jax.save(bind(unflatten(arrays)), root / naming / f"model{suffix}", format=format)
    return root


@pytest.fixture
def file(originals, tmp_path, request) -> pathlib.Path:
    """Returns the path of a copy of the undamaged file of a format, with its side files."""
    for path in (originals / request.param).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / f"model{MODELS[request.param][2]}"


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


@pytest.fixture
def cases() -> Iterator[Cases]:
    found = Cases()
    yield found
    assert not found.wrong, "\n".join([f"{len(found.wrong)} cases", *found.wrong])


def each_format(rounds: int = ROUNDS) -> Any:
    cases = [(format, number) for format in MODELS for number in range(rounds)]
    return pytest.mark.parametrize(
        ("file", "number"), cases, indirect=["file"], ids=[f"{format}-{number}" for format, number in cases]
    )


# Bytes and headers.


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


@each_format()
def test_bytes(file, number, cases):
    content, rng = file.read_bytes(), np.random.default_rng(number)
    for _ in range(FILES):
        header = 200 if file.suffix == ".npz" else 8 + int.from_bytes(content[:8], "little")
        what, damaged = damaged_bytes(content, rng, header if rng.random() < 0.5 else len(content))
        file.write_bytes(damaged)
        with cases.case(what):
            loaded(file)


@each_format()
def test_headers(file, number, cases):
    """The header, with names, types, shapes and offsets of the arrays, is wrong; the rest of the file is undamaged."""
    content, rng = file.read_bytes(), np.random.default_rng(number)
    for _ in range(FILES):
        what, damaged = (_npz_header if file.suffix == ".npz" else _safetensors_header)(content, rng)
        file.write_bytes(damaged)
        with cases.case(what):
            loaded(file)


def _safetensors_header(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = str(rng.choice([n for n in header if n != "__metadata__"]))
    key = str(rng.choice(["dtype", "shape", "data_offsets", "", "__metadata__", "more"]))
    value = VALUES[rng.integers(len(VALUES))]
    if key == "dtype":
        value = str(rng.choice(["F64", "F16", "BF16", "I32", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "U64", "x"]))
    if key == "":
        header[name] = value
    elif key == "__metadata__":
        header[key] = value if rng.random() < 0.5 else {"vit_jax": json.dumps(value)}
    else:
        header[name][key] = value
    text = json.dumps(header).encode()
    size = len(text) if rng.random() < 0.9 else int(rng.choice([0, 1, 2**31, 2**63 - 1]))
    return f"{name}.{key}={value!r}", struct.pack("<Q", size) + text + content[8 + length :]


def _npz_header(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    members = _members(content)
    name = str(rng.choice(list(members)))
    array = np.lib.format.read_array(io.BytesIO(members[name]))
    header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": array.shape}
    key = str(rng.choice([*header, "text", "name", "twice"]))
    if key == "descr":
        header[key] = str(
            rng.choice(["<f8", ">f4", "<i4", "|b1", "<c8", "|O", "<U4", "|S4", "|V4", "<M8[s]", "nonsense"])
        )
    elif key == "fortran_order":
        header[key] = True
    elif key == "shape":
        header[key] = ((10**9, 10**9), (-1,), (), (0,), (1, *array.shape), ("x",), (2**62, 4))[rng.integers(7)]
    text = repr(header) if key != "text" else str(rng.choice(["", "{", "None", "[1]", "{'shape': 3}", "x" * 70_000]))
    version = (1, 0) if len(text) < 60_000 and rng.random() < 0.7 else (int(rng.integers(2, 5)), 0)
    encoded = text.encode() + b"\n"
    sized = struct.pack("<H" if version == (1, 0) else "<I", len(encoded)) + encoded
    members[name] = b"\x93NUMPY" + bytes(version) + sized + array.tobytes()
    other = {"name": str(rng.choice(["y", "x", "../x.npy", "head/kernel", "a" * 5000 + ".npy"]))}.get(key, name)
    return f"{name}: {key} {text[:80]}", _archive(members, rename={name: other}, twice=name if key == "twice" else "")


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(members: dict[str, bytes], rename: dict[str, str], twice: str = "") -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # zipfile warns if two members have the same name
        for name, member in members.items():
            for _ in range(1 + (name == twice)):
                archive.writestr(rename.get(name, name), member)
    return buffer.getvalue()


# Arrays.


def changed(array: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Returns a description of a random change, and the changed array: of another shape, type or kind of value."""
    flat = array.reshape(-1)
    broken = flat.copy()
    broken[rng.integers(len(flat), size=2)] = (np.nan, np.inf)
    options: dict[str, Any] = {
        "empty": lambda: np.zeros((0, *array.shape[1:]), np.float32),
        "a number": lambda: np.float32(flat[0]).reshape(()),
        "one axis more": lambda: array[None, ..., None],
        "transposed": lambda: array.T,
        "flat": lambda: flat,
        "shorter": lambda: array[:-1],
        "longer": lambda: np.concatenate([array, array]),
        "not finite": lambda: broken.reshape(array.shape),
        "huge": lambda: np.sign(array) * np.float32(3e38),
        **{f"as {kind}": lambda kind=kind: array.astype(kind) for kind in ("f2", "f8", "i4", "i8", "u1", "?")},
    }
    what = str(rng.choice(list(options)))
    return what, options[what]()


@each_format()
def test_arrays(file, number, cases, caplog):
    """One array of a file is dropped, renamed, added or changed (see `changed`)."""
    rng = np.random.default_rng(number)
    sound, metadata = _arrays(file), _metadata(file)
    for _ in range(FILES):
        arrays = dict(sound)
        name = str(rng.choice(list(arrays)))
        what = str(rng.choice(["dropped", "renamed", "added", "changed", "changed", "changed"]))
        if what == "dropped":
            del arrays[name]
        elif what == "renamed":
            arrays[name + str(rng.choice(["x", "/x", ".weight", " "]))] = arrays.pop(name)
        elif what == "added":
            arrays[str(rng.choice(["x", "module.x", name + "2", "head/x/y/z", "blocks.99.norm1.weight"]))] = arrays[
                name
            ]
        else:
            what, arrays[name] = changed(arrays[name], rng)
        _write(file, arrays, metadata if rng.random() < 0.5 else {})
        caplog.clear()
        with cases.case(f"{name} is {what}"):
            model = loaded(file)
            if what == "not finite" and model is not None:
                said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
                assert any("finite" in line for line in said), f"nothing is said of NaN: {said}"


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    file = containers.open_file(path)
    return {name: np.array(file.read(name)) for name in file.shapes}


def _metadata(path: pathlib.Path) -> dict[str, str]:
    return dict(containers.open_file(path).metadata)


_TYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "i4": "I32", "i8": "I64", "u1": "U8", "b1": "BOOL"}


def _write(path: pathlib.Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Writes arrays of any type as NumPy and safetensors write them."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _TYPES[array.dtype.str[1:]], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays.values()))


# Side files.


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of every value in nested JSON; the first path, (), is that of the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@each_format(rounds=1)
def test_side_files(file, number, cases):
    """Side files are damaged: every value is replaced by some of `VALUES`, and then the text is damaged as bytes."""
    rng, metadata = np.random.default_rng(number), _metadata(file)
    if metadata:  # side files are only read if the .safetensors file has no metadata
        _write(file, _arrays(file), {})
    for beside in sorted(file.parent.glob("*.json")):
        text = beside.read_text()
        for place in places(json.loads(text)):
            for value in rng.permutation(np.array(VALUES, object))[:8]:
                beside.write_text(json.dumps(replaced(json.loads(text), place, value)))
                with cases.case(f"{beside.name}: {'.'.join(map(str, place))}={value!r}"):
                    loaded(file)
        for _ in range(FILES):
            what, damaged = damaged_bytes(text.encode(), rng, len(text))
            beside.write_bytes(damaged)
            with cases.case(f"{beside.name}: {what}"):
                loaded(file)
        beside.write_text(text)


@each_format(rounds=1)
def test_metadata(file, number, cases):
    """In the metadata of a .safetensors file, every value is replaced by some of `VALUES`."""
    rng, metadata = np.random.default_rng(number), _metadata(file)
    if not metadata:
        pytest.skip("an .npz is described by a side file")
    sound, arrays = json.loads(metadata["vit_jax"]), _arrays(file)
    for place in places(sound):
        for value in rng.permutation(np.array(VALUES, object))[:8]:
            _write(file, arrays, metadata | {"vit_jax": json.dumps(replaced(sound, place, value))})
            with cases.case(f"metadata: {'.'.join(map(str, place))}={value!r}"):
                loaded(file)


# Images.

KINDS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM")


@pytest.mark.parametrize("kind", KINDS)
def test_images(kind, tmp_path, cases, caplog):
    """A damaged image is read, or it is replaced and named in a warning."""
    rng, place = np.random.default_rng(0), tmp_path / "train" / "a"
    place.mkdir(parents=True)
    picture, buffer = Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8)), io.BytesIO()
    picture.save(buffer, kind)
    picture.save(place / "sound.png")
    config = config_lib.default()
    config.data.name, config.data.data_dir, config.data.threads = "folder", str(tmp_path), 1
    config.model.image_size, config.global_batch_size, config.total_steps = 8, 4, 1
    for number in range(60):
        what, content = damaged_bytes(buffer.getvalue(), rng, len(buffer.getvalue()) if number % 2 else 64)
        damaged = place / f"damaged{number}.{kind.lower()}"
        damaged.write_bytes(content)
        caplog.clear()
        with cases.case(what):
            with contextlib.closing(data.batches(config)) as batches:
                batch = next(batches)
            assert batch["image"].shape == (4, 8, 8, 3) and batch["mask"].all()
            lacking = {0, 1} - set(batch["index"].tolist())
            assert not lacking or str(damaged) in caplog.text, f"{damaged} is missing and not named"
        damaged.unlink()


# Configs.


def _small() -> config_lib.Section:
    config = config_lib.default()
    config.total_steps, config.global_batch_size = 4, 8
    config.data.name = "synthetic"
    model = config.model
    model.name, model.image_size, model.width, model.depth, model.mlp_dim, model.num_heads = "Ti/4", 8, 16, 2, 32, 2
    config.evaluations.test = config_lib.evaluation()
    return config


@pytest.mark.parametrize("part", range(8))
def test_config_values(part, tmp_path, cases):
    """Each key is set to each of `VALUES`. The run can then begin, or it is refused with one sentence."""
    keys = [key.replace("NAME", "test") for key in config_lib.KEYS][part::8]
    for key in keys:
        for value in VALUES:
            with cases.case(f"config.{key}={value!r}"):
                try:
                    config = _small()
                    *parents, name = key.split(".")
                    section = config
                    for parent in parents:
                        section = section[parent]
                    section[name] = value
                    _begin(config, tmp_path)
                except UserError as error:
                    assert_sentence(error)


def _begin(config: config_lib.Section, folder: pathlib.Path) -> None:
    """Does what a run does before its first step, but with shapes instead of arrays."""
    config = resolve(config)
    mesh = vit_jax.sharding.make_mesh(config.mesh)
    vit_jax.sharding.check_batch(mesh, config.global_batch_size, "global_batch_size", config.accumulation_steps)
    model = start.model_of(config, folder)
    rows, classes = config.global_batch_size, model.arch.num_classes
    if rows > 10**6 or classes > 10**6:
        return  # a valid size, but too large for this machine
    batch = {
        "image": jax.ShapeDtypeStruct((rows, *model.arch.image_size, 3), np.uint8),
        "label": jax.ShapeDtypeStruct((rows,), np.int32),
        "mask": jax.ShapeDtypeStruct((rows,), np.float32),
    }
    _, metrics = jax.eval_shape(make_step(config, model, mesh), abstract_state(config, model, mesh), batch)
    assert metrics["loss"].shape == ()
