"""Writes TensorBoard's event files in the run's folder, by clu."""

import os
from collections.abc import Mapping

from etils import epath


class TensorBoard:
    """TensorBoard's event files. A resumed run adds a file."""

    def __init__(self, folder: epath.Path):
        # Otherwise TensorFlow, which only writes events here, prints messages to stderr.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        from clu import metric_writers  # imports TensorFlow

        self._writer = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._writer.write_scalars(step, values)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.flush()
        self._writer.close()
