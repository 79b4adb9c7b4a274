"""Start a job of several processes on this machine's CPU, as the hosts of a TPU pod would run it.

    python launch/local.py --processes=4 --devices=2 -- \\
        python -m vit_jax.main --config=configs/digits.py --workdir=/tmp/run

If the package is installed, the script is also python -m vit_jax.launch.local. It runs the command --processes times,
each time with --coordinator, --processes and --process_id added, and with --devices CPU devices. The output of process
0 is shown as it is; lines of other processes begin with the process's number. An error that several processes report is
shown once. SIGINT and SIGTERM are passed on to all processes. If one process fails, all are ended.

Exit codes: 0 all are complete; 143 saved after SIGTERM; 130 saved after Ctrl-C; 1 one of them failed.
"""

import argparse
import os
import pathlib
import queue
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, NoReturn

_IN_ORDER = {0, 130, 143}  # complete, or saved after a signal
_GRACE_SECONDS = 20.0  # after one process failed, the others have this long to print their errors and end
_PORTS = range(20000, 32000)  # below the range that the system assigns ports from: see _free_port
_ERROR = "error: "
# Messages of Gloo on stdout, which are not shown. Several threads print them at once, so that they come in pieces.
_CONNECTED = re.compile(r"\[Gloo\] Rank|is connected to \d+ peer ranks")


def main(argv: Sequence[str]) -> int:
    options, command = _parsed(argv)
    port = _free_port()
    commands = [
        [*command, f"--coordinator=127.0.0.1:{port}", f"--processes={options.processes}", f"--process_id={process}"]
        for process in range(options.processes)
    ]
    env = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(options.devices)}
    if options.dry_run:
        settings = " ".join(f"{name}={value}" for name, value in env.items())
        print(*(f"{settings} {shlex.join(words)}" for words in commands), sep="\n")
        return 0
    return _Job(commands, env).run()


def _parsed(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--processes", type=int, required=True, help="how many processes")
    parser.add_argument("--devices", type=int, default=1, help="CPU devices of each (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
    split = list(argv).index("--") if "--" in argv else len(argv)
    options, command = parser.parse_args(argv[:split]), list(argv[split + 1 :])
    for name in ("processes", "devices"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}={getattr(options, name)} is not a number of {name}; take 1 or more")
    if not command:
        parser.error("which command? add -- python -m vit_jax.main --config=FILE.py --workdir=FOLDER")
    if not _takes_processes(command):
        parser.error(
            f"{shlex.join(command)} does not run vit_jax.main or vit_jax.study, which take --process_id; start one"
        )
    return options, command


def _takes_processes(command: Sequence[str]) -> bool:
    """Returns whether a command runs `main` or `study`: by `python -m`, as a script, or as a verb of `vit_jax`."""
    if "-m" in command:
        return command[command.index("-m") + 1 :][:1] in (["vit_jax.main"], ["vit_jax.study"])
    program, verb = [*(word for word in command if not word.startswith("-")), "", ""][:2]
    if pathlib.PurePath(program).name == "vit_jax":
        return verb in ("train", "study")
    return any(pathlib.PurePath(word).name in ("main.py", "study.py") for word in (program, verb))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{_ERROR}{message}", file=sys.stderr)
        sys.exit(1)


def _free_port() -> int:
    """Returns a free port, outside the range from which the system assigns ports to outgoing connections.

    Inside that range, a process that tries to connect before the coordinator listens may be assigned the coordinator's
    port for its own end of the connection. It would then be connected to itself.
    """
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as trial:
            try:
                trial.bind(("", port))
                return port
            except OSError:
                continue


class _Job:
    """The processes of a job: starts them, shows their output, and ends them."""

    def __init__(self, commands: list[list[str]], env: dict[str, str]):
        self._commands, self._env = commands, env
        self._processes: list[subprocess.Popen[str]] = []
        self._ended: queue.Queue[int] = queue.Queue()  # numbers of processes, in the order in which they end
        self._signal: int | None = None  # the last signal that was passed on to the processes
        self._printing = threading.Lock()
        self._shown: list[str] = []  # errors that were shown
        self._held: list[tuple[int, str]] = []  # errors of processes other than 0, which are shown at the end if new

    def run(self) -> int:
        """Starts the processes, waits until all have ended, and returns the exit code of this script."""
        before = {number: signal.signal(number, self._forward) for number in (signal.SIGINT, signal.SIGTERM)}
        threads = []
        try:
            for process, command in enumerate(self._commands):
                try:
                    # A session of its own: otherwise Ctrl-C in the terminal would reach each process twice.
                    started = subprocess.Popen(
                        command,
                        env={**os.environ, **self._env},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        errors="replace",
                        start_new_session=True,
                    )
                except OSError as error:
                    print(f"{_ERROR}{command[0]} can't be started ({error.strerror})", file=sys.stderr)
                    return 1
                self._processes.append(started)
                if self._signal:
                    self._forward(self._signal)
                threads.append(threading.Thread(target=self._await, args=(process,)))
            for thread in threads:
                thread.start()
            return self._wait()
        finally:
            self._kill()
            for thread in threads:
                if thread.ident:
                    thread.join()
            self._show_held()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wait(self) -> int:
        """Waits for all processes and returns the exit code; kills those that do not end soon after a failure."""
        codes: dict[int, int] = {}
        deadline = None
        while len(codes) < len(self._processes):
            try:
                process = self._ended.get(timeout=deadline)
            except queue.Empty:
                self._kill()
                deadline = None
                continue
            code = self._processes[process].wait()
            if self._signal and code == -self._signal:  # the signal came before the process could handle it
                code = 128 + self._signal
            codes[process] = code
            if code in _IN_ORDER or deadline is not None or len(set(codes.values()) - _IN_ORDER) > 1:
                continue
            deadline = _GRACE_SECONDS
            if code < 0:
                self._say(process, f"{_ERROR}process {process} was ended by {_signal_name(-code)}\n", ours=True)
                self._kill()  # the others can't continue without it
        if set(codes.values()) - _IN_ORDER:
            return 1
        return next((code for code in (130, 143) if code in codes.values()), 0)

    def _forward(self, number: int, _: object = None) -> None:
        self._signal = number
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def _kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()

    def _await(self, process: int) -> None:
        """Shows the output of a process until it ends."""
        started = self._processes[process]
        readers = [
            threading.Thread(target=self._read, args=(process, stream, target))
            for stream, target in ((started.stdout, sys.stdout), (started.stderr, sys.stderr))
        ]
        for reader in readers:
            reader.start()
        started.wait()
        self._ended.put(process)
        for reader in readers:
            reader.join()

    def _read(self, process: int, stream: IO[str], target: IO[str]) -> None:
        for line in stream:
            if not _CONNECTED.search(line):
                self._say(process, line, target=target)

    def _say(self, process: int, line: str, target: IO[str] = sys.stderr, ours: bool = False) -> None:
        with self._printing:
            is_error = line.startswith(_ERROR)
            if is_error and process and not ours:
                self._held.append((process, line))
                return
            if is_error:
                self._shown.append(line.removeprefix(_ERROR).strip())
            target.write(line if process == 0 or ours else f"process {process}: {line}")
            target.flush()

    def _show_held(self) -> None:
        for process, line in self._held:
            text = line.removeprefix(_ERROR).strip()
            if not any(text in other or other in text for other in self._shown):
                self._shown.append(text)
                print(f"process {process}: {line.strip()}", file=sys.stderr)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
