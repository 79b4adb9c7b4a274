"""What the files of a complete training tell, so that the results of a study do not depend on interruptions."""

from typing import Any

import jax
from etils import epath

from vit_jax import config as config_lib
from vit_jax.checkpoints import files
from vit_jax.errors import UserError
from vit_jax.models.functional import split
from vit_jax.training import start, work
from vit_jax.training.metrics_file import all_values

_OF_TIME = ("train/images_per_second", "train/mfu", "train/data_wait")  # differ from time to time


def result(folder: epath.Path) -> dict[str, Any]:
    """Returns what `result.json` keeps of a training, from its config.json, model.json and metrics.jsonl.

    Raises:
        UserError: metrics.jsonl lacks the last step.
    """
    recorded = files.read_json(folder / "config.json")
    config = config_lib.typed(recorded["config"])
    assert config.total_steps is not None
    model = start.model_of(config, folder)
    steps, values = config.total_steps, all_values(folder)
    if steps not in values:
        raise UserError(f"{folder}/metrics.jsonl lacks the last step, {steps}; move the folder away to train anew")
    operations = work.flops_of_step(config, model, config.global_batch_size)
    measures = {key for line in values.values() for key in line if not key.startswith("train/")}
    return {
        "config": recorded["config"],
        "data": recorded.get("data"),
        "values": {key: value for key, value in values[steps].items() if key not in _OF_TIME},
        "curves": {key: [[s, line[key]] for s, line in values.items() if key in line] for key in sorted(measures)},
        "steps": steps,
        "exaflops": operations * steps / 1e18,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(split(model)[1])),
        "seconds": _seconds(values, config.global_batch_size),
    }


def _seconds(values: dict[int, dict[str, float]], batch_size: int) -> float:
    """Returns the time of the training steps, by the speed that is logged for each interval of steps.

    If the first step is logged alone, its interval includes the compilation.
    """
    total, before = 0.0, 0
    for step, line in values.items():
        if speed := line.get("train/images_per_second"):
            total += (step - before) * batch_size / speed
            before = step
    return total
