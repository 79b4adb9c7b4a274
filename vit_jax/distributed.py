"""Joins the processes of one job, before JAX uses a device.

On TPU pods and under GKE, SLURM and Open MPI, `jax.distributed.initialize()` finds out by itself how many processes
there are, which one this is, and where the first one listens. Elsewhere the flags `--coordinator`, `--processes` and
`--process_id` say so. Without either, the process is the only one of the job.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from vit_jax.errors import UserError

_NOTHING_DETECTED = "coordinator_address should be defined"  # what JAX raises, as a ValueError
_SHUTDOWN_SECONDS = 60  # how long a process that has finished waits for the others


def check(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Raises UserError if the flags --coordinator, --processes and --process_id are incomplete or can't be right.

    None or all three must be given; the arguments are None for those that are not. `--processes=1` may be given without
    the others, and means that this process is alone.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process_id": process_id}
    missing = [flag for flag, value in given.items() if value is None]
    if len(missing) == 3 or (processes == 1 and coordinator is None and process_id in (None, 0)):
        return
    if missing:
        raise UserError(f"--coordinator, --processes and --process_id go together; add {' and '.join(missing)}")
    assert coordinator is not None and processes is not None and process_id is not None
    if not 0 <= process_id < processes:
        raise UserError(f"--process_id={process_id} is not one of --processes={processes}; take 0 to {processes - 1}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator={coordinator} is not HOST:PORT, such as 10.0.0.1:8476")


def join(
    coordinator: str | None, processes: int | None, process_id: int | None, wait_seconds: float, watch_seconds: float
) -> int:
    """Joins this process to the others of its job, if there are any, and returns its number, from 0.

    If the others do not come within `wait_seconds`, the process prints one sentence and ends with exit code 1. It can't
    raise an error then, because the call of JAX that waits can't be interrupted.

    Args:
        coordinator: the flag --coordinator: HOST:PORT of process 0, or None.
        processes: the flag --processes: how many processes there are, or None.
        process_id: the flag --process_id: the number of this one, or None.
        wait_seconds: how long to wait for the others.
        watch_seconds: after how long `training/hosts.py` ends the job because a process is silent. JAX's own limit is
            set to at least twice this.

    Raises:
        UserError: as `check`, or the coordinator's port is taken, or the processes can't be joined.
    """
    import jax

    check(coordinator, processes, process_id)
    if processes == 1:
        return 0
    # training/hosts.py lets all processes stop at the same step after SIGTERM. JAX has a service for this, too, but it
    # loses a signal that comes between the start of a process and its first step.
    jax.config.update("jax_enable_preemption_service", False)
    flags: dict[str, Any] = {}
    if coordinator is not None:
        flags = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process_id}
        flags["cluster_detection_method"] = "deactivate"
        if process_id == 0:
            _check_port(coordinator)
    try:
        with _ends_after(wait_seconds, coordinator, processes):
            jax.distributed.initialize(
                **flags,
                initialization_timeout=int(wait_seconds) + 60,  # longer than our own limit, whose message is clearer
                heartbeat_timeout_seconds=max(100, int(2 * watch_seconds)),  # longer than that of training/hosts.py
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
    except Exception as error:
        if coordinator is None and isinstance(error, ValueError) and _NOTHING_DETECTED in str(error):
            return 0
        where = f"at --coordinator={coordinator}" if coordinator else "with what this cluster says of itself"
        raise UserError(
            f"the processes can't be joined {where} ({' '.join(str(error).split())}); mend that, or add --processes=1 "
            "where this process is alone"
        ) from error
    # jax.process_index() would initialize the devices, and this has to be done by all processes together.
    from jax._src import distributed

    return distributed.global_state.process_id


def _check_port(coordinator: str) -> None:
    """Raises UserError if another program listens at the coordinator's port on this machine.

    gRPC would share the port with another job's coordinator instead of failing.
    """
    port = int(coordinator.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", port))
            trial.listen()
        except OSError as error:
            raise UserError(
                f"the port of --coordinator={coordinator} can't be used ({error.strerror or error}); take another one "
                "for all processes, or end the job that holds it"
            ) from error


@contextlib.contextmanager
def _ends_after(seconds: float, coordinator: str | None, processes: int | None) -> Iterator[None]:
    """Ends the process, with one sentence and exit code 1, if the block takes longer than `seconds`.

    The block is a call of JAX that can't be interrupted by an exception.
    """

    def end() -> None:
        if coordinator is None:
            text = "the other processes of this job have not come"
        elif _answers(coordinator):
            text = f"not all of --processes={processes} have come to --coordinator={coordinator}"
        else:
            text = f"nothing answers at --coordinator={coordinator}, where process 0 has to be"
        text += f" in {seconds:g} s; start them all, wait for longer with --wait_seconds, or "
        print(f"error: {text}add --processes=1 where this process is alone", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _answers(coordinator: str) -> bool:
    host, _, port = coordinator.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True
