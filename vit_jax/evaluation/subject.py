"""What every kind of evaluation takes and returns."""

import dataclasses
from collections.abc import Callable, Generator

from jax.sharding import Mesh

from vit_jax.data import Dataset
from vit_jax.models.functional import Params
from vit_jax.tasks import Batch, Learner, Task

# A function from parameters to measures by name. `examples` is the number of examples that the others are means over.
Evaluate = Callable[[Params], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model, the task and the data of one evaluation."""

    name: str  # name of the evaluation, for messages
    learner: Learner  # binds parameters to the model and the task's own modules
    num_classes: int
    task: Task
    seed: int
    mesh: Mesh
    dataset: Dataset  # its classes and its number of examples
    batches: Callable[[], Generator[Batch]]  # yields each example once, sharded over the mesh
