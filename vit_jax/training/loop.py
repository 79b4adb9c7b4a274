"""Training: what is checked before anything is opened, and the loop.

The order at start, in one place: the folder's newest whole checkpoint, else `config.init_from`, else scratch.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from vit_jax import config as config_lib
from vit_jax import data, logs, sharding
from vit_jax.checkpoints.store import FOLDER
from vit_jax.errors import UserError
from vit_jax.tasks import make_task
from vit_jax.training import identity, metrics, run_folder, start
from vit_jax.training.hosts import WATCH_SECONDS, Hosts
from vit_jax.training.run import Run
from vit_jax.training.state import resolve
from vit_jax.training.stop import Stop

_LOG = logging.getLogger(__name__)


def train(config: Any, workdir: epath.PathLike, *, watch_seconds: float = WATCH_SECONDS) -> dict[str, float]:
    """Trains a model, or continues to, and leaves it in the run's folder as `model.npz` with `model.json`.

    If there are several processes, which `jax.distributed.initialize` has joined, all of them call it. An error in one
    of them is shown there and ends them all, with code 1.

    Args:
        config: as a config file gives it.
        workdir: the run's folder, local or `gs://`, the same for all processes. It is made after the first step.
        watch_seconds: how long one of several processes may give no sign of life before the run ends.

    Returns:
        The last step's metrics; empty if the run was complete before.

    Raises:
        UserError: what is wrong with the config, the data, the folder or the numbers.
        SystemExit: code 143, after SIGTERM and a clean save, or at once before the first step.
        KeyboardInterrupt: after Ctrl-C and a clean save, or at once before the first step or at a second Ctrl-C.
    """
    with logs.shown(), Hosts(watch_seconds) as hosts, Stop(hosts) as stop, data.opened_once():
        with contextlib.ExitStack() as closing:  # closes everything, even where closing one thing fails
            run = _opened(config, workdir, hosts, closing)
            if run is None:
                return {}
            try:
                with _memory():
                    return _loop(run, stop)
            except BaseException as error:
                hosts.fail_with(error)  # before anything is closed, which several processes do together
                raise


def _loop(run: Run, stop: Stop) -> dict[str, float]:
    state, start = run.begin()
    if start == run.total:  # the run was stopped after its last checkpoint, before it was complete
        run.open()
        return run.finish(state)
    batches = run.batches(start)

    # The first step compiles, and nothing is written before it has succeeded.
    state, outputs = run.first_step(state, next(batches))
    stop.saves, done = True, start + 1
    stopping = stop.agreed(done)
    run.open()

    while True:
        due = run.due(done, outputs, stopping)
        if due.log:
            run.log(done)
        if due.save:
            run.save(done, state)
        if stopping and not due.last:
            run.say(f"{stop.name}: saved step {done} in {run.folder}; {stop.restart} goes on from there")
            stop.end(done)
        run.evaluate(due.evaluations, done, state)
        if due.last:
            return run.finish(state)
        state, outputs = run.step(state, next(batches))
        done += 1
        stopping = stop.agreed(done)


def _opened(config: Any, workdir: epath.PathLike, hosts: Hosts, closing: contextlib.ExitStack) -> Run | None:
    """Returns the run, everything checked that can be before its first step; None if it is complete.

    What needs no data set comes first, so that a wrong name is not hidden by data that are missing or take long. What
    belongs to a run's start is not checked again when it goes on.
    """
    if jax.process_count() != hosts.count:
        raise UserError(f"there are {jax.process_count()} processes; call jax.distributed.initialize() first in all")
    given = config_lib.typed(config)
    folder, recorded = run_folder.recorded_in(workdir)
    complete = (folder / "model.npz").exists()
    if not complete:
        metrics.check(given)
        make_task(given.task).check(given)
        mesh = sharding.make_mesh(given.mesh)
        sharding.check_batch(mesh, given.global_batch_size, "global_batch_size", given.accumulation_steps)
        if not recorded:
            start.check(given)
    resolved = resolve(given, recorded.get("data"))
    run_folder.require_config(folder, recorded, resolved)
    hosts.require_same("the config", dataclasses.asdict(given), "give all processes the same command")
    seen = [complete, (folder / "config.json").exists(), (folder / FOLDER).exists()]
    hosts.require_same("the workdir", [str(folder), *seen], run_folder.SHARE)
    if complete:
        _LOG.info("this run is complete: %s holds its model.npz; %s", folder, run_folder.LONGER.format(folder=folder))
        return None
    model = start.model_of(resolved, folder)
    trained_on = identity.checked(resolved, folder, recorded, hosts)
    return Run(resolved, mesh, folder, model, hosts, trained_on, closing)


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Turns what devices without enough memory raise into one sentence."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "the devices ran out of memory; lower config.global_batch_size, raise config.accumulation_steps or "
            "config.mesh.fsdp, or set config.model.remat=full"
        ) from error
