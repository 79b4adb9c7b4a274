"""A run's folder: what may be there before the run, and the files that describe it.

`config.json` holds the resolved config, the version, the devices and what is trained on; `model.json` holds what
rebuilds the model.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath

import vit_jax
from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.checkpoints import files, model_file
from vit_jax.checkpoints.formats import Description
from vit_jax.checkpoints.store import FOLDER
from vit_jax.errors import UserError

FORMAT_VERSION = 1
LONGER = "to train it for longer, take a new --workdir with --config.init_from={folder} --config.init_head=keep"
SHARE = "name a --workdir that they share, gs:// or on a common disk"
_NETWORK_DISK_SECONDS = 20.0  # until all hosts see a new file


def recorded_in(workdir: epath.PathLike) -> tuple[epath.Path, dict[str, Any]]:
    """Returns a run's folder and what its config.json holds; empty for a new run.

    Raises:
        UserError: the folder can't be written, is no run's, or was written by a newer version.
    """
    folder = epath.Path(workdir)
    if "://" not in str(folder):
        folder = folder.expanduser().resolve()
    files.check_folder(folder, "the workdir")
    path = folder / "config.json"
    if not path.exists():
        for name in (FOLDER, "model.npz"):
            if (folder / name).exists():
                raise UserError(
                    f"the workdir {folder} has {name} but no config.json, so it is no run's; name another one"
                )
        return folder, {}
    recorded = files.read_json(path)
    whole = isinstance(recorded, dict) and isinstance(recorded.get("config"), dict)
    if not whole or ("data" in recorded and not data.is_identity(recorded["data"])):
        raise UserError(f"{path} does not describe a run; restore it or move it away")
    if recorded.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(f"{path} was written by a newer vit_jax; update this one or take another --workdir")
    return folder, recorded


def require_config(folder: epath.Path, recorded: Mapping[str, Any], config: config_lib.Config) -> None:
    """Raises UserError if the run in a folder has another config than `config`, beyond what may differ."""
    if recorded and (different := config_lib.differences(recorded["config"], config)):
        longer = any(text.startswith("config.total_") for text in different)
        raise UserError(
            f"{folder} holds a run of another config, take another --workdir: {'; '.join(different)}"
            + (f"; {LONGER.format(folder=folder)}" if longer else "")
        )


def write_descriptions(
    folder: epath.Path, config: config_lib.Config, trained_on: data.Identity, description: Description
) -> None:
    """Makes the folder and writes `config.json` and `model.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    devices = {"platform": jax.default_backend(), "kind": jax.devices()[0].device_kind, "count": jax.device_count()}
    record = {
        "format_version": FORMAT_VERSION,
        "version": vit_jax.__version__,
        "devices": {**devices, "processes": jax.process_count()},
        "config": dataclasses.asdict(config),
        "data": trained_on,
    }
    files.write_json(folder / "config.json", record)
    files.write_json(folder / "model.json", model_file.describe(description))


def require_shared(folder: epath.Path) -> None:
    """Raises UserError if this process does not see what the first process has written."""
    deadline = time.monotonic() + _NETWORK_DISK_SECONDS
    while not (folder / "config.json").exists():
        if time.monotonic() > deadline:
            raise UserError(f"{folder} was made by process 0 and is not here; {SHARE}")
        time.sleep(0.5)


@contextlib.contextmanager
def writing(folder: epath.Path) -> Iterator[None]:
    """Turns what a full or vanished disk raises into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"the workdir {folder} can't be written ({error}); mend that or name another one") from error
