"""The encoder of a Vision Transformer: a stack of blocks, which is scanned or unrolled, and the final norm."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from vit_jax import sharding
from vit_jax.models import posemb, stack
from vit_jax.models.architecture import VitArchitecture
from vit_jax.models.attention import Attention
from vit_jax.models.dropout import drop_path, dropout, path_rate
from vit_jax.models.linear import flattened, layer_norm, normed
from vit_jax.models.mlp import Mlp
from vit_jax.models.observe import Observed, Observer, run_observed
from vit_jax.randomness import Keys, fold_in


class Scope(NamedTuple):
    """What all blocks get in one call of the encoder."""

    grid: posemb.Grid | None = None  # the number of patches along (height, width)
    positions: Float[Array, "1 tokens width"] | None = None  # position embeddings that every block adds to its input
    relative: posemb.Relative | None = None  # relative position embeddings that all blocks share
    mask: Bool[Array, "batch tokens"] | None = None  # True for tokens that may be attended to; None for all tokens
    keys: Keys | None = None  # one PRNG key per image; None for no dropout and no stochastic depth


class Block(nnx.Module):
    """A pre-norm Transformer block: attention and an MLP, each with dropout and stochastic depth.

    With `arch.parallel`, both read the same normalised input, and their outputs are added. Otherwise the MLP follows
    the attention.

    Args:
        arch: the architecture.
        axis: None for attention over all tokens; 1 for attention within each row of patches, 0 within each column.
        rngs: the random streams for the initial parameters.
    """

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
        """Returns the tokens after this block, and the attention weights in float32, before dropout.

        Args:
            x: the tokens.
            layer: the index of the block, from 0. It sets the rate of stochastic depth, which grows linearly from 0 in
                the first block to `arch.drop_path` in the last.
            scope: what all blocks of a call get.
            only: computes only the first `only` tokens of the output (`queries` in the shapes). They still attend to
                all tokens. None computes all tokens.
        """
        keys = fold_in(scope.keys, layer)
        rate = path_rate(self.arch.drop_path, layer, self.arch.depth)
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
        if shared is not None and self.arch.posemb_at == "stem":  # only the first layer adds them
            return lambda queries, grid: jnp.where(jnp.asarray(layer) == 0, shared(queries, grid), 0)
        return shared


class AxialBlock(nnx.Module):
    """Attention within rows and an MLP, then attention within columns and an MLP (2010.11929, D.6; 1912.12180)."""

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.rows = Block(arch, axis=1, rngs=rngs)
        self.columns = Block(arch, axis=0, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch tokens width"], layer: Array | int, scope: Scope
    ) -> tuple[Float[Array, "batch tokens width"], Float[Array, "batch heads tokens tokens"]]:
        """Returns the tokens after this block, and the attention weights through both halves combined.

        The combined weights are the product of the two weight matrices: a token reads another one through the token at
        the crossing of its own column and the other one's row. `layer` and `scope` are those of `Block.__call__`.
        """
        x, rows = self.rows(x, layer, scope._replace(keys=fold_in(scope.keys, 0)))
        x, columns = self.columns(x, layer, scope._replace(keys=fold_in(scope.keys, 1)))
        return x, columns @ rows


class Encoder(nnx.Module):
    """The `depth` blocks as one stack, and the final norm.

    Every parameter of the stack has a leading axis `depth`. With `arch.norm_after_pool` there is no norm here.
    """

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
        observer: Observer | None = None,
        only: int | None = None,
    ) -> Observed:
        """Returns the tokens after all blocks and the final norm, and what the observer returned.

        Args:
            x: the tokens, with the position embeddings already added if `arch.posemb_at` is `stem`.
            scope: what all blocks get.
            observer: sees the tokens and the attention weights of every block; None for nobody.
            only: the caller needs only the first `only` tokens, and may get more; None returns all tokens. If the
                blocks are unrolled, nobody observes them and no mesh splits the tokens of an image, the last block does
                not compute the other tokens. That saves up to 1/12 of the work of a B model and 1/24 of an L model.
        """
        arch = self.arch
        short = only and not observer and not sharding.splits_tokens()

        def body(block, layer, x):
            return block(x, layer, scope)

        last = (lambda block, layer, x: block(x, layer, scope, only=only)) if short else None
        seen = run_observed(body, self.blocks, x, arch.depth, observer, scan=arch.scan, remat=arch.remat, last=last)
        return seen if arch.norm_after_pool else seen._replace(tokens=flattened(self.norm, seen.tokens))
