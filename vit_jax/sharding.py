"""The mesh of devices, and the table `RULES` that says over which of its axes each parameter is split.

The mesh has four axes. `data` splits the batch. `fsdp` splits the batch, too, and over the same devices the parameters
and the optimizer state. `tensor` splits the attention heads and the MLP. `sequence` splits the tokens of an image,
which helps if images are large. How a parameter is split depends only on its name, its shape and the mesh.
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

# The first pattern that is found in a parameter's path applies. Its axes are for the last dimensions of the parameter,
# so that a row applies to stacked blocks (with a leading axis depth) and to single ones. Optimizer state and averages
# have paths that contain the path of their parameter.
RULES: tuple[tuple[str, Axes], ...] = (
    (r"/v_(row|col)/", ()),  # Adafactor's means over one axis of a parameter: small, and one axis fewer
    (r"attention/(query|key|value)/kernel$", ("fsdp", "tensor", None)),  # width, heads, head_dim
    (r"attention/out/kernel$", ("tensor", None, "fsdp")),  # heads, head_dim, width
    (r"(mlp|mixing)/(dense1|gate)/kernel$", ("fsdp", "tensor")),  # width (tokens in a Mixer's token mixing), mlp
    (r"(mlp|mixing)/dense2/kernel$", ("tensor", "fsdp")),  # mlp, width
    (r"(embedding|stem)/kernel$", (None, None, None, "fsdp")),  # patch height, patch width, channels, width
    (r"conv\w+/kernel$", (None, None, "tensor", "fsdp")),  # height, width, inputs, outputs
    (r"(pre_logits|head|head_dist)/kernel$", ("fsdp", "tensor")),  # width, classes
    (r"", ()),  # all others are small and are not split
)


def mesh_shape(mesh: config_lib.Mesh, devices: int, slices: int = 1) -> tuple[int, ...]:
    """Returns the sizes of the mesh's axes, in the order of `AXES`.

    Args:
        mesh: the config's section `mesh`. One size may be -1: that axis takes all remaining devices.
        devices: the number of devices.
        slices: the number of slices; only the axis `data` may extend over several.

    Raises:
        UserError: a size is not possible, the sizes do not multiply to the number of devices, or `data` is no multiple
            of the number of slices.
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
    """Returns the mesh of devices with the axes `AXES`.

    Only the axis `data` extends over several slices, because the links between slices are slow.

    Args:
        mesh: the config's section `mesh`.
        devices: the devices; all that JAX has by default.

    Raises:
        UserError: as `mesh_shape`.
    """
    devices = jax.devices() if devices is None else devices
    slices = len({getattr(device, "slice_index", None) or 0 for device in devices})
    data, *others = mesh_shape(mesh, len(devices), slices)
    # An axis of the mesh need not be a whole side of the slice: it may be a part of one, or several together.
    options: dict[str, Any] = {"devices": devices, "allow_split_physical_axes": True}
    if slices > 1:
        grid = mesh_utils.create_hybrid_device_mesh((data // slices, *others), (slices, 1, 1, 1), **options)
    else:
        grid = mesh_utils.create_device_mesh((data, *others), **options)
    return Mesh(grid, AXES)


def check_batch(mesh: Mesh | AbstractMesh, batch_size: int, key: str, accumulation_steps: int = 1) -> None:
    """Raises UserError if a batch can't be split evenly over the axes `data` and `fsdp`.

    Args:
        mesh: the mesh.
        batch_size: the number of images in the global batch.
        key: the key of the config that sets it, for the message.
        accumulation_steps: the number of micro-batches, each of which is split.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % (shards * accumulation_steps):
        parts = f" in {accumulation_steps} micro-batches" if accumulation_steps > 1 else ""
        unit = shards * accumulation_steps
        raise UserError(
            f"config.{key}={batch_size} does not divide over {shards} devices{parts}; "
            f"take {max(1, round(batch_size / unit)) * unit} say, or change config.mesh"
        )


def path_of(path: tuple[Any, ...]) -> str:
    """Returns the path of a leaf as text, such as `params/encoder/norm/scale`, from a key path of `jax.tree_util`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """Returns how a parameter is split, by the first of `RULES` whose pattern is found in its path.

    The rule's axes apply to the last dimensions of the shape. A dimension is not split if the size of its mesh axis
    does not divide it.
    """
    axes = next(axes for pattern, axes in RULES if re.search(pattern, path))
    if len(shape) < len(axes):
        return PartitionSpec()
    dims: Axes = (None,) * (len(shape) - len(axes)) + axes
    return PartitionSpec(*(a if a and n % mesh.shape[a] == 0 else None for a, n in zip(dims, shape, strict=True)))


def state_shardings(abstract: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Returns the sharding of each leaf of a training state, as a pytree of the same structure.

    `abstract` is the state, with arrays or their shapes.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, spec_of(path_of(path), leaf.shape, mesh)), abstract
    )


def check_fsdp(params: Any, mesh: Mesh | AbstractMesh) -> None:
    """Raises UserError if `fsdp` splits less than half of the parameters, because it does not divide their dimensions.

    The message names the largest size that does. `params` are arrays or their shapes.
    """
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
    """Returns `shardings` with the memory kind changed to `kind` for all leaves but scalars.

    Args:
        kind: `device`, or `pinned_host` for the host's memory.
        abstract: a pytree of arrays or their shapes.
        shardings: their shardings, a pytree of the same structure.
    """
    return jax.tree.map(lambda x, s: s.with_memory_kind(kind) if x.ndim else s, abstract, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its first axis is split over `data` and `fsdp`."""
    return NamedSharding(mesh, BATCH)


def constrain(x: jax.Array) -> jax.Array:
    """Returns `x` with the constraint that it is split as a batch is, and its tokens over `sequence`.

    Models call this on the activations between blocks. Without the constraint the compiler would split activations as
    the parameters are split, and would then move activations between the devices instead of parameters.

    Does nothing unless a mesh with `AXES` is in use (`jax.sharding.use_abstract_mesh`).

    Args:
        x: (batch, tokens, width) or (batch, …).
    """
    if not set(AXES) <= set(jax.sharding.get_abstract_mesh().axis_names):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*BATCH, "sequence") if x.ndim == 3 else BATCH)


def splits_tokens() -> bool:
    """Returns whether the mesh in use splits the tokens of an image, that is, whether `sequence` is above 1."""
    return jax.sharding.get_abstract_mesh().shape.get("sequence", 1) > 1


def platform() -> str:
    """Returns the platform of the devices that a computation will run on, such as `cpu` or `tpu`.

    These are the devices of the mesh in use, if the mesh says what they are, and otherwise JAX's default devices.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None and device.platform else jax.default_backend()


def whole_sequence(x: jax.Array) -> jax.Array:
    """Returns keys or values (batch, tokens, heads, head_dim) with the constraint that `sequence` does not split them.

    Each device that has a part of an image's queries then has the keys and values of all its tokens.
    """
    free = PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*BATCH, None, free, free)) if splits_tokens() else x


def each_part(function: Callable[[jax.Array], jax.Array], x: jax.Array, axes: Axes) -> jax.Array:
    """Applies a function to the part of `x` that each device has. Meant for functions that the compiler can't split.

    An axis of `x` is not split if its mesh axis does not divide it. Without a mesh in use, `function` gets all of `x`.

    Args:
        function: returns an array of the same shape as its argument.
        x: (batch, …); the first axis is split over `data` and `fsdp`.
        axes: the mesh axis for each of the other axes of `x`, or None for those that are not split.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(AXES) <= set(mesh.axis_names):
        return function(x)
    split = [a if a and n % mesh.shape[a] == 0 else None for a, n in zip(axes, x.shape[1:], strict=True)]
    rows = None if x.shape[0] % (mesh.shape["data"] * mesh.shape["fsdp"]) else BATCH[0]
    spec = PartitionSpec(rows, *split)
    return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)(x)


def local_rows(mesh: Mesh, batch_size: int) -> list[int]:
    """Returns the indices of the rows of a global batch that the devices of this process hold, ascending."""
    slices = (
        index[0] for index in batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values() if index
    )
    return sorted({row for part in slices for row in range(*part.indices(batch_size))})


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, jax.Array]:
    """Puts this process's rows of a batch on its devices, and returns the arrays of the global batch.

    Args:
        batch: arrays (rows, …) with the rows that `local_rows` returns.
        mesh: the mesh.
        batch_size: the number of rows in the global batch.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))
        for name, rows in batch.items()
    }


def placed(params: Any, shardings: Any) -> Any:
    """Returns a pytree of arrays on the devices, sharded as `shardings` says; every process holds all of the arrays."""
    if jax.process_count() == 1:
        return jax.device_put(params, shardings)
    # Each process cuts out the parts of its devices; `jax.device_put` would compare all processes' whole copies.
    return jax.tree.map(
        lambda x, s: jax.make_array_from_callback(x.shape, s, lambda index: x[index]),
        jax.tree.map(np.asarray, params),
        shardings,
    )


def to_first_host(tree: Any) -> Any:
    """Returns a pytree of global arrays as NumPy arrays in process 0, and None in the others. All must call it.

    Split arrays are gathered on the devices one at a time, and stacked parameters layer by layer, so that a device
    needs memory for only one parameter or layer more.
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
            gathered = layer(leaf, i).block_until_ready()  # one layer at a time: several could fill the devices
            if host is not None:
                host[i] = np.asarray(gathered)
        return host

    fetched = jax.tree.map(fetch, tree)
    return fetched if first else None


def table(params: Any, *, short: bool = False) -> str:
    """Returns a table of the parameters as text: their names, shapes, sizes and mesh axes. The first row is the sum.

    Args:
        params: a pytree of arrays, or of shapes with shardings.
        short: whether to write one row for each group of parameters, such as `encoder`, instead of one for each
            parameter. The row names all axes that split a parameter of the group.
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
