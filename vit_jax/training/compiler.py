"""Options for the TPU compiler, by generation of the chip. Each one makes a training step faster.

The step passes them to the compiler itself, so `main` and `plan` always compile the same program, and nobody needs to
set environment variables such as XLA_FLAGS.
"""

from jax.sharding import AbstractMesh, Mesh

from vit_jax import chips

# Times and cycles below are the compiler's own estimates, without a chip. "A -> B" means without -> with the option.

_FSDP = {
    # Turns off windowed einsums. By default XLA splits a matrix product with a parameter that is sharded over fsdp into
    # one product for each shard, and sends the shards around during these products. Each shard is width / fsdp wide,
    # often less than a matrix unit (128; 256 on v6e), so the unit is badly used. With this threshold (in MiB) XLA
    # gathers the parameter first. Milliseconds of a step with fsdp=16:
    #   S/16, 16 images a device: v4 65.9 -> 25.0; v5e 65.4 -> 24.0; v5p 47.6 -> 14.1; v6e 27.0 -> 11.2
    #   L/16, 32 images a device, remat=full: v5e 522 -> 223
    # Temporary memory is 2 to 11 % less, too. The gathers mostly overlap with computation on v5e, but not on other
    # chips. Shards at least as wide as a matrix unit were not tried.
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "100000",
}
_ROOM = {
    # Sets how much of the chip's fast memory (VMEM) the running instruction may use, in KiB. The rest prefetches arrays
    # for later instructions. On v5e, with 64 images a device unless another number is given:
    #   B/16, three unrolled layers: 28.5 -> 27.5 million cycles
    #   B/16, scanned: 159.2 -> 149.0 million cycles; with remat=full 150.1 -> 145.8
    #   L/16, remat=dots, fsdp=4: 214.8 -> 211.0 million cycles
    #   H/14, fsdp=16, 16 images a device: 202 -> 198 ms
    # Temporary memory changes by less than 1 %. 8 and 12 MiB are slower than the default, which seems to be 16 MiB.
    # Not used on v5p, because libtpu 0.0.42 crashes with it there (B/16, 18,291 classes, v5p:8x8x8). It changes nothing
    # on v3 and v4, and the default on v6e is larger.
    "xla_tpu_scoped_vmem_limit_kib": "24576",
}

# Options that were tried and are not used, because they are the default or change little. All were tried with S/16 and
# 16 images a device on v5e:4x4, once with data=16 and once with fsdp=16:
#   xla_tpu_enable_async_collective_fusion and its variants _fuse_all_gather, _fuse_all_reduce, _fuse_reduce_scatter and
#     _multiple_steps, xla_tpu_overlap_compute_collective_tc, xla_enable_async_all_gather and _all_reduce: 0.1 % or
#     less. On v6e:4x4, however, together with _FSDP, the options for all-gather let 81 of 87 MB of the gathers overlap
#     with computation instead of none, and make the estimated step 8 % shorter. It is not known yet which of them does
#     that, and whether larger models gain.
#   xla_tpu_enable_data_parallel_all_reduce_opt with xla_tpu_data_parallel_opt_different_sized_ops: no effect.
#   xla_tpu_enable_latency_hiding_scheduler: no effect.
#   xla_vf_vmem_max_retries, _max_repacks, _max_outstanding_prefetches, _min_overlap_to_async_copy_ratio,
#     _preferred_overlap_to_async_copy_ratio, _use_ior_algorithm, xla_tpu_msa_inefficient_use_to_copy_ratio,
#     _use_minimalloc, _reduce_scoped_vmem_limit, xla_msa_enable_window_prefetch: at most 0.6 %, and slower.
#   xla_msa_use_bundle_aware_cost_model: up to 3 % faster for B/16 on v5e; 10 % slower for H/14, scanned, with fsdp=16.
#   xla_tpu_use_bundle_aware_cost_model_for_fusions: 1.8 % more cycles.
# There are no options for GPUs, because their effect can't be estimated without a GPU.

# The options by the name of the chip (see chips.py).
OPTIONS: dict[str, dict[str, str]] = {"v4": _FSDP, "v5e": _FSDP | _ROOM, "v5p": _FSDP, "v6e": _FSDP}


def options(mesh: Mesh | AbstractMesh) -> dict[str, str] | None:
    """Returns the compiler options for the devices of `mesh`, or None if there are none for this kind of device.

    An AbstractMesh has no devices, so it gives None.
    """
    chip = chips.of_device(mesh.devices.flat[0].device_kind) if isinstance(mesh, Mesh) else None
    return OPTIONS.get(chip.name) if chip else None
