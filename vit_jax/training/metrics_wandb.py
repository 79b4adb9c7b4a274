"""Sends a run's metrics and config to Weights & Biases (W&B) or, offline, writes them to the run's folder.

The axis of the charts is `step`, the step of the run. A resumed run is the same run on W&B, because its id is kept in
`wandb.json`. `metrics.jsonl` is the full record: at the start, the steps that W&B lacks are sent from it. A killed run
may have sent steps after its newest checkpoint. These steps are computed again, with the same results. A server does
not accept a step twice, so they are not sent again, and the log says so. Offline, each start writes a folder with the
whole run.
"""

import dataclasses
import importlib.util
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, cast

from etils import epath

from vit_jax import config as config_lib
from vit_jax.checkpoints import files
from vit_jax.errors import UserError
from vit_jax.training.metrics_file import MetricsFile

FILE = "wandb.json"
_OFFLINE = "--config.wandb.mode=offline keeps the metrics in the run's folder"
_LOG = logging.getLogger(__name__)


def check(settings: config_lib.Wandb, *, first_process: bool) -> None:
    """Raises UserError if the package wandb is missing or, online, if there is no login.

    The first process asks for the login, if there is a terminal.
    """
    # A folder `wandb` in the working directory is also found, as a package without an origin.
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
    except Exception as error:  # many types, for no key and no terminal, a wrong key, or no network
        raise UserError(f"the login at W&B fails ({files.line(error)}); run `wandb login`, or {_OFFLINE}") from error
    if not known:
        raise UserError(f"there is no login at W&B; run `wandb login`, or {_OFFLINE}")


class WandB:
    """The run on W&B. Only the first process opens it, after its first step."""

    def __init__(
        self,
        folder: epath.Path,
        step: int,
        config: config_lib.Config,
        file: MetricsFile,
        put_off: Mapping[str, float],
    ):
        """Opens the run, and sends what W&B lacks.

        Args:
            folder: the run's folder.
            step: the step from which the run is resumed; 0 for a new run.
            config: sent to W&B. Its section `wandb` names the project.
            file: the metrics of the run so far, including `put_off`.
            put_off: values of `step` that were not known when it was written.

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
        """Sends values of a step, unless W&B had that step when the run was opened."""
        if step > self._known:
            self._run.log({"step": step, **values}, step=2 * step)

    def flush(self) -> None:
        """Does nothing. W&B sends in the background, and what a kill leaves unsent is sent when the run is resumed."""

    def close(self) -> None:
        """Waits until everything is sent. W&B shows a run that ends by an exception as failed."""
        self._run.finish(exit_code=int(sys.exc_info()[0] is not None))


def _open(folder: epath.Path, config: config_lib.Config) -> Any:
    """Returns the run on W&B: the one whose id is kept in the run's folder, or a new one.

    Raises:
        UserError: W&B refuses the run, or can't be reached.
    """
    settings = config.wandb
    offline = settings.mode == "offline"
    if offline:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # error reports would use the network
    import wandb

    known_as, where = _id(folder), str(_directory(folder))
    try:
        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=settings.name or folder.name,
            id=known_as,
            resume=None if offline else "allow",  # uploading a folder with the whole run replaces what is there
            mode=cast(Any, settings.mode),
            dir=where,
            config=dataclasses.asdict(config),
            allow_val_change=True,  # keys that may differ when a run is resumed
            reinit="create_new",  # the calling program may have another run
            # W&B does not capture the terminal, and shows only warnings and errors.
            settings=wandb.Settings(console="off", quiet=True, silent=offline),
        )
    except Exception as error:  # types of W&B and of the packages that it uses
        raise UserError(f"W&B does not open the run ({files.line(error)}); mend that, or {_OFFLINE}") from error
    if offline:
        _LOG.info("W&B is offline; to upload the run: wandb sync %s", run.settings.sync_dir)
    else:
        _LOG.info("W&B: %s", run.url)
    return run


def _id(folder: epath.Path) -> str:
    """Returns the id of the run. It is drawn once and kept in the run's folder."""
    path = folder / FILE
    if not path.exists():
        files.write_json(path, {"id": secrets.token_hex(8)})
    record = files.read_json(path)
    if not isinstance(record, dict) or type(record.get("id")) is not str:
        raise UserError(f"{path} holds no id of a W&B run; restore it, or remove it to begin a new run there")
    return record["id"]


def _directory(folder: epath.Path) -> epath.Path:
    """Returns the folder for W&B's files: the run's folder, or a temporary one if that is in a bucket."""
    if "://" not in str(folder):
        return folder
    found = epath.Path(tempfile.mkdtemp(prefix="vit_jax_wandb_"))
    _LOG.warning("W&B can't write to %s; its files are in %s, on this machine alone", folder, found)
    return found
