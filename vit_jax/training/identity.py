"""Checks that a resumed run uses the same training data as before, and that all its processes use the same data."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from etils import epath

from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.errors import UserError
from vit_jax.training.hosts import Hosts

_LOG = logging.getLogger(__name__)


def checked(config: config_lib.Config, folder: epath.Path, recorded: Mapping[str, Any], hosts: Hosts) -> data.Identity:
    """Returns the identity of the training data (see `data.describe`) after checking it.

    Args:
        config: the config, with the data section to describe.
        folder: the run's folder, for messages.
        recorded: the content of the run's config.json; empty for a new run.
        hosts: the processes of the run.

    Raises:
        UserError: the data differ from the recorded data, or from the data of process 0.
    """
    now = data.describe(config)
    if "data" in recorded:
        if different := data.differences(recorded["data"], now):
            raise UserError(
                f"the run in {folder} was trained on other data: {'; '.join(different)}; put the data back as they "
                "were, or take another --workdir"
            )
    elif recorded:
        _LOG.warning(
            "%s was begun by an earlier version, which did not record its training data; it can't be told whether "
            "these are the same, and they are recorded now",
            folder,
        )
    digest = hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()
    mend = (
        f"here are {now['num_examples']:,} images of {len(now['class_names']):,} classes (digest {digest[:12]}); give "
        "all processes the same files"
    )
    hosts.require_same("the training data", digest, mend)
    return now
