"""Files of weights whose bytes or headers are damaged."""

import io
import json
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest

from helpers.damage import FILES, VALUES, damaged_bytes, each_format, loaded

pytestmark = pytest.mark.slow


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
