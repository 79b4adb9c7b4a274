"""The mesh, and one table: which parameter is split over which of its axes.

`data` splits the batch; `fsdp` splits the batch and, over the same devices, parameters and optimizer state; `tensor`
splits heads and the MLP; `sequence` splits the tokens of an image, where images are large. Everything here is computed
from names and shapes; nothing holds state.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from vit_jax import config as config_lib
from vit_jax.errors import UserError

Axes = tuple[str | None, ...]
AXES = ("data", "fsdp", "tensor", "sequence")
BATCH = PartitionSpec(("data", "fsdp"))

# The first pattern found in a parameter's path counts. The axes are those of its last dimensions, so that stacked
# blocks (leading axis depth) and single ones share a row. Optimizer state and averages carry their parameter's path.
RULES: tuple[tuple[str, Axes], ...] = (
    (r"/v_(row|col)/", ()),  # Adafactor's means over one side of a parameter: small, and without one of its axes
    (r"attention/(query|key|value)/kernel$", ("fsdp", "tensor", None)),  # width, heads, head_dim
    (r"attention/out/kernel$", ("tensor", None, "fsdp")),  # heads, head_dim, width
    (r"(mlp|mixing)/(dense1|gate)/kernel$", ("fsdp", "tensor")),  # width (in token mixing tokens), mlp
    (r"(mlp|mixing)/dense2/kernel$", ("tensor", "fsdp")),  # mlp, width
    (r"(embedding|stem)/kernel$", (None, None, None, "fsdp")),  # patch height, patch width, channels, width
    (r"conv\w+/kernel$", (None, None, "tensor", "fsdp")),  # height, width, inputs, outputs
    (r"(pre_logits|head|head_dist)/kernel$", ("fsdp", "tensor")),  # width, classes
    (r"", ()),  # small ones stay whole
)


def mesh_shape(mesh: config_lib.Mesh, devices: int, slices: int = 1) -> tuple[int, ...]:
    """The sizes of AXES over so many devices in so many slices; one in the config may be -1, which takes what remains.

    Raises:
        UserError: the axes do not multiply to the number of devices, or `data` can't go across the slices.
    """
    sizes = [getattr(mesh, axis) for axis in AXES]
    written = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise UserError(f"config.mesh has {written}; axes are at least 1, and only one can be -1")
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = devices // rest
    if math.prod(sizes) != devices:
        raise UserError(f"config.mesh with {written} does not multiply to the {devices} devices there are")
    if sizes[0] % slices:
        raise UserError(
            f"config.mesh has data={sizes[0]}, which does not divide over {slices} slices, and other axes stay inside "
            f"of one; take config.mesh.data={slices} or a multiple of it"
        )
    return tuple(sizes)


def make_mesh(mesh: config_lib.Mesh, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of all devices with the config's axes. Across slices, between which links are slow, goes `data` alone.

    Raises:
        UserError: as `mesh_shape`.
    """
    devices = jax.devices() if devices is None else devices
    slices = len({getattr(device, "slice_index", None) or 0 for device in devices})
    data, *others = mesh_shape(mesh, len(devices), slices)
    # An axis may go around a part of one side of a torus, or around several.
    options: dict[str, Any] = {"devices": devices, "allow_split_physical_axes": True}
    if slices > 1:
        grid = mesh_utils.create_hybrid_device_mesh((data // slices, *others), (slices, 1, 1, 1), **options)
    else:
        grid = mesh_utils.create_device_mesh((data, *others), **options)
    return Mesh(grid, AXES)


def check_batch(mesh: Mesh | AbstractMesh, batch_size: int, key: str, accumulation_steps: int = 1) -> None:
    """Raises UserError where a batch, or a micro-batch of it, does not divide over the mesh's data and fsdp axes."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % (shards * accumulation_steps):
        parts = f" in {accumulation_steps} micro-batches" if accumulation_steps > 1 else ""
        unit = shards * accumulation_steps
        raise UserError(
            f"config.{key}={batch_size} does not divide over {shards} devices{parts}; "
            f"take {max(1, round(batch_size / unit)) * unit} say, or change config.mesh"
        )


def path_of(path: tuple[Any, ...]) -> str:
    """`params/encoder/norm/scale`, of a path as `jax.tree_util` gives it."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """The first rule's axes, on the last dimensions; one that an axis does not divide stays whole."""
    axes = next(axes for pattern, axes in RULES if re.search(pattern, path))
    if len(shape) < len(axes):
        return PartitionSpec()
    dims: Axes = (None,) * (len(shape) - len(axes)) + axes
    return PartitionSpec(*(a if a and n % mesh.shape[a] == 0 else None for a, n in zip(dims, shape, strict=True)))


def state_shardings(abstract: Any, mesh: Mesh | AbstractMesh) -> Any:
    """The sharding of every leaf of a training state, from its path and shape."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, spec_of(path_of(path), leaf.shape, mesh)), abstract
    )


def check_fsdp(params: Any, mesh: Mesh | AbstractMesh) -> None:
    """Raises UserError where `fsdp` leaves most of the parameters (arrays or shapes) whole: it does not divide them."""
    data, fsdp, *others = (mesh.shape[axis] for axis in AXES)
    leaves = [(path_of(path), leaf.shape, leaf.size) for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]]

    def share(size: int) -> float:
        other = AbstractMesh((data * fsdp // size, size, *others), AXES)
        split = sum(count for path, shape, count in leaves if "fsdp" in spec_of(path, shape, other))
        return split / sum(count for *_, count in leaves)

    if fsdp == 1 or share(fsdp) >= 0.5:
        return
    best = next(size for size in range(fsdp - 1, 0, -1) if fsdp % size == 0 and (size == 1 or share(size) >= 0.5))
    raise UserError(
        f"config.mesh.fsdp={fsdp} would split {share(fsdp):.0%} of the parameters, since it does not divide the sizes "
        f"of the others; take config.mesh.data={data * fsdp // best} and config.mesh.fsdp={best}"
    )


def in_memory(kind: str, abstract: Any, shardings: Any) -> Any:
    """The same shardings in memory of a `kind`, `device` or `pinned_host`; scalars stay where they are."""
    return jax.tree.map(lambda x, s: s.with_memory_kind(kind) if x.ndim else s, abstract, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data and fsdp."""
    return NamedSharding(mesh, BATCH)


def constrain(x: jax.Array) -> jax.Array:
    """Activations (batch, tokens, width) or (batch, …) between blocks, split as a batch is, and tokens over `sequence`.

    Without it the compiler spreads the parameters' sharding to the activations, and moves these instead of those.
    Outside of `jax.sharding.use_abstract_mesh` of a mesh of ours nothing happens.
    """
    if not set(AXES) <= set(jax.sharding.get_abstract_mesh().axis_names):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*BATCH, "sequence") if x.ndim == 3 else BATCH)


def splits_tokens() -> bool:
    """Whether the mesh in use splits the tokens of an image."""
    return jax.sharding.get_abstract_mesh().shape.get("sequence", 1) > 1


def platform() -> str:
    """What the computation is for, `cpu` or `tpu` say: the devices of the mesh in use, else the default ones."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None and device.platform else jax.default_backend()


def whole_sequence(x: jax.Array) -> jax.Array:
    """Keys or values (batch, tokens, heads, head_dim) with all tokens of an image on all devices that share it."""
    free = PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*BATCH, None, free, free)) if splits_tokens() else x


def each_part(function: Callable[[jax.Array], jax.Array], x: jax.Array, axes: Axes) -> jax.Array:
    """`function`, which keeps the shape, of each device's part of `x` (batch, …), other axes split over `axes`.

    For what the compiler can't split by itself. An axis that its mesh axis does not divide is whole on each device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(AXES) <= set(mesh.axis_names):
        return function(x)
    split = [a if a and n % mesh.shape[a] == 0 else None for a, n in zip(axes, x.shape[1:], strict=True)]
    rows = None if x.shape[0] % (mesh.shape["data"] * mesh.shape["fsdp"]) else BATCH[0]
    spec = PartitionSpec(rows, *split)
    return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)(x)


def local_rows(mesh: Mesh, batch_size: int) -> list[int]:
    """The rows of a global batch that this process's devices hold."""
    slices = (
        index[0] for index in batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values() if index
    )
    return sorted({row for part in slices for row in range(*part.indices(batch_size))})


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, jax.Array]:
    """This process's rows of a batch as arrays of the global batch."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))
        for name, rows in batch.items()
    }


def to_first_host(tree: Any) -> Any:
    """Global arrays as NumPy arrays in the memory of process 0; None in the others, of which all must call it.

    No device holds more than a part of what is split: of stacked parameters one layer, of others one parameter.
    """
    first = jax.process_index() == 0

    def fetch(leaf: jax.Array) -> np.ndarray | None:
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.asarray(leaf) if first else None
        assert isinstance(leaf.sharding, NamedSharding)
        whole = NamedSharding(leaf.sharding.mesh, PartitionSpec())
        if leaf.ndim < 2 or leaf.sharding.spec[0] is not None:
            gathered = jax.jit(lambda x: x, out_shardings=whole)(leaf)
            return np.asarray(gathered) if first else None
        layer = jax.jit(lambda x, i: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), out_shardings=whole)
        host = np.empty(leaf.shape, leaf.dtype) if first else None
        for i in range(len(leaf)):
            gathered = layer(leaf, i).block_until_ready()  # so that no process runs ahead and fills its devices
            if host is not None:
                host[i] = np.asarray(gathered)
        return host

    fetched = jax.tree.map(fetch, tree)
    return fetched if first else None


def table(params: Any, *, short: bool = False) -> str:
    """Returns names, shapes, sizes and sharding of parameters, the sum first.

    Args:
        params: arrays, or shapes with a sharding.
        short: a line for each group of parameters instead of one for each, with all axes that split some of it.
    """
    rows: dict[str, tuple[str, int, list[str]]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name, axes = path_of(path), [str(axis or "-") for axis in leaf.sharding.spec]
        shape = "x".join(map(str, leaf.shape))
        if short:
            name, axes, shape = name.partition("/")[0], [axis for axis in axes if axis != "-"], ""
        _, size, so_far = rows.get(name, ("", 0, []))
        rows[name] = (shape, size + leaf.size, so_far + [axis for axis in axes if not short or axis not in so_far])
    total = sum(size for _, size, _ in rows.values())
    cells = [
        ("parameters", "" if short else "shape", f"{total:,}", "split over"),
        *((name, shape, f"{size:,}", ", ".join(axes) or "-") for name, (shape, size, axes) in rows.items()),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in cells)
