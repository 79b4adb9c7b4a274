"""The stages that do not train: a model's speed on the devices at hand, and the largest batch that fits on a slice.

Figure 12 of the paper on ViT (2010.11929) shows both.
"""

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vit_jax import config as config_lib
from vit_jax import sharding
from vit_jax.errors import UserError
from vit_jax.models.build import initial_params
from vit_jax.models.functional import split
from vit_jax.planning import plans, search, slices
from vit_jax.planning.compiling import model_of
from vit_jax.studies.spec import LargestBatch, Speed, Stage
from vit_jax.values import pair


def devices() -> str:
    """Returns the kind and the number of the devices at hand."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def measured(stage: Stage) -> dict[str, Any]:
    """Returns what a stage that does not train finds, under `values`.

    Raises:
        UserError: the config is wrong, or nothing fits on the slice.
    """
    if isinstance(stage, Speed):
        return {"values": {"images_per_second": _speed(stage)}, "devices": devices()}
    assert isinstance(stage, LargestBatch)
    return {"values": {"largest_batch": _largest_batch(stage)}}


def _speed(stage: Speed) -> float:
    """Returns the images per second of all devices in inference, from the median time of a batch.

    The batch, of uint8 images, is on the devices already.
    """
    config = stage.config
    mesh, size = sharding.make_mesh(config.mesh), config.global_batch_size
    sharding.check_batch(mesh, size, "global_batch_size")
    rows, (height, width_px) = len(sharding.local_rows(mesh, size)), pair(config.model.image_size)
    pixels = np.random.default_rng(0).integers(0, 256, (rows, height, width_px, 3), np.uint8)
    images = sharding.to_devices({"image": pixels}, mesh, size)["image"]
    # The rounds of a study measure each model several times.
    key = repr(dataclasses.replace(config, seed=0))
    draw, infer = _COMPILED[key] = _COMPILED.get(key) or _compiled(config, mesh, images)
    params = draw()
    infer(params, images).block_until_ready()
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() - begin < stage.seconds:
        since = time.perf_counter()
        infer(params, images).block_until_ready()
        times.append(time.perf_counter() - since)
    return size / statistics.median(times)


_COMPILED: dict[str, tuple[Any, Any]] = {}


def _compiled(config: config_lib.Config, mesh: Mesh, images: jax.Array) -> tuple[Any, Any]:
    """Returns two compiled programs: one draws the parameters of a model, and one computes the logits of a batch."""
    model = model_of(config)
    bind, shapes = split(model)
    sharding.check_fsdp(shapes, mesh)
    placed = sharding.state_shardings(shapes, mesh)

    def logits(params: Any, images: jax.Array) -> jax.Array:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return bind(params)(images)

    draw = jax.jit(lambda: initial_params(model.arch, jax.random.key(0)), out_shardings=placed).lower().compile()
    inputs = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, placed)
    return draw, jax.jit(logits).lower(inputs, images).compile()


def _largest_batch(stage: LargestBatch) -> float:
    """Returns the largest training batch a device that fits on the slice, to within an eighth."""
    where = slices.parse(stage.topology)
    if not where.chip.tpu:
        raise UserError(f"a compiler tells which batch fits, and there is none for {where}; name a TPU slice")

    def make(overrides: Sequence[search.Override]) -> plans.Plan:
        changes = {key: int(value) for key, value in overrides}
        return plans.make_plan(dataclasses.replace(stage.config, **changes), where, search.flags(overrides))[0]

    sizes = dict(zip(sharding.AXES, sharding.mesh_shape(stage.config.mesh, where.devices, where.slices), strict=True))
    unit = sizes["data"] * sizes["fsdp"] * stage.config.accumulation_steps
    tried = search.largest_batch(make, unit, stage.config.global_batch_size)
    fitting = [one.plan.global_batch_size for one in tried if one.plan and one.plan.fits]
    if not fitting:
        raise UserError(f"on {where} not even a batch of {unit} images of {stage.config.model.name} fits")
    return fitting[-1] / where.devices
