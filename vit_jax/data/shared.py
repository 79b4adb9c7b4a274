"""Memory that worker processes share with this process, for what is too large to send through a pipe.

The memory has no name in the file system. The operating system frees it when the last process that uses it ends, even
if all are killed. Where a system has no such memory (macOS), everything goes through the pipe.
"""

import collections
import contextlib
import functools
import itertools
import math
import mmap
import os
import pickle
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Address(NamedTuple):
    """Where a worker process finds a slot: a file descriptor of the process that made it."""

    process: int
    descriptor: int
    size: int


class Packed(NamedTuple):
    """An object on its way: its pickle, and its arrays, which are in the slot if `sent` is empty."""

    pickled: bytes
    sizes: list[int]  # of each array, in bytes
    sent: list[bytes]


class Slots:
    """Pieces of shared memory of the same size. They are made when the first object tells how large it is."""

    def __init__(self, count: int) -> None:
        self._count, self._made = count, False
        self._free: collections.deque[_Slot] = collections.deque()  # other threads append to it, too

    def take(self) -> "_Slot | None":
        """Returns a slot that is free, or None."""
        with contextlib.suppress(IndexError):
            return self._free.popleft()
        return None

    def give_back(self, slot: "_Slot | None") -> None:
        if slot is not None:
            self._free.append(slot)

    def unpacked(self, packed: Packed, slot: "_Slot | None") -> Any:
        """Returns the object that a worker packed. Its arrays lie in the slot, which is free when the last is gone."""
        if not self._made:
            self._made = True
            if packed.sizes and hasattr(os, "memfd_create"):  # nothing else needs memory
                self._free.extend(_Slot(sum(packed.sizes)) for _ in range(self._count))
        if packed.sent or slot is None:
            self.give_back(slot)
            return pickle.loads(packed.pickled, buffers=packed.sent)
        # A mapping of its own, which all the arrays refer to, also those that are views of others.
        content = mmap.mmap(slot.address.descriptor, slot.address.size)
        weakref.finalize(content, self._free.append, slot)
        ends = list(itertools.accumulate(packed.sizes))
        parts = [memoryview(content)[end - size : end] for end, size in zip(ends, packed.sizes, strict=True)]
        return pickle.loads(packed.pickled, buffers=parts)


class _Slot:
    """A piece of shared memory of this process."""

    def __init__(self, size: int) -> None:
        descriptor = os.memfd_create("batch")
        weakref.finalize(self, os.close, descriptor)
        os.ftruncate(descriptor, size)
        self.address = Address(os.getpid(), descriptor, size)


_target: np.ndarray | None = None  # in a worker process, the slot that the object in work will be sent in


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array of uint8, without values; in a worker process, it lies in the slot that it will be sent in.

    Of the arrays of an object, one can lie there from the start; it must be the first that is pickled.
    """
    size = math.prod(shape)
    return np.empty(shape, np.uint8) if _target is None or _target.size < size else _target[:size].reshape(shape)


def sent(make: Callable[[], Any], address: Address | None) -> Packed:
    """Returns an object that `make` makes, for the way to another process; in a worker process."""
    global _target
    _target = None if address is None else _opened(address)
    memory, item = _target, make()
    _target = None
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
    arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
    sizes = [array.size for array in arrays]
    if memory is None or sum(sizes) > memory.size:
        return Packed(pickled, sizes, [bytes(array) for array in arrays])
    begin = 0
    for array in arrays:
        place = memory[begin : begin + array.size]
        if array.ctypes.data != place.ctypes.data:
            place[...] = array
        begin += array.size
    return Packed(pickled, sizes, [])


@functools.cache
def _opened(address: Address) -> np.ndarray | None:
    """Returns the memory of a slot, uint8; None if the system does not let this process open it."""
    with contextlib.suppress(OSError), open(f"/proc/{address.process}/fd/{address.descriptor}", "r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), address.size), np.uint8)
    return None
