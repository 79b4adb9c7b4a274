"""The device mesh, and the rules for sharding parameters."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from vit_jax import config as config_lib
from vit_jax import sharding
from vit_jax.errors import UserError


def mesh(**axes):
    return sharding.make_mesh(config_lib.Mesh(**axes))


def test_one_axis_takes_the_remaining_devices():
    assert dict(mesh().shape) == {"data": 8, "fsdp": 1, "tensor": 1, "sequence": 1}
    assert dict(mesh(fsdp=2, tensor=2).shape) == {"data": 2, "fsdp": 2, "tensor": 2, "sequence": 1}
    assert dict(mesh(data=1, fsdp=-1).shape) == {"data": 1, "fsdp": 8, "tensor": 1, "sequence": 1}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"data": 3}, "data=3, fsdp=1, tensor=1, sequence=1 does not multiply to the 8 devices"),
        ({"fsdp": 3}, "does not multiply to the 8 devices"),
        ({"fsdp": 16}, "does not multiply"),
        ({"fsdp": -1}, "only one can be -1"),
        ({"tensor": 0}, "at least 1"),
    ],
)
def test_meshes_that_do_not_fit(axes, message):
    with pytest.raises(UserError, match=message):
        mesh(**axes)


def test_rules():
    m = mesh(data=2, fsdp=2, tensor=2)
    spec = {
        "params/encoder/blocks/attention/query/kernel": ((12, 64, 4, 16), P(None, "fsdp", "tensor", None)),
        "opt_state/2/mu/encoder/blocks/attention/out/kernel": ((12, 4, 16, 64), P(None, "tensor", None, "fsdp")),
        "params/pool/attention/value/kernel": ((64, 4, 16), P("fsdp", "tensor", None)),
        "params/encoder/blocks/attention/query/bias": ((12, 4, 16), P()),
        "average/head/kernel": ((64, 11), P("fsdp", None)),  # the 11 classes can't be split into 2 equal parts
        "params/encoder/blocks/mlp/dense1/kernel": ((12, 63, 128), P(None, None, "tensor")),
        "step": ((), P()),
    }
    for path, (shape, expected) in spec.items():
        found = sharding.spec_of(path, shape, m)
        assert tuple(a for a in found if a) == tuple(a for a in expected if a), path
        assert found == expected or not expected, path


def test_fsdp_divides_the_model():
    params = {"mlp": {"dense1": {"kernel": np.zeros((12, 64))}, "dense2": {"kernel": np.zeros((64, 12))}}}
    sharding.check_fsdp(params, mesh(fsdp=4))
    with pytest.raises(UserError, match=r"fsdp=8 would split 0%.*config.mesh.data=2 and config.mesh.fsdp=4"):
        sharding.check_fsdp(params, mesh(fsdp=8))


def test_every_matrix_of_a_model_is_split():
    """Only small parameters are not sharded."""
    from flax import nnx

    import vit_jax
    from vit_jax.models.functional import split

    abstract = nnx.eval_shape(lambda: vit_jax.create("B/16", pool="map", pre_logits=768))
    shardings = sharding.state_shardings({"params": split(abstract)[1]}, mesh(data=1, fsdp=4, tensor=2))
    sizes = jax.tree.map(lambda leaf, s: (leaf.size, np.prod(s.shard_shape(leaf.shape))), split(abstract)[1],
                         shardings["params"])  # fmt: skip
    whole = [size for size, part in jax.tree.leaves(sizes, is_leaf=lambda x: isinstance(x, tuple)) if size == part]
    assert max(whole) == 196 * 768  # the position embeddings are the largest of them


@pytest.mark.parametrize(
    ("batch_size", "micro", "message"),
    [(12, 1, "global_batch_size=12 does not divide over 8 devices; take 16"),
     (24, 2, "does not divide over 8 devices in 2 micro-batches; take 32")],
)  # fmt: skip
def test_batches_that_do_not_divide(batch_size, micro, message):
    sharding.check_batch(mesh(), 32, "global_batch_size", 2)
    with pytest.raises(UserError, match=message):
        sharding.check_batch(mesh(), batch_size, "global_batch_size", micro)


def test_rows_and_batches():
    m = mesh(fsdp=2, tensor=2)
    assert sharding.local_rows(m, 8) == list(range(8))
    batch = sharding.to_devices({"image": np.arange(16.0).reshape(8, 2)}, m, 8)
    assert batch["image"].sharding.spec == sharding.BATCH
    np.testing.assert_array_equal(batch["image"], np.arange(16.0).reshape(8, 2))


def test_table():
    import vit_jax
    from vit_jax import training

    config = config_lib.default()
    config.total_steps, config.mesh.data, config.mesh.fsdp = 1, 1, 8
    model = vit_jax.create("Ti/8", width=16, depth=2, mlp_dim=32, num_heads=2, image_size=16, num_classes=3)
    text = sharding.table(training.create_state(config, model).params)
    assert "encoder/blocks/mlp/dense1/kernel 2x16x32 1,024 -, fsdp, tensor" in re.sub(" +", " ", text)
    total = sum(leaf.size for leaf in jax.tree.leaves(vit_jax.models.functional.split(model)[1]))
    assert re.match(f"parameters +shape +{total:,} +split over", text)
    short = sharding.table(training.create_state(config, model).params, short=True)
    assert re.match(f"parameters +{total:,} ", short) and len(short.splitlines()) == 6
    assert "encoder" in short and "encoder/" not in short and "fsdp, tensor" in short
