"""One training step, a pure function of the state and a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vit_jax import sharding
from vit_jax.data.augment import augment
from vit_jax.models.functional import split
from vit_jax.models.model import Model
from vit_jax.models.randomness import fold_in, row_keys
from vit_jax.tasks import Batch, make_task
from vit_jax.training import average, compiler
from vit_jax.training.freeze import Freeze, join
from vit_jax.training.optimizer import make_optimizer
from vit_jax.training.schedule import make_schedule
from vit_jax.training.state import TrainState, abstract_state, resolve

Metrics = dict[str, jax.Array]


def make_step(config: Any, model: Model, mesh: Mesh | None = None) -> jax.stages.Wrapped:
    """The jitted step: `state, metrics = step(state, batch)`; the state given is used up.

    `batch` has `image` (batch, height, width, 3), uint8 or floats in the model's range; `label`, the weights of the
    classes (batch, classes) or one class an image as integers (batch,); and `mask` (batch,), 1 for the rows that count
    and 0 for others; without it all count. Other keys are not read. An integer label that is no class makes the loss
    NaN, since values can't be looked at inside of a compiled step. `metrics` has `loss`, `gradient_norm` (before
    clipping) and `learning_rate`, in float32. Augmentation and dropout depend on `config.seed`, the step and the row of
    the global batch alone. `mesh` is that of the config over all devices unless given.

    Raises:
        UserError: what is wrong with the config.
    """
    config = resolve(config)
    mesh = mesh or sharding.make_mesh(config.mesh)
    bind, params = split(model)
    optimizer, schedule = make_optimizer(config.optimizer, params), make_schedule(config)
    freeze = Freeze(config.optimizer, params)
    task, micro_batches = make_task(config.task), config.accumulation_steps
    state_shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, model, mesh))
    rows = sharding.batch_sharding(mesh)

    def prepare(batch: Batch, keys: jax.Array) -> Batch:
        """The whole batch normalised and augmented, before it is split."""
        images = model.preprocessing.normalize(batch["image"])
        mask = jnp.asarray(batch["mask"], jnp.float32) if "mask" in batch else jnp.ones(len(images), jnp.float32)
        labels = task.targets(batch, mask, model.arch.num_classes)
        images, labels = augment(images, labels, fold_in(keys, 0), config.augmentation)
        batch = {"image": images, "label": labels, "mask": mask, "key": fold_in(keys, 1)}
        return jax.lax.with_sharding_constraint(batch, rows)

    def loss_and_gradients(params, batch: Batch):
        """Summed over micro-batches, each weighted by its share of the rows that count.

        Gradients are those of the trained parameters. Others are constants, so that there is no backward pass below
        the first that is trained.
        """
        trained, frozen = freeze.split(params)

        def weighted(trained, part: Batch):
            weight = part["mask"].sum() / jnp.maximum(batch["mask"].sum(), 1)
            loss, _ = task.loss(bind(join(trained, frozen)), part, part["key"])
            return loss * weight

        if micro_batches == 1:
            return jax.value_and_grad(weighted)(trained, batch)

        def add(total, part):
            part = jax.lax.with_sharding_constraint(part, rows)
            return jax.tree.map(jnp.add, total, jax.value_and_grad(weighted)(trained, part)), None

        # Row r goes to micro-batch r % micro_batches: a stride, so that each device splits its own rows.
        parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, micro_batches, *x.shape[1:]), 1, 0), batch)
        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trained))
        return jax.lax.scan(add, zeros, parts)[0]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        keys = row_keys(jax.random.fold_in(jax.random.key(config.seed), state.step), len(batch["image"]))
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            loss, gradients = loss_and_gradients(state.params, prepare(batch, keys))
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
            "loss": loss,
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
