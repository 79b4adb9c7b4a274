"""The compiler options: the compiler accepts them, and they are found by the names of its devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.chips import CHIPS
from vit_jax.planning import slices
from vit_jax.training import compiler

TPUS = [name for name, chip in CHIPS.items() if chip.tpu]


@pytest.fixture(scope="module")
def mesh(tpu_compiler):
    """Returns a function from the name of a chip to a mesh over a small slice of it; no TPU is needed."""

    def make(name):
        shape = (2, 2, 1)[: CHIPS[name].dimensions]
        return Mesh(np.array(slices.devices(slices.parse(f"{name}:{'x'.join(map(str, shape))}"))), ("fsdp",))

    return make


def compiled(mesh, options):
    """Returns the compiled text of a matrix product with a parameter that is sharded over fsdp."""
    rows, columns = NamedSharding(mesh, P("fsdp")), NamedSharding(mesh, P(None, "fsdp"))
    x = jax.ShapeDtypeStruct((1024, 512), jnp.bfloat16, sharding=rows)
    w = jax.ShapeDtypeStruct((512, 512), jnp.bfloat16, sharding=columns)
    return jax.jit(jnp.dot, out_shardings=rows, compiler_options=options).lower(x, w).compile().as_text()


@pytest.mark.parametrize("name", TPUS)
def test_the_compiler_takes_those_of_every_generation(mesh, name):
    where = mesh(name)
    assert compiled(where, compiler.options(where)).startswith("HloModule")


def test_the_compiler_refuses_what_it_does_not_know(mesh):
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_no_such_option"):
        compiled(mesh("v5e"), {"xla_tpu_no_such_option": "true"})


def test_every_entry_is_of_a_tpu():
    assert set(compiler.OPTIONS) <= set(TPUS)
    assert all(compiler.OPTIONS.values())


@pytest.mark.parametrize("name", ["v4", "v5e", "v5p", "v6e"])
def test_these_generations_have_some(mesh, name):
    assert compiler.options(mesh(name))


def test_cpus_and_meshes_without_devices_have_none():
    assert compiler.options(Mesh(np.array(jax.devices("cpu")), ("data",))) is None
    assert compiler.options(AbstractMesh((2,), ("data",))) is None
