"""Files of weights that are whole, but whose arrays, side files or metadata are wrong."""

import json
import logging
import pathlib
import struct
from typing import Any

import numpy as np
import pytest

from helpers.damage import FILES, VALUES, damaged_bytes, each_format, loaded
from vit_jax.checkpoints import containers

pytestmark = pytest.mark.slow


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
