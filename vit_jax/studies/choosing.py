"""Which of several trainings is the best, for a stage that trains with its config once more."""

from collections.abc import Mapping

from vit_jax.errors import UserError
from vit_jax.studies.spec import Best


def best(stage: Best, values: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the name of the candidate of a stage with the best measure; of equal ones, the first.

    Args:
        stage: names the candidates and the measure, and says whether its highest or its lowest value is the best.
        values: what each earlier training has measured at its last step, by the training's name.

    Raises:
        UserError: a candidate has no such measure.
    """
    for name in stage.configs:
        if stage.measure not in values[name]:
            raise UserError(
                f"the candidate {name} has no measure {stage.measure} to choose by; it has {', '.join(values[name])}"
            )
    sign = -1 if stage.least else 1
    return max(stage.configs, key=lambda name: sign * values[name][stage.measure])  # max takes the first of equal ones
