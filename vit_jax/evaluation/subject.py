"""What every kind of evaluation takes and returns."""

import dataclasses
from collections.abc import Callable, Generator

from jax.sharding import Mesh

from vit_jax import config as config_lib
from vit_jax.data import Dataset
from vit_jax.evaluation.features import Features
from vit_jax.models.functional import Params
from vit_jax.tasks import Batch, Learner, Task

# A function from parameters to measures by name. `examples` is the number of examples that the others are means over.
Evaluate = Callable[[Params], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model, the task and the data of one evaluation."""

    name: str  # name of the evaluation, for messages
    section: config_lib.Evaluation  # its keys
    learner: Learner  # binds parameters to the model and the task's own modules
    num_classes: int
    task: Task
    seed: int
    mesh: Mesh
    dataset: Dataset  # its classes and its number of examples
    open_learned: Callable[[], Dataset]  # opens the images that the evaluation learns from
    keep_open: Callable[[Dataset], Dataset]  # returns a data set that is closed when the evaluations are
    batches: Callable[[Dataset], Generator[Batch]]  # yields each example once, sharded over the mesh
    features: Callable[[Params, Dataset], Features]  # returns the frozen features of a data set
