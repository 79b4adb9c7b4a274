"""What an evaluation of any kind is given, and what it returns."""

import dataclasses
from collections.abc import Callable, Generator

from jax.sharding import Mesh

from vit_jax.data import Dataset
from vit_jax.models.functional import Params
from vit_jax.tasks import Batch, Learner, Task

# From parameters to measures by name, and `examples`, the number of examples that they are means over.
Evaluate = Callable[[Params], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model, the task and the data of one evaluation."""

    name: str  # of the evaluation, for messages
    learner: Learner  # binds the parameters
    num_classes: int
    task: Task
    seed: int
    mesh: Mesh
    dataset: Dataset  # its classes and its size
    batches: Callable[[], Generator[Batch]]  # each example once, as `Dataset.examples`, sharded over the mesh
