"""Memory that worker processes share with this process, for what is too large to send through a pipe.

The memory has no name in the file system. The operating system frees it when the last process that uses it ends, even
if all are killed. Where a system has no such memory (macOS), everything goes through the pipe.
"""

import collections
import contextlib
import functools
import itertools
import mmap
import os
import pickle
import weakref
from typing import Any, NamedTuple


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
            if hasattr(os, "memfd_create"):
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


def packed(item: Any, address: Address | None) -> Packed:
    """Returns an object for the way to another process; in a worker process."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    sizes = [array.nbytes for array in arrays]
    memory = _opened(address) if address is not None and sum(sizes) <= address.size else None
    if memory is None:
        return Packed(pickled, sizes, [bytes(array) for array in arrays])
    begin = 0
    for array, size in zip(arrays, sizes, strict=True):
        memory[begin : begin + size] = array
        begin += size
    return Packed(pickled, sizes, [])


@functools.cache
def _opened(address: Address) -> mmap.mmap | None:
    """Returns the memory of a slot; None if the system does not let this process open it."""
    with contextlib.suppress(OSError), open(f"/proc/{address.process}/fd/{address.descriptor}", "r+b") as file:
        return mmap.mmap(file.fileno(), address.size)
    return None
