"""Reads and writes files of arrays one array at a time: `.npz`, `.safetensors`, and `.safetensors` in shards.

Opening a file reads its headers, which give the names, shapes and types of the arrays. The sizes in the headers are
compared with the size of the file before memory is allocated, so that a damaged header can't ask for too much. A file
is never in memory as a whole.
"""

import json
import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np
from etils import epath

from vit_jax.checkpoints import hints
from vit_jax.checkpoints.files import line, read_json
from vit_jax.errors import UserError

Shape = tuple[int, ...]
INDEX = ".safetensors.index.json"  # the end of the name of an index of shards
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")


class Container(Protocol):
    """A file of arrays, open for reading."""

    path: epath.Path
    files: tuple[epath.Path, ...]  # all files that it reads: `path`, and for an index its shards
    shapes: dict[str, Shape]
    size: int  # bytes of the file, or of all shards together
    types: dict[str, str]  # the types of the arrays as NumPy names them, such as float32 or bfloat16
    metadata: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """Returns the array `name`, converted to float32 if it has a floating-point type.

        `name` must be a key of `shapes`. A `.npz` raises UserError if the array is damaged.
        """
        ...


def open_file(path: epath.PathLike) -> Container:
    """Opens a file of arrays for reading; the end of its name says its kind.

    Args:
        path: a `.npz`, a `.safetensors`, or the `.safetensors.index.json` of shards.

    Raises:
        UserError: the file is missing, cut short or damaged, holds pickles, is a single shard of several, or has
            another suffix.
    """
    path = epath.Path(path)
    if path.name.endswith(INDEX):
        kind: Any = Sharded
    elif path.suffix in _KINDS:
        kind = _KINDS[path.suffix]
    else:
        raise UserError(hints.other_suffix(path))
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}")
    if (shard := _SHARD.fullmatch(path.name)) and int(shard[3]) > 1:
        raise UserError(
            f"{path} is one of {int(shard[3])} shards of a checkpoint; name its index, "
            f"{path.parent / (shard[1] + INDEX)}, or the folder that holds all of them"
        )
    return kind(path)


class Npz:
    """A NumPy archive. Pickled objects are refused. The checksum of an array is verified when the array is read."""

    def __init__(self, path: epath.Path):
        self.path, self.files = path, (path,)
        self.metadata: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, str] = {}
        try:
            self.size = path.stat().length
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    self._add(archive, member)
        except UserError:
            raise
        except Exception as error:  # whatever zipfile, zlib and NumPy raise for damaged bytes
            raise self._broken(error) from error

    def _add(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        """Stores the shape and type of one array, as its header gives them. Raises UserError or ValueError."""
        if not member.filename.endswith(".npy"):
            raise UserError(f"{self.path} holds {member.filename[:80]}, which is no array; it is no checkpoint")
        name = member.filename.removesuffix(".npy")
        if name in self.shapes:
            raise UserError(f"{self.path} holds the array {name} twice; write it again")
        with archive.open(member) as array:
            shape, _, dtype = _read_header(array)
            start = array.tell()
        if dtype.hasobject:
            raise UserError(f"{self.path} holds the pickled object {name}; pickles are refused")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - start:
            raise ValueError(f"{name} has not the bytes of its shape {shape}")
        # NumPy saves bfloat16 as the type V2, two bytes without a meaning.
        self.shapes[name], self.types[name] = shape, "bfloat16" if dtype == np.dtype("V2") else str(dtype)

    def read(self, name: str) -> np.ndarray:
        """Returns the array `name`, floating-point types as float32. Raises UserError if it is damaged."""
        try:
            with self.path.open("rb") as file, zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as array:
                found = np.lib.format.read_array(array, allow_pickle=False)
        except Exception as error:
            raise self._broken(error) from error
        return _as_float(found.view(ml_dtypes.bfloat16) if found.dtype == np.dtype("V2") else found)

    def _broken(self, error: Exception) -> UserError:
        if isinstance(error, MemoryError):
            return UserError(f"{self.path} is larger than this machine's memory ({line(error)})")
        return UserError(f"{self.path} is no whole .npz file ({line(error)}); fetch or convert it again")


def _read_header(array: Any) -> tuple[Shape, bool, np.dtype]:
    version = np.lib.format.read_magic(array)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"an array of version {version}")
    # Version 3 differs from 2 only in the encoding of field names, which arrays of numbers do not have.
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(array)


class Safetensors:
    """A file in the format of the package safetensors: a JSON header with names, shapes and offsets, then the bytes."""

    def __init__(self, path: epath.Path):
        self.path, self.files = path, (path,)
        try:
            self.size = size = path.stat().length
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= min(size - 8, 100_000_000):
                    raise ValueError("its header is cut short")
                header = json.loads(file.read(length), object_pairs_hook=_unique)
            if not isinstance(header, dict):
                raise ValueError("its header is no JSON object")
            self.metadata = _metadata(header.pop("__metadata__", {}))
            self._tensors = {name: _tensor(name, value) for name, value in header.items()}
        except (ValueError, OSError, EOFError, RecursionError) as error:
            raise self._broken(error) from error
        self._start = 8 + length
        end = 0
        for name, tensor in sorted(self._tensors.items(), key=lambda item: item[1].begin):
            if tensor.type not in _TYPES:
                raise UserError(
                    f"{path} holds {name} as {tensor.type[:20]}, which is not read here; convert it to BF16, F16 or "
                    "F32 with the library that wrote it"
                )
            if tensor.begin != end or tensor.end - end != math.prod(tensor.shape) * _TYPES[tensor.type].itemsize:
                raise self._broken(ValueError(f"{name} has not the bytes of its shape"))
            end = tensor.end
        if self._start + end != size:
            raise self._broken(ValueError(f"it has {size} bytes where its header says {self._start + end}"))
        self.shapes: dict[str, Shape] = {name: tensor.shape for name, tensor in self._tensors.items()}
        self.types: dict[str, str] = {name: str(_TYPES[tensor.type]) for name, tensor in self._tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """Returns the array `name`, floating-point types as float32."""
        tensor = self._tensors[name]
        with self.path.open("rb") as file:
            file.seek(self._start + tensor.begin)
            buffer = file.read(tensor.end - tensor.begin)
        return _as_float(np.frombuffer(buffer, _TYPES[tensor.type]).reshape(tensor.shape))

    def _broken(self, error: Exception) -> UserError:
        return UserError(f"{self.path} is no whole .safetensors file ({line(error)}); fetch or convert it again")


class _Tensor(NamedTuple):
    """What the header says about an array. `begin` and `end` are offsets in bytes, counted from the header's end."""

    type: str
    shape: Shape
    begin: int
    end: int


def _tensor(name: str, value: Any) -> _Tensor:
    """Returns what the header's `value` for the array `name` says. Raises ValueError if it describes no array."""
    match value:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [begin, end], **more} if not more:
            numbers = [*shape, begin, end]
            if all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers) and begin <= end:
                return _Tensor(kind, tuple(shape), begin, end)
    raise ValueError(f"its header does not describe {name[:80]}")


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("its __metadata__ is no object of strings")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header names an array twice")
    return found


class Sharded:
    """A checkpoint in several `.safetensors` files, with an index that says which file holds which array."""

    def __init__(self, path: epath.Path):
        self.path = path
        places = _places(path)
        files = shards_of(path)
        if missing := [file for file in files if not (path.parent / file).exists()]:
            raise UserError(f"{path} names {len(files)} shards, of which are missing: {', '.join(missing[:5])}")
        self.files = (path, *(path.parent / file for file in files))
        self._shards = {file: Safetensors(path.parent / file) for file in files}
        self.size = sum(shard.size for shard in self._shards.values())
        for name, file in places.items():
            if name not in self._shards[file].shapes:
                raise UserError(f"{path} says that {file} holds {name[:80]}, and it does not; fetch both again")
        for file, shard in self._shards.items():
            if more := [name for name in shard.shapes if places.get(name) != file]:
                raise UserError(f"{path} does not say that {file} holds {more[0][:80]}; fetch both again")
        self._places = places
        self.metadata: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {name: self._shards[file].shapes[name] for name, file in places.items()}
        self.types: dict[str, str] = {name: self._shards[file].types[name] for name, file in places.items()}

    def read(self, name: str) -> np.ndarray:
        """Returns the array `name`, floating-point types as float32."""
        return self._shards[self._places[name]].read(name)


def shards_of(index: epath.Path) -> list[str]:
    """Returns the names of the shards that an index lists, sorted.

    Raises UserError if the file is no index, or if it lists files outside its own folder.
    """
    files = sorted(set(_places(index).values()))
    if wrong := [file for file in files if file != epath.Path(file).name]:
        raise UserError(f"{index} names the shard {wrong[0][:80]}, which does not lie beside it; mend its weight_map")
    return files


def _places(index: epath.Path) -> dict[str, str]:
    """Returns a dict from the name of each array to the name of the shard that holds it.

    Raises UserError if the file is no index.
    """
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"{index} has no weight_map from names of arrays to files; fetch it again")
    return places


_TYPES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "BOOL": "?",
        "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    }.items()
}  # fmt: skip
_KINDS: dict[str, type[Npz] | type[Safetensors]] = {".npz": Npz, ".safetensors": Safetensors}


def is_float(kind: str) -> bool:
    """Returns whether a type, as in `Container.types`, is floating-point, so that its array can be a parameter."""
    return kind.lstrip("<>=") in ("bfloat16", "float16", "float32", "float64", "f2", "f4", "f8")


def _as_float(array: np.ndarray) -> np.ndarray:
    """Returns floating-point arrays as float32, and others as they are."""
    return array.astype(np.float32) if is_float(str(array.dtype)) and array.dtype != np.float32 else array


def write_file(
    path: epath.Path,
    suffix: str,
    shapes: Mapping[str, Shape],
    arrays: Iterable[tuple[str, np.ndarray]],
    metadata: Mapping[str, str],
) -> None:
    """Writes a file of float32 arrays.

    Args:
        path: the file.
        suffix: `.npz` or `.safetensors`, the kind of the file. The suffix of `path` itself is not read.
        shapes: the shapes of all arrays by name, in the order of `arrays`.
        arrays: the names and arrays. Each array is written before the next is asked for.
        metadata: texts for the header of a `.safetensors`; not written to a `.npz`.
    """
    if suffix == ".npz":
        _write_npz(path, arrays)
    else:
        _write_safetensors(path, shapes, arrays, metadata)


def _write_npz(path: epath.Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays:
            member = zipfile.ZipInfo(f"{name}.npy")  # with a constant date, so that equal weights give equal files
            with archive.open(member, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array, np.float32), allow_pickle=False)
            del array  # frees it before the next is made


def _write_safetensors(
    path: epath.Path, shapes: Mapping[str, Shape], arrays: Iterable[tuple[str, np.ndarray]], metadata: Mapping[str, str]
) -> None:
    # The package safetensors is not used, because it needs all arrays in memory at once.
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays start at a multiple of 8 bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, array), wanted in zip(arrays, shapes, strict=True):
            assert name == wanted and array.shape == tuple(shapes[name]), f"{name} comes as {wanted}"
            file.write(np.ascontiguousarray(array, "<f4").data)
            del array
