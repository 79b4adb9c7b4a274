"""Weights & Biases: a run's metrics and its config, sent to a server or, offline, kept in the run's folder.

The charts' axis is `step`, ours. A run that goes on is the same run there too: its id is kept in `wandb.json`.
`metrics.jsonl` stays the full record, and what it holds is sent at the start where W&B lacks it. A killed run may have
sent steps beyond its newest checkpoint, which it computes again, with the same results. A server can take no step
back, so such steps are not sent twice, and the log says so. Offline every start writes a folder with the whole run.
"""

import dataclasses
import importlib.util
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from etils import epath

from vit_jax import config as config_lib
from vit_jax.checkpoints import files
from vit_jax.errors import UserError
from vit_jax.training.metrics_file import MetricsFile

FILE = "wandb.json"
_OFFLINE = "--config.wandb.mode=offline keeps the metrics in the run's folder"
_LOG = logging.getLogger(__name__)


def check(settings: config_lib.Wandb, *, first_process: bool) -> None:
    """Raises UserError if the package is missing or, online, W&B knows no login; the first process asks for one."""
    # A folder `wandb` in the working directory is found, too, as a package without an origin.
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:
        raise UserError(
            f"config.wandb.project={settings.project} needs the package wandb, which is not installed: "
            "pip install 'vit_jax[wandb]', or leave the key out"
        )
    if settings.mode == "offline" or not first_process:
        return
    import wandb

    try:
        known = wandb.login(verify=True)
    except Exception as error:  # of many types: no key and no terminal, a wrong key, no network
        raise UserError(f"the login at W&B fails ({files.line(error)}); run `wandb login`, or {_OFFLINE}") from error
    if not known:
        raise UserError(f"there is no login at W&B; run `wandb login`, or {_OFFLINE}")


class WandB:
    """The run on W&B. It is opened after the first step, in the first process alone."""

    def __init__(
        self,
        folder: epath.Path,
        step: int,
        config: config_lib.Config,
        file: MetricsFile,
        put_off: Mapping[str, float],
    ):
        """Goes on after `step`.

        Args:
            folder: the run's.
            step: the one that the run goes on from; 0 at its start.
            config: recorded on W&B; its section `wandb` names the project.
            file: the run's metrics so far, those of `step` with `put_off` among them.
            put_off: values of `step` that are known only now.

        Raises:
            UserError: W&B can't be reached, or does not take the run.
        """
        self._run = _open(folder, config)
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        # W&B's own counter must grow from row to row. It is twice the step, which leaves a number for a row of what was
        # put off, and tells which steps a server has: its counter is one above its last row's.
        self._known = (self._run.step - 1) // 2
        if put_off and step <= self._known:
            self._run.log({"step": step, **put_off}, step=2 * self._known + 1)
        for number, values in file.kept():
            self.write(number, values)
        if self._known > step:
            _LOG.info(
                "W&B has this run up to step %d; the steps up to there are computed again and not sent again",
                self._known,
            )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the values of a step, unless W&B has that step."""
        if step > self._known:
            self._run.log({"step": step, **values}, step=2 * step)

    def flush(self) -> None:
        """Does nothing: W&B sends as it can, and what a kill leaves unsent is sent when the run goes on."""

    def close(self) -> None:
        """Waits until all is sent; a run that ends by an exception counts as failed."""
        self._run.finish(exit_code=int(sys.exc_info()[0] is not None))


def _open(folder: epath.Path, config: config_lib.Config) -> Any:
    """Returns the run on W&B, a new one or the one whose id the run's folder keeps.

    Raises:
        UserError: W&B refuses, or can't be reached.
    """
    settings = config.wandb
    mode: Any = settings.mode  # for W&B's types one of its words
    offline = mode == "offline"
    if offline:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would use the network
    import wandb

    known_as, where = _id(folder), str(_directory(folder))
    try:
        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=settings.name or folder.name,
            id=known_as,
            resume=None if offline else "allow",  # uploading a folder with the whole run replaces what is there
            mode=mode,
            dir=where,
            config=dataclasses.asdict(config),
            allow_val_change=True,  # of keys that may differ when a run goes on
            reinit="create_new",  # beside a run that the calling program may have
            # The terminal is not captured; of W&B's own messages warnings and errors are shown.
            settings=wandb.Settings(console="off", quiet=True, silent=offline),
        )
    except Exception as error:  # W&B's own types, and those of what it is built on
        raise UserError(f"W&B does not open the run ({files.line(error)}); mend that, or {_OFFLINE}") from error
    if offline:
        _LOG.info("W&B is offline; to upload the run: wandb sync %s", run.settings.sync_dir)
    else:
        _LOG.info("W&B: %s", run.url)
    return run


def _id(folder: epath.Path) -> str:
    """Returns the run's id, which is kept in its folder from the first time on."""
    path = folder / FILE
    if not path.exists():
        files.write_json(path, {"id": secrets.token_hex(8)})
    record = files.read_json(path)
    if not isinstance(record, dict) or type(record.get("id")) is not str:
        raise UserError(f"{path} holds no id of a W&B run; restore it, or remove it to begin a new run there")
    return record["id"]


def _directory(folder: epath.Path) -> epath.Path:
    """Returns where W&B's files go: the run's folder, or a temporary one if that is in a bucket."""
    if "://" not in str(folder):
        return folder
    found = epath.Path(tempfile.mkdtemp(prefix="vit_jax_wandb_"))
    _LOG.warning("W&B can't write to %s; its files are in %s, on this machine alone", folder, found)
    return found
