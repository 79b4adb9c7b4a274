"""Coordinates the processes of one job: they fail together, and on request they stop after the same step.

Each process runs a thread that writes a heartbeat (a counter, its step and its host name) to JAX's coordination
service, which runs in process 0.

- If a process raises an error, it posts the error, and all the processes print it and exit.
- If a process writes no heartbeat for `watch_seconds`, process 0 names it, and all exit (training/watch.py).
- If process 0 does not answer for `watch_seconds`, the other processes exit. If process 0 is killed, JAX aborts the
  others at once, with its own message and SIGABRT. This module can't replace that message, because JAX does not accept
  a Python function as the callback (jaxlib 0.10.2 fails with std::bad_cast).

A process that has failed exits with `os._exit`. A normal exit would run the cleanup of Orbax and JAX, which waits for
processes that no longer run.
"""

import contextlib
import itertools
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, NoReturn, Self

import jax

from vit_jax.errors import UserError
from vit_jax.training.watch import Watch, name

WATCH_SECONDS = 30.0
_RUNS = itertools.count()  # a process may train several times, and each run needs its own keys in the service
_FOREVER_MS = 7 * 24 * 3600 * 1000  # barriers need no timeout of their own, since a lost process ends the run
_FAREWELL_SECONDS = 5.0  # process 0 waits this long before it exits, so that the others can read the verdict
_ATTEMPTS, _EXISTS = 5, "ALREADY_EXISTS"
_CONNECTION = re.compile(r"Gloo|connection (closed|reset)|coordination ?service|barrier", re.IGNORECASE)
_LOG = logging.getLogger(__name__)


class Hosts:
    """The processes of a run, as one of them sees them. With only one process, all methods do nothing.

    Use it as a context manager around the run. An error that is raised inside the context ends all the processes.

    Args:
        watch_seconds: how long a process may be silent before the run ends, in seconds.

    Attributes:
        count: the number of processes; 1 unless `jax.distributed.initialize` was called.
        index: the index of this process, from 0.
    """

    def __init__(self, watch_seconds: float = WATCH_SECONDS):
        # JAX has no public name for the client of the coordination service. Orbax uses this private one too.
        from jax._src import distributed

        state = distributed.global_state
        self.count, self.index = (state.num_processes, state.process_id) if state.client else (1, 0)
        self._client: Any = state.client
        self._keys = f"vit_jax/{next(_RUNS)}"
        self._watch_seconds, self._period = watch_seconds, min(1.0, watch_seconds / 20)
        self._host, self._first_host = socket.gethostname(), "the coordinator"  # replaced when process 0 posts its name
        self._watch = Watch(self.count, watch_seconds, self._period)  # only process 0 uses it
        self._heard = time.monotonic()  # when the coordination service last answered
        # State for stopping after the same step.
        self._step: int | None = None  # the argument of the last call of `agreed`
        self._stop_after: int | None = None
        self._stop_asked = False  # no lock, because a signal handler sets it
        self._frozen, self._counting = threading.Lock(), False
        # State for failing together.
        self._ending = threading.Lock()  # the thread that ends the process holds this lock
        self._verdict: dict[str, Any] = {}
        self._verdict_read, self._done = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._listen)]

    def __enter__(self) -> Self:
        if self.count > 1:
            if self.index == 0:
                self._set("notes/first host", self._host)
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, _: type | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self.count == 1:
            return
        self.fail_with(error)
        try:
            self.sync("the end of the run")
        except BaseException as other:
            self.fail_with(other)
            raise
        self._done.set()
        for thread in self._threads:
            thread.join()

    def fail_with(self, error: BaseException | None) -> None:
        """Reports `error` to all the processes and exits this process; does not return.

        Returns without effect if `error` is None, if there is only one process, or if `error` is a SystemExit with the
        code of an orderly end (None, 0, 130 or 143).
        """
        if self.count == 1 or error is None or (isinstance(error, SystemExit) and error.code in (None, 0, 130, 143)):
            return
        self._ending.acquire()
        # A failed connection usually means that another process has failed first, so wait for that process's verdict.
        if _from_the_connection(error) and self._verdict_read.wait(self._watch_seconds + 5 * self._period):
            self._obey()
        if isinstance(error, KeyboardInterrupt):
            code, sentence = 130, "interrupted"
        else:
            code, sentence = 1, f"{self._name()} failed: {_sentence(error)}"
        self._post(sentence, code)
        _show(error)
        self._leave(code)

    def request_stop(self) -> None:
        """Asks all the processes to save at the same step and end. A signal handler may call it."""
        self._stop_asked = True

    def agreed(self, step: int) -> bool:
        """Returns whether all the processes stop after `step`.

        The caller must ask after every step, before it writes anything. While the processes decide at which step to
        stop, the call blocks.
        """
        with self._frozen:
            self._step = step
            return self._stop_after is not None and step >= self._stop_after

    def sync(self, name: str) -> None:
        """Waits until all the processes have called `sync` with this `name`. A run can use each name only once."""
        if self.count > 1:
            self._client.wait_at_barrier(f"{self._keys}/{name}", _FOREVER_MS)

    def require_same(self, what: str, value: Any, mend: str) -> None:
        """Checks that all the processes pass the same `value`, and waits until all have checked.

        Args:
            what: the name of the value, for the error message; a run can use each name only once.
            value: any value that `json.dumps` accepts.
            mend: what the user can do about a difference, for the error message.

        Raises:
            UserError: the value differs from the value in process 0.
        """
        if self.count == 1:
            return
        text = json.dumps(value, sort_keys=True)
        if self.index == 0:
            self._set(f"same/{what}", text)
        elif self._client.blocking_key_value_get(f"{self._keys}/same/{what}", _FOREVER_MS) != text:
            raise UserError(f"{what} is another one here than in process 0; {mend}")
        self.sync(what)

    def _set(self, key: str, value: str) -> None:
        """Writes a value that all the processes can read; does nothing if the key exists already.

        A call that fails is repeated up to `_ATTEMPTS` times; the last JaxRuntimeError is raised.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._client.key_value_set(f"{self._keys}/{key}", value)
                return
            except jax.errors.JaxRuntimeError as error:
                if _EXISTS in str(error):  # another process, or an attempt whose answer was lost, has written it
                    return
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(self._period)

    def _beat(self) -> None:
        """Exchanges data with the coordination service in every period; runs in a thread until the run is done."""
        for number in itertools.count():
            try:
                self._talk(number)
                self._heard = time.monotonic()
            except jax.errors.JaxRuntimeError as error:  # `_listen` exits when this lasts too long
                _LOG.debug("no answer from the coordination service: %s", error)
            if self._done.wait(self._period):
                return

    def _talk(self, number: int) -> None:
        """Writes this process's heartbeat, and reads and acts on what the others have written.

        A call to the service may fail at any point, so each part must be safe to repeat in the next `_talk`.
        """
        client = self._client
        client.key_value_set(f"{self._keys}/beats/{self.index}", json.dumps([number, self._step, self._host]), True)
        notes = {key.rpartition("/")[2]: value for key, value in client.key_value_dir_get(f"{self._keys}/notes/")}
        self._first_host = notes.get("first host", self._first_host)
        if "verdict" in notes:
            self._read(json.loads(notes["verdict"]))
        if self._stop_asked and "stop" not in notes:
            client.key_value_set(f"{self._keys}/notes/stop", self._name(), True)
        if "stop" in notes and self._stop_after is None:
            self._count_steps(notes["stop"])
        if self.index == 0:
            self._watch.look({process: json.loads(beat) for process, beat in self._numbered("beats").items()})
            if silent := self._watch.silent():
                self._post(self._silence(silent))
            for sentence in self._watch.lagging():
                _LOG.warning(sentence)

    def _numbered(self, folder: str) -> dict[int, str]:
        """Returns the values below `folder`, by the index of the process that wrote each."""
        found = self._client.key_value_dir_get(f"{self._keys}/{folder}/")
        return {int(key.rpartition("/")[2]): value for key, value in found}

    def _listen(self) -> None:
        """Exits the process if the coordination service stops answering; runs in a thread until the run is done.

        Process 0 does not exit, because the service runs inside it. The thread is separate
        from `_beat`, because a call to a service that does not answer may never return.
        """
        while not self._done.wait(self._period):
            if time.monotonic() - self._heard > self._watch_seconds and self.index:
                print(f"error: {self._silence(f'process 0 on {self._first_host}')}", file=sys.stderr, flush=True)
                os._exit(1)

    def _silence(self, names: str) -> str:
        return (
            f"no sign of life from {names} for {self._watch_seconds:g} s: killed, standing still or cut off; the same "
            "command goes on from the newest checkpoint"
        )

    def _name(self) -> str:
        return name(self.index, self._host)

    def _count_steps(self, who: str) -> None:
        """Finds the step to stop after: one more than the largest step that any process has reached.

        Until every process has posted its step, `_talk` calls this again, and calls of `agreed` block, so that no
        process goes further than the step that it has posted. `who` is the process that was told to stop.
        """
        if not self._counting:
            self._frozen.acquire()
            self._counting = True
        # The step is posted again at every call. If it were posted once and that call failed, the others would wait
        # for ever.
        self._client.key_value_set(f"{self._keys}/at/{self.index}", json.dumps(self._step), True)
        told = [json.loads(value) for value in self._numbered("at").values()]
        if len(told) < self.count:
            return
        steps = [step for step in told if step is not None]
        if not steps:
            self._ending.acquire()
            _LOG.info("%s was told to stop before the first step: there is nothing to save", who)
            self._leave(143)
        self._stop_after = max(steps) + 1
        self._frozen.release()

    def _post(self, sentence: str, code: int = 1) -> None:
        """Posts the verdict: the message and exit code with which all the processes end. The first verdict counts."""
        try:
            self._set("notes/verdict", json.dumps({"sentence": sentence, "code": code}))
        except jax.errors.JaxRuntimeError as error:  # the others will notice that this process is gone
            _LOG.debug("the reason why this process ends can't be told: %s", error)

    def _read(self, verdict: dict[str, Any]) -> None:
        """Stores the verdict and exits the process with it, unless another thread is already ending the process."""
        self._verdict = verdict
        self._verdict_read.set()
        if self._ending.acquire(blocking=False):
            self._obey()

    def _obey(self) -> NoReturn:
        """Prints the message of the verdict (see `_post`) and exits with its code."""
        print(f"error: {self._verdict['sentence']}", file=sys.stderr)
        self._leave(self._verdict["code"])

    def _leave(self, code: int) -> NoReturn:
        """Exits the process without cleanup.

        Process 0 first waits until the others have left, at most `_FAREWELL_SECONDS`, because the coordination service
        from which they read the verdict runs in it.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        deadline = time.monotonic() + _FAREWELL_SECONDS
        try:
            self._set(f"gone/{self.index}", "")
            while self.index == 0 and time.monotonic() < deadline:
                with contextlib.suppress(jax.errors.JaxRuntimeError):
                    if len(self._numbered("gone")) == self.count:
                        break
                time.sleep(0.1)
        finally:
            os._exit(code)


def _from_the_connection(error: BaseException | None) -> bool:
    """Returns whether the cause of `error` seems to be a connection that another process has closed.

    JAX and Orbax report that in different ways, so any JaxRuntimeError counts, and any message that matches
    `_CONNECTION`; but an error of a device that is out of memory does not count.
    """
    while error is not None:
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text:
            return False
        if isinstance(error, jax.errors.JaxRuntimeError) or _CONNECTION.search(text):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sentence(error: BaseException) -> str:
    """Returns `error` in one line: the message of a UserError, else the type and the message."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _show(error: BaseException) -> None:
    """Prints `error` as the commands do: one line for an error that the user can correct, else the traceback."""
    if isinstance(error, UserError | KeyboardInterrupt):
        print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
    elif isinstance(error, SystemExit):
        print(f"error: {error.code}", file=sys.stderr)
    else:
        traceback.print_exception(error)
