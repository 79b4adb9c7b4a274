"""Options of the TPU compiler by generation, each with its reason; nothing is here that does not make a step faster.

The step brings them itself, so that `main` and `plan` compile with the same, whoever starts them.
"""

from jax.sharding import AbstractMesh, Mesh

from vit_jax import chips

_FSDP = {
    # Left alone, XLA takes a product with a parameter that fsdp splits apart into one for each shard, which are sent
    # round meanwhile. The pieces are width / fsdp wide and fill a matrix unit (128, v6e 256) badly; so the parameter is
    # gathered instead. By the compiler's count, fsdp=16, S/16, 16 images a device: v4 25.0 instead of 65.9 ms, v5e 24.0
    # instead of 65.4, v5p 14.1 instead of 47.6, v6e 11.2 instead of 27.0; L/16 with remat=full and 32 images on v5e 223
    # instead of 522. Temporaries are 2 to 11 % less, too. The gathers overlap with computing on v5e, mostly, and not on
    # the others. Not counted: pieces as wide as a matrix unit or wider.
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "100000",
}
_ROOM = {
    # The memory on the chip is divided: so much for what the running instruction works on, the rest for arrays that
    # later ones will read. Million cycles by the compiler's count, B/16 on v5e, 64 images a device: three layers
    # unrolled 27.5 instead of 28.5, scanned 149.0 instead of 159.2, with remat=full 145.8 instead of 150.1; L/16 with
    # remat=dots and fsdp=4 211.0 instead of 214.8; H/14 with fsdp=16, 16 images, 198 instead of 202 ms. Temporaries
    # stay the same to 1 %. 8 and 12 MiB are slower than the default, which seems to be 16. Not on v5p: there libtpu
    # 0.0.42 crashes with it (B/16, 18,291 classes, v5p:8x8x8); on v3 and v4 it changes nothing, and v6e has more.
    "xla_tpu_scoped_vmem_limit_kib": "24576",
}

# Tried, and not worth a line, since they are the default or change little; S/16, 16 images a device, on v5e:4x4, over
# data and over fsdp:
#   xla_tpu_enable_async_collective_fusion and its _fuse_all_gather, _fuse_all_reduce, _fuse_reduce_scatter and
#     _multiple_steps, xla_tpu_overlap_compute_collective_tc, xla_enable_async_all_gather and _all_reduce: 0.1 % or
#     less. But on v6e:4x4, beside the option above, those for all-gather let 81 of 87 MB of gathers overlap instead of
#     none, and make the planned step 8 % shorter; which of them does, and whether larger models gain, is open.
#   xla_tpu_enable_data_parallel_all_reduce_opt with xla_tpu_data_parallel_opt_different_sized_ops: nothing.
#   xla_tpu_enable_latency_hiding_scheduler: nothing.
#   xla_vf_vmem_max_retries, _max_repacks, _max_outstanding_prefetches, _min_overlap_to_async_copy_ratio,
#     _preferred_overlap_to_async_copy_ratio, _use_ior_algorithm, xla_tpu_msa_inefficient_use_to_copy_ratio,
#     _use_minimalloc, _reduce_scoped_vmem_limit, xla_msa_enable_window_prefetch: 0.6 % at most, to the worse.
#   xla_msa_use_bundle_aware_cost_model: B/16 on v5e gains 3 % or less; H/14, scanned, with fsdp=16 loses 10 %.
#   xla_tpu_use_bundle_aware_cost_model_for_fusions: 1.8 % more cycles.
# For GPUs nothing can be counted without one, so they have none.

# By the chips' names.
OPTIONS: dict[str, dict[str, str]] = {"v4": _FSDP, "v5e": _FSDP | _ROOM, "v5p": _FSDP, "v6e": _FSDP}


def options(mesh: Mesh | AbstractMesh) -> dict[str, str] | None:
    """Those for the mesh's devices; None where there are none."""
    chip = chips.of_device(mesh.devices.flat[0].device_kind) if isinstance(mesh, Mesh) else None
    return OPTIONS.get(chip.name) if chip else None
