"""Options of the TPU compiler by generation, each with its reason; nothing is here that does not make a step faster.

The step brings them itself, so that `main` and `plan` compile with the same, whoever starts them.
"""

from jax.sharding import AbstractMesh, Mesh

_FSDP = {
    # Left alone, XLA takes a product with a parameter that fsdp splits apart into one for each shard, which are sent
    # round meanwhile. The pieces are width / fsdp wide and fill a matrix unit (128, v6e 256) badly; so the parameter is
    # gathered instead. By the compiler's count, fsdp=16, S/16, 16 images a device: v4 25.0 instead of 65.9 ms, v5e 24.0
    # instead of 65.4, v5p 14.1 instead of 47.6, v6e 11.2 instead of 27.0; L/16 with remat=full on v5e 223 instead of 522.
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "100000",
}

# By what JAX calls the devices.
OPTIONS: dict[str, dict[str, str]] = {
    "TPU v4": _FSDP,
    "TPU v5 lite": _FSDP,
    "TPU v5": _FSDP,
    "TPU v5p": _FSDP,
    "TPU v6 lite": _FSDP,
}


def options(mesh: Mesh | AbstractMesh) -> dict[str, str] | None:
    """Those for the mesh's devices; None where there are none."""
    return OPTIONS.get(mesh.devices.flat[0].device_kind) if isinstance(mesh, Mesh) else None
