"""The processes of one job: who has failed or fallen silent, and after which step all of them stop.

Each process runs a thread that posts a sign of life, its step and its host to JAX's coordination service, which lives
in process 0. Where one fails, its error becomes that of all. Where one gives none for `watch_seconds`, process 0 names
it (training/watch.py). Process 0 itself is watched by the others; if it is killed outright, JAX ends them at once, with
words of its own and SIGABRT: its callback for that can't be a Python function (jaxlib 0.10.2 ends with std::bad_cast).

A process that can't go on ends by `os._exit`: to unwind means to wait, in Orbax and in JAX, for others that are gone.
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
_RUNS = itertools.count()  # each run of a job has keys of its own
_FOREVER_MS = 7 * 24 * 3600 * 1000  # barriers end by the watch, not by time
_FAREWELL_SECONDS = 5.0  # process 0 stays so long, for the others to read what happened
_ATTEMPTS, _EXISTS = 5, "ALREADY_EXISTS"
_CONNECTION = re.compile(r"Gloo|connection (closed|reset)|coordination ?service|barrier", re.IGNORECASE)
_LOG = logging.getLogger(__name__)


class Hosts:
    """All of a run's processes, seen from one of them. For a process that is alone nothing happens here.

    Around a run it is a context: what is raised inside ends all processes.
    """

    def __init__(self, watch_seconds: float = WATCH_SECONDS):
        # The coordination service's client has no public name; Orbax takes it from the same place.
        from jax._src import distributed

        state = distributed.global_state
        self.count, self.index = (state.num_processes, state.process_id) if state.client else (1, 0)
        self._client: Any = state.client
        self._keys = f"vit_jax/{next(_RUNS)}"
        self._watch_seconds, self._period = watch_seconds, min(1.0, watch_seconds / 20)
        self._host, self._first_host = socket.gethostname(), "the coordinator"  # until that has said its name
        self._watch = Watch(self.count, watch_seconds, self._period)  # of process 0
        self._heard = time.monotonic()  # when the coordination service last answered
        # Stopping together.
        self._step: int | None = None  # the last step for which `agreed` was asked
        self._stop_after: int | None = None
        self._stop_asked = False  # set by a signal's handler, so without a lock
        self._frozen, self._counting = threading.Lock(), False
        # Ending together.
        self._ending = threading.Lock()  # held by the thread that ends the process
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
        """Where `error` is one and there are several processes, tells it to all and ends this one, not to return."""
        if self.count == 1 or error is None or (isinstance(error, SystemExit) and error.code in (None, 0, 130, 143)):
            return
        self._ending.acquire()
        # Most likely another process is the cause then, and will be named.
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
        """All processes are to save at the same step, and to end."""
        self._stop_asked = True

    def agreed(self, step: int) -> bool:
        """Whether all processes stop after `step`. To be asked after every step, before anything is written."""
        with self._frozen:
            self._step = step
            return self._stop_after is not None and step >= self._stop_after

    def sync(self, name: str) -> None:
        """Waits until all processes are here. A name is used once."""
        if self.count > 1:
            self._client.wait_at_barrier(f"{self._keys}/{name}", _FOREVER_MS)

    def require_same(self, what: str, value: Any, mend: str) -> None:
        """Raises UserError where a process has another value, which JSON can hold, than the first one."""
        if self.count == 1:
            return
        text = json.dumps(value, sort_keys=True)
        if self.index == 0:
            self._set(f"same/{what}", text)
        elif self._client.blocking_key_value_get(f"{self._keys}/same/{what}", _FOREVER_MS) != text:
            raise UserError(f"{what} is another one here than in process 0; {mend}")
        self.sync(what)

    def _set(self, key: str, value: str) -> None:
        """Posts a value once for all; a call that fails is repeated. Raises the last call's JaxRuntimeError."""
        for attempt in range(_ATTEMPTS):
            try:
                self._client.key_value_set(f"{self._keys}/{key}", value)
                return
            except jax.errors.JaxRuntimeError as error:
                if _EXISTS in str(error):  # of an earlier attempt, whose answer was lost, or of another process
                    return
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(self._period)

    def _beat(self) -> None:
        """The thread that talks to the coordination service."""
        for number in itertools.count():
            try:
                self._talk(number)
                self._heard = time.monotonic()
            except jax.errors.JaxRuntimeError as error:  # `_listen` looks at how long this goes on
                _LOG.debug("no answer from the coordination service: %s", error)
            if self._done.wait(self._period):
                return

    def _talk(self, number: int) -> None:
        """Says and reads once what there is; whatever a failing call leaves undone is done by the next `_talk`."""
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
        found = self._client.key_value_dir_get(f"{self._keys}/{folder}/")
        return {int(key.rpartition("/")[2]): value for key, value in found}

    def _listen(self) -> None:
        """The thread that notices when the coordination service does not answer: what calls it may hang."""
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
        """Holds `agreed` up until all have told how far they are; they stop after the step beyond the furthest."""
        if not self._counting:
            self._frozen.acquire()
            self._counting = True
        # Said again each time: were it said once, a call that fails would leave the others waiting for ever.
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
        """Tells all processes why they end; the first to say so is right."""
        try:
            self._set("notes/verdict", json.dumps({"sentence": sentence, "code": code}))
        except jax.errors.JaxRuntimeError as error:  # the others will notice that this process is gone
            _LOG.debug("the reason why this process ends can't be told: %s", error)

    def _read(self, verdict: dict[str, Any]) -> None:
        """Ends the process with the verdict, unless it is about to end by itself."""
        self._verdict = verdict
        self._verdict_read.set()
        if self._ending.acquire(blocking=False):
            self._obey()

    def _obey(self) -> NoReturn:
        print(f"error: {self._verdict['sentence']}", file=sys.stderr)
        self._leave(self._verdict["code"])

    def _leave(self, code: int) -> NoReturn:
        """Ends the process; the first one, in which the coordination service lives, when the others have."""
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
    """Whether a collective or a barrier that another process has left led to it, as JAX or Orbax tell it."""
    while error is not None:
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text:
            return False
        if isinstance(error, jax.errors.JaxRuntimeError) or _CONNECTION.search(text):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _show(error: BaseException) -> None:
    """As a verb does: a sentence for what a user can mend, else all there is."""
    if isinstance(error, UserError | KeyboardInterrupt):
        print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
    elif isinstance(error, SystemExit):
        print(f"error: {error.code}", file=sys.stderr)
    else:
        traceback.print_exception(error)
