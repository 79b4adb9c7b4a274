"""The training step, a pure function of the state and a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vit_jax import sharding
from vit_jax.data import augment
from vit_jax.errors import UserError
from vit_jax.models.model import Model
from vit_jax.randomness import Keys, row_keys, stream_key
from vit_jax.tasks import Batch, Learner, make_task
from vit_jax.training import average, compiler
from vit_jax.training.freeze import Freeze, join, optimizer_of
from vit_jax.training.optimizer import make_optimizer
from vit_jax.training.schedule import make_schedule
from vit_jax.training.state import TrainState, abstract_state, resolve

Metrics = dict[str, jax.Array]
_OWN_METRICS = ("loss", "gradient_norm", "learning_rate")


def make_step(config: Any, model: Model, mesh: Mesh | None = None) -> jax.stages.Wrapped:
    """Returns the jitted training step: `state, metrics = step(state, batch)`. The step donates the given state.

    The batch is a dict with these arrays; `task.targets` may read others:

    - `image` (batch, height, width_px, 3): uint8 pixels, or floats in the model's range.
    - `label`: one class per image as integers (batch,), or the weights of all classes (batch, classes). Values can't be
      checked inside a compiled step, so an integer that is no class makes the loss NaN.
    - `labels`, in place of `label`: several classes per image as integers (batch, most), filled up with -1.
    - `mask` (batch,): 1 for rows that count and 0 for others. Without it all rows count.

    The metrics, float32, are `loss`, `gradient_norm` (before clipping), `learning_rate`, and those of the task.
    Augmentation and dropout depend only on `config.seed`, the step and the row in the global batch.

    Args:
        config: a `Config` or a ConfigDict.
        model: may have shapes for parameters.
        mesh: by default the mesh of the config over all devices.

    Raises:
        UserError: what is wrong with the config, or, when the step is traced, with the batch.
    """
    config = resolve(config)
    mesh = mesh or sharding.make_mesh(config.mesh)
    task, micro_batches = make_task(config.task), config.accumulation_steps
    learner = Learner(model, task)
    settings = optimizer_of(config)
    optimizer, schedule = make_optimizer(settings, learner.shapes), make_schedule(config)
    freeze = Freeze(settings, learner.shapes)
    state_shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, model, mesh))
    rows = sharding.batch_sharding(mesh)

    def keys(stream: str, number: jax.Array, size: int) -> Keys:
        """Returns the keys of the rows of step `number` in a stream of randomness."""
        return row_keys(jax.random.fold_in(stream_key(config.seed, stream), number), size)

    def prepare(batch: Batch, number: jax.Array) -> Batch:
        """Returns the batch of step `number`, normalised and augmented as a whole, before it is split."""
        size, settings, preprocessing = len(batch["image"]), config.augmentation, model.preprocessing
        drawn = keys("augmentation", number, size)
        mask = jnp.asarray(batch["mask"], jnp.float32) if "mask" in batch else jnp.ones(size, jnp.float32)
        if augment.changes_pixels(settings):
            pixels = augment.augment_pixels(preprocessing.to_pixels(batch["image"]), drawn, settings)
            images = preprocessing.from_pixels(pixels)
        else:
            images = preprocessing.normalize(batch["image"])
        batch = {**batch, "mask": mask}
        batch = {**batch, **task.targets(batch, model.arch.num_classes), "image": images}
        batch = augment.mix(batch, drawn, settings, config.data.repeats)
        return jax.lax.with_sharding_constraint({**batch, "key": keys("loss", number, size)}, rows)

    def loss_and_gradients(params, batch: Batch):
        """Returns the loss and the task's metrics by name, and the gradients of the trained parameters.

        Each is a sum over the micro-batches, weighted by the share of the rows that count. Frozen parameters are
        constants, so that there is no backward pass below the lowest trained layer.
        """
        trained, frozen = freeze.split(params)

        def weighted(trained, part: Batch):
            weight = part["mask"].sum() / jnp.maximum(batch["mask"].sum(), 1)
            loss, metrics = task.loss(*learner.bind(join(trained, frozen)), part, part["key"])
            return loss * weight, {"loss": loss * weight, **{name: m * weight for name, m in _checked(metrics).items()}}

        # Returns (gradients, metrics). The loss is among the metrics, so that all are added in the same way.
        values = jax.grad(weighted, has_aux=True)
        if micro_batches == 1:
            gradients, metrics = values(trained, batch)
            return metrics, gradients

        def add(total, part):
            part = jax.lax.with_sharding_constraint(part, rows)
            return jax.tree.map(jnp.add, total, values(trained, part)), None

        # Row r goes to micro-batch r % micro_batches. With this stride each device splits the rows that it holds.
        parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, micro_batches, *x.shape[1:]), 1, 0), batch)
        first = jax.tree.map(lambda x: x[0], parts)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(values, trained, first))
        gradients, metrics = jax.lax.scan(add, zeros, parts)[0]
        return metrics, gradients

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            learned, gradients = loss_and_gradients(state.params, prepare(batch, state.step))
        opt_state = state.opt_state
        if config.optimizer.offload:
            opt_state = jax.device_put(opt_state, sharding.in_memory("device", opt_state, state_shardings.opt_state))
        trained, frozen = freeze.split(state.params)
        updates, opt_state = optimizer.update(gradients, opt_state, trained)
        learning_rate = schedule(state.step)
        trained = jax.tree.map(lambda p, u: p - learning_rate * u, trained, updates)
        averaged = state.average
        if averaged is not None:
            moving, still = freeze.split(averaged)
            averaged = join(average.update(config.optimizer, state.step, trained, moving), still)
        metrics = {
            **learned,
            "gradient_norm": optax.tree.norm(freeze.zero(gradients)),
            "learning_rate": jnp.asarray(learning_rate, jnp.float32),
        }
        return TrainState(state.step + 1, join(trained, frozen), opt_state, averaged), metrics

    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(
        step,
        in_shardings=(state_shardings, rows),
        out_shardings=(state_shardings, whole),
        donate_argnums=0,
        compiler_options=compiler.options(mesh),
    )


def _checked(metrics: Metrics) -> Metrics:
    """Returns the metrics of a task. Raises UserError if one has the name of a metric of the step."""
    if taken := [name for name in metrics if name in _OWN_METRICS]:
        raise UserError(f"the task has a metric {taken[0]!r}, which is the step's own; call it by another name")
    return metrics
