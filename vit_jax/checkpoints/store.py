"""The checkpoints of a training run: `checkpoints/STEP/{params,opt_state,average}`, written by Orbax in the background.

The step is only stored as the name of the folder. Together with the config's seed it determines the order of the data
and all random numbers, so that nothing else has to be saved.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vit_jax.checkpoints.files import line
from vit_jax.errors import UserError
from vit_jax.models.functional import Params, of_model

FOLDER = "checkpoints"
_ITEMS = ("params", "opt_state", "average")
_LEAST_SLICE = 2**20  # bytes
_LOG = logging.getLogger(__name__)


class Store:
    """The checkpoints in a folder, of which the newest `keep` are kept."""

    def __init__(self, folder: epath.PathLike, keep: int):
        self._folder = epath.Path(folder)
        self._manager = _manager(self._folder, keep)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Starts to save a checkpoint. The arrays are copied before it returns; files are written in the background.

        Args:
            step: the number of steps done.
            state: pytrees of arrays by name; those that are None are left out.

        Raises:
            UserError: this checkpoint, or the one before it, can't be written.
        """
        items = {name: ocp.args.PyTreeSave(tree) for name, tree in state.items() if tree is not None}
        with self._writing():
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def restore(self, abstract: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Returns the step and the state of the newest checkpoint that can be read, or None if there is none.

        A checkpoint that can't be read is renamed to `STEP.broken`, with a warning, and the one before it is read. With
        several processes it is an error instead, because perhaps only one of them can't read it.

        Args:
            abstract: what to restore: like the state that was saved, with shapes and shardings in place of the arrays.

        Raises:
            UserError: there are checkpoints, but none can be read; or one of several processes can't read the newest.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        items = {
            name: ocp.args.PyTreeRestore(tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree))
            for name, tree in abstract.items()
            if tree is not None
        }
        broken = []
        for step in steps:
            try:
                restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            except Exception as error:  # storage libraries raise errors of many types for a damaged file
                if jax.process_count() > 1:
                    raise UserError(
                        f"the checkpoint {self._folder}/{step} can't be read ({line(error)}); mend that, or move it "
                        "away to go on from the one before"
                    ) from error
                broken.append(step)
                _LOG.warning("checkpoint %s/%d can't be read (%s)", self._folder, step, line(error))
                continue
            self._set_aside(broken)
            for bad in broken:
                _LOG.warning("went back from checkpoint %d to the one before, %d", bad, step)
            return step, {name: restored[name] if name in items else None for name in abstract}
        if steps:
            raise UserError(
                f"none of the checkpoints {', '.join(map(str, steps))} in {self._folder} can be read; "
                "restore them, or move the folder away to start over"
            )
        return None

    def _set_aside(self, steps: list[int]) -> None:
        for step in steps:
            aside = self._folder / f"{step}.broken"
            if aside.exists():
                aside.rmtree()
            (self._folder / str(step)).rename(aside)
        self._manager.reload()

    def wait(self) -> None:
        """Waits until all checkpoints are written. Raises UserError if one can't be."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until all checkpoints are written, and ends Orbax's threads. Raises UserError if one can't be."""
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # storage libraries raise errors of many types for a full or missing disk
            raise UserError(
                f"a checkpoint can't be written to {self._folder} ({line(error)}); mend that, and the same command "
                "goes on from the checkpoint before"
            ) from error


def newest_params(folder: epath.PathLike) -> Params | None:
    """Returns the model's weights in the newest readable checkpoint of a folder, as NumPy arrays, or None without one.

    They are the averaged weights if the run has them, and otherwise the parameters. Parameters that belong to the task
    and not to the model are left out. A checkpoint that can't be read is skipped with a warning.
    """
    handler = ocp.PyTreeCheckpointHandler()
    with contextlib.closing(_manager(epath.Path(folder), None)) as manager:
        steps = sorted(manager.all_steps(), reverse=True)
    for step in steps:
        place = epath.Path(folder) / str(step)
        item = place / ("average" if (place / "average").exists() else "params")
        try:
            on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(item).tree)
            return of_model(handler.restore(item, args=ocp.args.PyTreeRestore(restore_args=on_host)))
        except Exception as error:
            _LOG.warning("checkpoint %s can't be read (%s)", place, line(error))
    return None


def _manager(folder: epath.Path, keep: int | None) -> ocp.CheckpointManager:
    writes = keep is not None
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=writes, cleanup_tmp_directories=writes)
    handlers = {name: _handler() for name in _ITEMS}
    absolute = folder.resolve() if "://" not in str(folder) else folder
    return ocp.CheckpointManager(absolute, options=options, item_handlers=handlers)


def _handler() -> ocp.PyTreeCheckpointHandler:
    """Returns what reads and writes the arrays of a checkpoint.

    By default Orbax slices each array that several devices hold, so that each device sends a part of it. For small
    arrays this takes far longer than to send them whole: more than half a second for a small model on eight devices.
    """
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_LEAST_SLICE)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
