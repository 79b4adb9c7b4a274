"""Files of arrays, read and written one array at a time: `.npz` and `.safetensors`.

So a file needs no more memory than what is made of it. Reading shows names and shapes first, from the headers alone.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np
from etils import epath

from vit_jax.checkpoints.files import line
from vit_jax.errors import UserError

Shape = tuple[int, ...]


class Container(Protocol):
    """A file of arrays, open for reading."""

    path: epath.Path
    shapes: dict[str, Shape]
    metadata: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """An array, floating-point ones as float32."""
        ...


def open_file(path: epath.PathLike) -> Container:
    """The file's names and shapes; its suffix says what it is.

    Raises:
        UserError: the file is missing, cut short, damaged, holds pickles, or has another suffix.
    """
    path = epath.Path(path)
    if path.suffix not in _KINDS:
        raise UserError(f"{path} has no suffix that says a format; checkpoints end in {' or '.join(_KINDS)}")
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}")
    return _KINDS[path.suffix](path)


class Npz:
    """A NumPy archive. Pickled objects are refused; the checksum of each array is checked when it is read."""

    def __init__(self, path: epath.Path):
        self.path = path
        self.metadata: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        self._dtypes: dict[str, np.dtype] = {}
        try:
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    if not member.endswith(".npy"):
                        raise UserError(f"{path} holds {member}, which is no array; it is no checkpoint")
                    with archive.open(member) as array:
                        shape, _, dtype = _read_header(array)
                    if dtype.hasobject:
                        raise UserError(f"{path} holds the pickled object {member[:-4]}; pickles are refused")
                    self.shapes[member[:-4]], self._dtypes[member[:-4]] = shape, dtype
        except UserError:
            raise
        except Exception as error:  # whatever zipfile, zlib and NumPy raise for damaged bytes
            raise self._broken(error) from error

    def read(self, name: str) -> np.ndarray:
        """An array, floating-point ones as float32. Raises UserError where it is damaged."""
        try:
            with self.path.open("rb") as file, zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as array:
                return _as_float(np.lib.format.read_array(array, allow_pickle=False))
        except Exception as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> UserError:
        return UserError(f"{self.path} is no whole .npz file ({line(error)}); fetch or convert it again")


def _read_header(array: Any) -> tuple[Shape, bool, np.dtype]:
    version = np.lib.format.read_magic(array)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(array)


class Safetensors:
    """The format of the package safetensors: a JSON header with names, shapes and offsets, then the bytes."""

    def __init__(self, path: epath.Path):
        self.path = path
        try:
            size = path.stat().length
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= min(size - 8, 100_000_000):
                    raise ValueError("its header is cut short")
                header = json.loads(file.read(length))
            self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
            self._tensors = {name: _Tensor(**tensor) for name, tensor in header.items()}
            self._start = 8 + length
            ends = [0, *(tensor.data_offsets[1] for tensor in self._tensors.values())]
            if self._start + max(ends) != size:
                raise ValueError(f"it has {size} bytes where its header says {self._start + max(ends)}")
            for name, tensor in self._tensors.items():
                begin, end = tensor.data_offsets
                if end - begin != int(np.prod(tensor.shape)) * np.dtype(_DTYPES[tensor.dtype]).itemsize:
                    raise ValueError(f"{name} has not the bytes of its shape")
        except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError) as error:
            raise UserError(
                f"{path} is no whole .safetensors file ({line(error)}); fetch or convert it again"
            ) from error
        self.shapes: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """An array, floating-point ones as float32."""
        tensor = self._tensors[name]
        begin, end = tensor.data_offsets
        with self.path.open("rb") as file:
            file.seek(self._start + begin)
            buffer = file.read(end - begin)
        return _as_float(np.frombuffer(buffer, _DTYPES[tensor.dtype]).reshape(tensor.shape))


class _Tensor(NamedTuple):
    dtype: str
    shape: list[int]
    data_offsets: list[int]


_DTYPES: dict[str, Any] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16,
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_KINDS: dict[str, type[Npz] | type[Safetensors]] = {".npz": Npz, ".safetensors": Safetensors}


def _as_float(array: np.ndarray) -> np.ndarray:
    """float32 of any float; NumPy archives hold bfloat16 as two bytes of void."""
    if array.dtype == np.dtype("V2"):
        array = array.view(ml_dtypes.bfloat16)
    return array.astype(np.float32) if array.dtype.kind in "fV" and array.dtype != np.float32 else array


def write_file(
    path: epath.Path,
    suffix: str,
    shapes: Mapping[str, Shape],
    arrays: Iterable[tuple[str, np.ndarray]],
    metadata: Mapping[str, str],
) -> None:
    """Writes float32 arrays, which come one after the other in the order of `shapes`, as a file of the suffix's kind.

    `metadata` goes into a `.safetensors`.
    """
    if suffix == ".npz":
        _write_npz(path, arrays)
    else:
        _write_safetensors(path, shapes, arrays, metadata)


def _write_npz(path: epath.Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays:
            member = zipfile.ZipInfo(f"{name}.npy")  # with the archive's own date: equal weights, equal files
            with archive.open(member, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array, np.float32), allow_pickle=False)
            del array  # before the next is made


def _write_safetensors(
    path: epath.Path, shapes: Mapping[str, Shape], arrays: Iterable[tuple[str, np.ndarray]], metadata: Mapping[str, str]
) -> None:
    # The package itself wants all arrays in memory at once.
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the bytes start aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, array), wanted in zip(arrays, shapes, strict=True):
            assert name == wanted and array.shape == tuple(shapes[name]), f"{name} comes as {wanted}"
            file.write(np.ascontiguousarray(array, "<f4").data)
            del array
