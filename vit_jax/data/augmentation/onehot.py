"""Gathers and histograms of pixels, for TPUs as products with one-hot matrices.

A TPU reads single elements of an array one after the other, so that gathering the pixels of a batch can take longer
than the rest of a training step; the compiler's count of cycles leaves such gathers out. Matrix products are fast, and
the compiler makes the one-hot matrices inside of them without storing them. On CPUs and GPUs gathers are fast, and
one-hot matrices would be stored. Both ways give the same numbers, because at most one of the products that a sum adds
up is not 0.

Planes are those of the package's docstring.
"""

import jax
import jax.numpy as jnp

from vit_jax import sharding

_LOW = 32  # value = 32 * high + low: one-hot vectors of 8 and 32 entries, not 256; the cheapest such pair on v5e


def taken(planes: jax.Array, source: jax.Array) -> jax.Array:
    """Returns planes whose pixels come from other columns of the same row.

    Args:
        planes: may also have negative numbers, down to -255.
        source: int32 (batch, height, width_px), the column that each pixel comes from. Where there is no such column,
            the result is 0.
    """
    return (taken_by_product if sharding.platform() == "tpu" else taken_by_gather)(planes, source)


def taken_by_gather(planes: jax.Array, source: jax.Array) -> jax.Array:
    """Returns what `taken` does."""
    last = planes.shape[-1] - 1
    found = jnp.take_along_axis(planes, jnp.clip(source, 0, last)[:, None], axis=-1)
    return jnp.where(((source >= 0) & (source <= last))[:, None], found, 0)


def taken_by_product(planes: jax.Array, source: jax.Array) -> jax.Array:
    """Returns what `taken` does."""
    columns = jnp.arange(planes.shape[-1])[:, None]
    chosen = (columns == source[:, :, None, :]).astype(planes.dtype)  # (batch, height, from, to)
    return jnp.einsum("bchf,bhft->bcht", planes, chosen)


def histogram(planes: jax.Array) -> jax.Array:
    """Returns how many pixels of each channel have each value, int32 (batch, channels, 256)."""
    return (histogram_by_product if sharding.platform() == "tpu" else histogram_by_scatter)(planes)


def histogram_by_scatter(planes: jax.Array) -> jax.Array:
    """Returns what `histogram` does."""
    batch, channels, *_ = planes.shape
    values = planes.astype(jnp.int32).reshape(batch, channels, -1)
    places = jnp.arange(batch)[:, None, None], jnp.arange(channels)[:, None], values
    return jnp.zeros((batch, channels, 256), jnp.int32).at[places].add(1)


def histogram_by_product(planes: jax.Array) -> jax.Array:
    """Returns what `histogram` does."""
    high, low = _split(planes)
    counts = jnp.einsum("bchwk,bchwl->bckl", high.astype(jnp.float32), low.astype(jnp.float32), precision="default")
    return counts.astype(jnp.int32).reshape(*planes.shape[:2], 256)


def looked_up(tables: jax.Array, planes: jax.Array) -> jax.Array:
    """Returns the planes with each value v of a channel replaced by entry v of the channel's table.

    Args:
        tables: float32 (batch, channels, 256), whole numbers from 0 to 255.
        planes: as above.
    """
    return (looked_up_by_product if sharding.platform() == "tpu" else looked_up_by_gather)(tables, planes)


def looked_up_by_gather(tables: jax.Array, planes: jax.Array) -> jax.Array:
    """Returns what `looked_up` does."""
    values = planes.astype(jnp.int32).reshape(*planes.shape[:2], -1)
    return jnp.take_along_axis(tables, values, axis=-1).reshape(planes.shape).astype(planes.dtype)


def looked_up_by_product(tables: jax.Array, planes: jax.Array) -> jax.Array:
    """Returns what `looked_up` does."""
    high, low = _split(planes)
    tables = tables.reshape(*tables.shape[:2], -1, _LOW)
    # The eight entries for the pixel's `low`, and of these the one for its `high`.
    entries = jnp.einsum("bchwl,bckl->bchwk", low.astype(jnp.float32), tables, precision="default")
    return jnp.where(high, entries, 0).sum(-1).astype(planes.dtype)


def _split(planes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns one-hot vectors, bool, of the high three bits (..., 8) and the low five bits (..., 32) of each value."""
    values = planes.astype(jnp.int32)
    high, low = values >> (_LOW.bit_length() - 1), values & (_LOW - 1)
    return high[..., None] == jnp.arange(256 // _LOW), low[..., None] == jnp.arange(_LOW)
