"""TensorBoard's events in the run's folder, written by clu."""

import os
from collections.abc import Mapping

from etils import epath


class TensorBoard:
    """TensorBoard's events. A run that goes on writes a further file of them."""

    def __init__(self, folder: epath.Path, step: int, put_off: Mapping[str, float]):
        """Goes on after `step`; `put_off` are values of that step which are known only now."""
        # TensorFlow, which only writes events here, greets on stderr else, and again where it has oneDNN.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        from clu import metric_writers  # imports TensorFlow

        self._writer = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))
        if put_off:
            self.write(step, put_off)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._writer.write_scalars(step, values)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.flush()
        self._writer.close()
