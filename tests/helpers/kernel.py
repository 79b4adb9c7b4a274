"""A Jupyter kernel for tests of what a notebook shows."""

import contextlib
import os
import pathlib
import queue
import time

from jupyter_client import KernelManager

import vit_jax
from helpers.notebooks import refresh

ROOT = pathlib.Path(vit_jax.__file__).resolve().parents[1]
_SECONDS = 300  # for a cell, on a busy machine


class Kernel:
    """A kernel that runs cells one after the other."""

    def __init__(self, manager, client):
        self._manager, self._client = manager, client

    def run(self, code, interrupts=()):
        """Runs a cell, and returns its outputs in order, as pairs of a kind and what belongs to it.

        The kinds are `stdout` and `stderr` with a text, `shown` with the data by MIME type, and `error` with the lines
        that the notebook shows. For each text of `interrupts`, in order, the kernel is interrupted when the cell has
        printed it.
        """
        cell, waiting, printed, outputs = self._client.execute(code), list(interrupts), "", []
        end = time.monotonic() + _SECONDS
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=end - time.monotonic())
            except queue.Empty:
                raise AssertionError(f"the cell {code!r} has not ended; it has shown {outputs}") from None
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
                outputs.append((content["name"], content["text"]))
                if waiting and waiting[0] in printed:
                    waiting.pop(0)
                    printed = ""
                    self._manager.interrupt_kernel()
            elif kind in ("display_data", "execute_result"):
                outputs.append(("shown", content["data"]))
            elif kind == "error":
                outputs.append(("error", content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                return outputs


@contextlib.contextmanager
def kernel(*path):
    """Yields a kernel that imports this vit_jax, and first of all modules in the folders `path`."""
    places = os.pathsep.join(map(str, (*path, ROOT, ROOT / "tests")))
    manager = KernelManager(kernel_spec_manager=refresh.ThisPython())
    manager.start_kernel(env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": places})
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=_SECONDS)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def texts(outputs, kind):
    """Returns what was printed to `stdout` or `stderr`, as one text."""
    return "".join(text for name, text in outputs if name == kind)


def shown(outputs):
    """Returns the data of what was shown, by MIME type."""
    return [data for kind, data in outputs if kind == "shown"]
