"""The folder of a run, which all the processes must share."""

import pytest

import vit_jax
from vit_jax.training import run_folder


def test_workdir_that_is_not_on_a_common_disk(tmp_path, monkeypatch):
    """Raises an error if the files that process 0 has written do not appear for another process."""
    monkeypatch.setattr(run_folder, "_NETWORK_DISK_SECONDS", 0.0)
    here = tmp_path / "run"
    with pytest.raises(vit_jax.UserError, match="run was made by process 0 and is not here; name a --workdir that"):
        run_folder.require_shared(here)
    here.mkdir()
    (here / "config.json").touch()
    run_folder.require_shared(here)
