"""Parsing compiled programs: a program written by hand, whose figures are all known, and real ones."""

import textwrap

import numpy as np
import pytest

from vit_jax.planning import program

TEXT = textwrap.dedent(
    """\
    HloModule jit_step, is_scheduled=true

    %fused_slice (p0: f32[4,8,128], p1: s32[]) -> f32[1,8,128] {
      %p0 = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
      %p1 = s32[]{:T(128)} parameter(1)
      ROOT %slice = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%p0, %p1), dynamic_slice_sizes={1,8,128}
    }

    %async_collective_fusion.1 (p0: bf16[8,64]) -> bf16[8,128] {
      %p0.2 = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
      ROOT %gather = bf16[8,128]{1,0:T(8,128)(2,1)} all-gather(%p0.2), channel_id=7, replica_groups=[2,2]<=[2,2]T(1,0), dimensions={1}
    }

    %all-reduce-scatter.1 (p0: f32[8,128]) -> f32[4,128] {
      %p0.3 = f32[8,128]{1,0:T(8,128)} parameter(0)
      ROOT %reduced = f32[8,128]{1,0:T(8,128)} all-reduce(%p0.3), channel_id=9, replica_groups=mesh['a'=2,'b'=2] {'b'}, to_apply=%add
    }

    %condition (c: (s32[], f32[4,8,128])) -> pred[] {
      %c = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) parameter(0)
      %i = s32[]{:T(128)} get-tuple-element(%c), index=0
      %limit = s32[]{:T(128)} constant(3)
      ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
    }

    %body (b: (s32[], f32[4,8,128])) -> (s32[], f32[4,8,128]) {
      %b = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) parameter(0)
      %j = s32[]{:T(128)} get-tuple-element(%b), index=0
      %stack = f32[4,8,128]{2,1,0:T(8,128)} get-tuple-element(%b), index=1
      %layer = f32[1,8,128]{2,1,0:T(8,128)} fusion(%stack, %j), kind=kLoop, calls=%fused_slice, backend_config={"estimated_cycles":"10"}
      %near = f32[1,8,128]{2,1,0:T(8,128)S(1)} copy(%layer), backend_config={"estimated_cycles":"5"}
      %gathered = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%near), kind=kCustom, calls=%async_collective_fusion.1
      ROOT %next = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) tuple(%j, %stack)
    }

    ENTRY %main (x: f32[8,128]) -> f32[8,128] {
      %x = f32[8,128]{1,0:T(8,128)} parameter(0)
      %start = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) tuple(%x, %x)
      %loop = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) while(%start), condition=%condition, body=%body
      %scattered = f32[4,128]{1,0:T(8,128)} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1, backend_config={"estimated_cycles":"7"}
      %sum = (f32[8,128]{1,0:T(8,128)}, /*index=1*/bf16[2]{0:T(256)}) all-reduce(%x, %x), channel_id=3, replica_groups={{0,1,2,3}}, to_apply=%add
      %far = (f32[16]{0:T(128)}, u32[], token[]) send(%x, %x), channel_id=4, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
      %pairs = (f32[4]{0}, f32[4]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), channel_id=5, source_target_pairs={{0,1},{1,0}}
      %kept = (f32[8,128]{1,0:T(8,128)S(5)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
      %away = f32[4,8,128]{2,1,0:T(8,128)S(5)} custom-call(), custom_call_target="AllocateBuffer"
      %put = ((f32[4,8,128]{2,1,0:T(8,128)S(5)}, f32[8,128]{1,0:T(8,128)}, s32[]), f32[4,8,128]{2,1,0:T(8,128)S(5)}, u32[]{:S(2)}) dynamic-update-slice-start(%away, %x, %limit)
      %got = ((f32[4,8,128]{2,1,0:T(8,128)S(5)}, s32[]), f32[1,8,128]{2,1,0:T(8,128)}, u32[]{:S(2)}) dynamic-slice-start(%away, %limit), dynamic_slice_sizes={1,8,128}
      %kernel = f32[8]{0} custom-call(%x), custom_call_target="tpu_custom_call"
      ROOT %out = f32[8,128]{1,0:T(8,128)} copy(%x)
    }
    """  # noqa: E501
)


def test_a_program_by_hand():
    found = program.parse(TEXT)
    assert found.cycles == 3 * (10 + 5) + 7
    assert found.kernels == ("kernel",)
    array, sliced = 8 * 128 * 4, 8 * 128 * 4
    loop = 2 * sliced + 4 + sliced + 8 * 128 * 2  # slice read and written, its index, the copy, the gather
    entry = array + 4 * 128 * 4  # the reduce-scatter
    entry += array + 8 * 4 + 2 * array  # the custom call and the last copy
    entry += 3 * array  # two copies to the host and one back
    assert found.hbm_bytes == 3 * loop + entry
    assert found.host_bytes == 3 * array
    gathered, kernel_and_copy = 3 * 8 * 128 * 2, array + 8 * 4 + 2 * array
    assert found.silent_bytes == gathered + kernel_and_copy
    kinds = {(c.op, c.count, c.bytes, c.groups, c.overlapped, c.between_slices) for c in found.collectives}
    assert kinds == {
        ("all-gather", 3, 8 * 128 * 2, ((0, 2), (1, 3)), True, False),
        ("reduce-scatter", 1, array, ((0, 1), (2, 3)), False, False),
        ("all-reduce", 1, array + 4, ((0, 1, 2, 3),), False, False),
        ("all-reduce", 1, 64, (), True, True),
        ("collective-permute", 1, 16, ((0, 1), (1, 0)), True, False),
    }


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}", ((0, 2), (1, 3))),
        ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=2] {'a','c'}", ((0, 1, 2, 3),)),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", ((0, 1), (2, 3))),
    ],
)
def test_notations_of_groups(written, groups):
    text = TEXT.replace("replica_groups={{0,1,2,3}}", written)
    (found,) = (c for c in program.parse(text).collectives if c.op == "all-reduce" and not c.between_slices)
    assert found.groups == groups


def test_a_loop_of_unknown_length_counts_once():
    assert program.parse(TEXT.replace("direction=LT", "direction=NE")).cycles == 10 + 5 + 7


@pytest.fixture(scope="module")
def products(tpu_compiler):
    """Returns two programs of six chained matrix products with sharded weights: one scanned, one unrolled."""
    import jax

    from vit_jax.planning import slices

    mesh = jax.sharding.Mesh(np.array(slices.devices(slices.parse("v5e:2x2"))), ("x",))
    rows, columns = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("x",), (None, "x")))

    def chain(scan):
        def run(x, weights):
            one = lambda x, w: (jax.lax.with_sharding_constraint(x @ w, rows), None)  # noqa: E731
            if scan:
                return jax.lax.scan(one, x, weights)[0]
            for i in range(6):
                x, _ = one(x, weights[i])
            return x

        x = jax.ShapeDtypeStruct((8192, 1024), "bfloat16", sharding=rows)
        weights = jax.ShapeDtypeStruct((6, 1024, 1024), "bfloat16", sharding=columns)
        return program.parse(jax.jit(run, out_shardings=rows).lower(x, weights).compile().as_text())

    return chain(True), chain(False)


def test_loops_count_as_often_as_they_run(products):
    scanned, unrolled = products
    assert unrolled.cycles < scanned.cycles < 4 * unrolled.cycles
    least = 6 * 2 * (8192 / 4) * 1024**2 / (2 * 4 * 128**2)  # cycles of four matrix units of 128 x 128
    assert least < unrolled.cycles < 2 * least


def test_every_weight_is_gathered_once(products):
    for found in products:
        gathered = [c for c in found.collectives if c.op == "all-gather"]
        assert sum(c.count * c.bytes for c in gathered) == 6 * 1024**2 * 2
        assert {c.groups for c in gathered} == {((0, 1, 2, 3),)}
