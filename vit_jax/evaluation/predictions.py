"""What a model predicts for each image of an evaluation that reads its head, so that its errors can be looked at."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vit_jax import config as config_lib
from vit_jax import data, sharding
from vit_jax.models.class_names import top
from vit_jax.models.functional import Params, split
from vit_jax.models.model import Model
from vit_jax.tasks import Batch

TOP = 5  # classes that are named for each image
Write = Callable[[dict[str, Any]], object]


def predict(config: config_lib.Config, name: str, model: Model, params: Params, mesh: Mesh) -> Iterator[dict[str, Any]]:
    """Yields for each image of the evaluation `name`, in order, a dict of JSON values.

    It has `evaluation`, the name; `index`, the number of the image in its data set; `image`, its path, or
    `split[index]` if it has none; and `labels`, the numbers of its classes. `classes` has the most probable classes,
    the most probable first, each with `name`, `label` and `probability`. For an image that can't be read, `error` is
    there instead of `labels` and `classes`.

    Args:
        config: as `make_evaluations` takes it.
        name: of the evaluation.
        model: the model.
        params: its parameters, on the devices of `mesh`.
        mesh: the mesh over which batches are split. If it has devices of several processes, all of them call this, and
            all get every image.
    """
    bind, _ = split(model)

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))  # all processes get all rows
    def computed(params: Params, batch: Batch) -> Batch:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            logits = bind(params)(batch["image"])
        return {**{key: value for key, value in batch.items() if key != "image"}, "logits": logits}

    batch_size = config.evaluations[name].batch_size or config.global_batch_size
    with data.open_evaluation(config, name) as dataset:
        for batch in dataset.examples(batch_size, rows=sharding.local_rows(mesh, batch_size)):
            rows = jax.device_get(computed(params, sharding.to_devices(batch, mesh, batch_size)))
            labels = rows["labels"] if "labels" in rows else rows["label"][:, None]
            for row, classes in enumerate(top(model, rows["logits"], TOP)):
                index = int(rows["index"][row])
                if index < 0:  # fills the last batch
                    continue
                about = {"evaluation": name, "index": index, "image": dataset.describe(index)}
                if rows["mask"][row]:
                    right = [int(label) for label in labels[row] if label >= 0]
                    yield {**about, "labels": right, "classes": [each._asdict() for each in classes]}
                else:
                    yield {**about, "error": "the image can't be read"}
