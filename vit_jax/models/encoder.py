"""The encoder: one stacked block, scanned or unrolled over the depth, and the final norm."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from vit_jax import sharding
from vit_jax.models import posemb, stack
from vit_jax.models.architecture import VitArchitecture
from vit_jax.models.attention import Attention
from vit_jax.models.dropout import drop_path, dropout
from vit_jax.models.linear import flattened, layer_norm, normed
from vit_jax.models.mlp import Mlp
from vit_jax.randomness import Keys, fold_in


class Scope(NamedTuple):
    """What all blocks of a call see."""

    grid: posemb.Grid | None = None  # of the patches
    positions: Float[Array, "1 tokens width"] | None = None  # added before every block, where layers share them
    relative: posemb.Relative | None = None  # offsets that layers share
    mask: Bool[Array, "batch tokens"] | None = None  # tokens that are attended to
    keys: Keys | None = None


class Block(nnx.Module):
    """Pre-norm attention and MLP, one after the other or in parallel, each with dropout and stochastic depth."""

    def __init__(self, arch: VitArchitecture, *, axis: int | None = None, rngs: nnx.Rngs):
        self.arch = arch
        if arch.posemb_at == "layers" and arch.posemb in posemb.TABLES and axis != 0:
            self.positions = posemb.TABLES[arch.posemb](arch, rngs=rngs)
        if arch.posemb_at == "layers" and arch.posemb == "relative":
            self.relative = posemb.Relative(arch, rngs=rngs)
        self.norm1 = layer_norm(arch.width, arch.dtype, rngs, arch.norm_eps)
        self.attention = Attention(arch, axis=axis, rngs=rngs)
        if not arch.parallel:
            self.norm2 = layer_norm(arch.width, arch.dtype, rngs, arch.norm_eps)
        self.mlp = Mlp(arch.width, arch.mlp_dim, kind=arch.mlp, dropout=arch.dropout, dtype=arch.dtype, rngs=rngs)
        if arch.layer_scale:
            self.scale1 = nnx.Param(jnp.full(arch.width, arch.layer_scale))
            self.scale2 = nnx.Param(jnp.full(arch.width, arch.layer_scale))

    def __call__(
        self, x: Float[Array, "batch tokens width"], layer: Array | int, scope: Scope, only: int | None = None
    ) -> tuple[Float[Array, "batch queries width"], Float[Array, "batch heads queries tokens"]]:
        """`layer` counts from 0; it sets the block's rate of stochastic depth and its randomness.

        With `only` the queries, of which the output is, are so many tokens from the first; without it all.
        """
        keys = fold_in(scope.keys, layer)
        rate = self.arch.drop_path * layer / max(self.arch.depth - 1, 1)
        path_keys = keys if self.arch.drop_path else None
        if (positions := self._positions(scope)) is not None:
            x = x + positions.astype(x.dtype)
        tokens = normed(self.norm1, x)
        queries, x = tokens[:, :only], x[:, :only]
        y, weights = self.attention(
            queries,
            tokens,
            grid=scope.grid,
            relative=self._relative(layer, scope),
            mask=scope.mask,
            keys=fold_in(keys, 0),
        )
        y = dropout(y, self.arch.dropout, fold_in(keys, 1))
        attended = x + drop_path(self._scaled(y, 1), rate, fold_in(path_keys, 2))
        y = self.mlp(queries if self.arch.parallel else normed(self.norm2, attended), fold_in(keys, 3))
        return attended + drop_path(self._scaled(y, 2), rate, fold_in(path_keys, 4)), weights

    def _scaled(self, y: Array, branch: int) -> Array:
        return y * getattr(self, f"scale{branch}")[...].astype(y.dtype) if self.arch.layer_scale else y

    def _positions(self, scope: Scope) -> Array | None:
        if hasattr(self, "positions") and scope.grid:
            return self.positions(scope.grid)
        return scope.positions if self.attention.axis != 0 else None

    def _relative(self, layer: Array | int, scope: Scope) -> Callable[[Array, posemb.Grid], Array] | None:
        if hasattr(self, "relative"):
            return self.relative
        shared = scope.relative
        if shared is not None and self.arch.posemb_at == "stem":  # where the tokens come in: in the first layer
            return lambda queries, grid: jnp.where(jnp.asarray(layer) == 0, shared(queries, grid), 0)
        return shared


class AxialBlock(nnx.Module):
    """Attention along rows and an MLP, then attention along columns and an MLP (2010.11929, D.6; 1912.12180)."""

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.rows = Block(arch, axis=1, rngs=rngs)
        self.columns = Block(arch, axis=0, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch tokens width"], layer: Array | int, scope: Scope
    ) -> tuple[Float[Array, "batch tokens width"], Float[Array, "batch heads tokens tokens"]]:
        """The attention weights returned are those through both: to the key's row first, then to the key."""
        x, rows = self.rows(x, layer, scope._replace(keys=fold_in(scope.keys, 0)))
        x, columns = self.columns(x, layer, scope._replace(keys=fold_in(scope.keys, 1)))
        return x, columns @ rows


class Encoded(NamedTuple):
    """What an encoder returns."""

    tokens: Float[Array, "batch tokens width"]  # after the final norm
    attention: Float[Array, "depth batch heads tokens tokens"] | None  # when asked for


class Encoder(nnx.Module):
    """`depth` blocks as one module whose parameters have a leading axis `depth`."""

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        block = AxialBlock if arch.attention == "axial" else Block
        self.blocks = stack.stacked(lambda rngs: block(arch, rngs=rngs), arch.depth, rngs)
        if not arch.norm_after_pool:
            self.norm = layer_norm(arch.width, arch.dtype, rngs, arch.norm_eps)

    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        scope: Scope,
        *,
        return_attention: bool = False,
        only: int | None = None,
    ) -> Encoded:
        """Tokens that `scope.mask` leaves out are attended to by none.

        With `only` no more than so many tokens are asked for, from the first: unrolled, the last block does not compute
        the others, where it can do without. That is up to a twelfth of a B model's work, of L a twenty-fourth.
        """

        def body(block, layer, x, **options):
            x, weights = block(x, layer, scope, **options)
            return x, weights if return_attention else None

        arch = self.arch
        short = only and not return_attention and self._last_can_be_short()
        last = functools.partial(body, only=only) if short else body
        x, attention = stack.run(body, self.blocks, x, arch.depth, scan=arch.scan, remat=arch.remat, last=last)
        return Encoded(x if arch.norm_after_pool else flattened(self.norm, x), attention)

    def _last_can_be_short(self) -> bool:
        """Not where positions, lines or dropout in attention are those of all queries, or devices share the tokens."""
        arch = self.arch
        every = arch.rope or arch.posemb == "relative" or arch.attention == "axial" or arch.attention_dropout
        return not every and not sharding.splits_tokens()
