"""Runs a stack of blocks and lets an observer see the tokens and the attention weights of each block in turn.

The weights of only one block are in memory at a time, because the observer reduces them before the next block runs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from vit_jax.models.stack import run

Tokens = Float[Array, "batch tokens width"]
Weights = Float[Array, "batch heads tokens tokens"]


class Observer(NamedTuple):
    """Two functions, which JAX traces.

    Attributes:
        start: takes the tokens before the first block and returns a carry: a pytree of arrays whose first axis is the
            batch, or None.
        each: takes the carry, the tokens after a block, and the block's attention weights in float32, which are None in
            a Mixer. It returns a new carry of the same shapes and an output, which may be None.
    """

    start: Callable[[Tokens], Any]
    each: Callable[[Any, Tokens, Weights | None], tuple[Any, Any]]


class Observed(NamedTuple):
    """The tokens after all blocks, the observer's last carry, and its outputs stacked along a new axis `depth`."""

    tokens: Tokens
    carry: Any = None
    outputs: Any = None


Block = Callable[[Any, Any, Tokens], tuple[Tokens, Weights | None]]


def run_observed(
    block: Block, stack: nnx.Module, x: Tokens, depth: int, observer: Observer | None, *, scan: bool, remat: str,
    last: Block | None = None,
) -> Observed:  # fmt: skip
    """Returns the tokens after all blocks of a stack, and what the observer made of them.

    Args:
        block: takes a block, its index from 0 and the tokens, and returns the tokens and the attention weights or None.
        stack: the blocks, as `stack.stacked` returns them.
        x: the tokens before the first block.
        depth: the number of blocks.
        observer: the observer; None for none.
        scan, remat: as in `stack.run`.
        last: replaces `block` for the last block if the loop is unrolled; not with an observer.
    """
    if observer is None:
        whole, short = ((lambda *args, f=f: (f(*args)[0], None)) for f in (block, last or block))
        return Observed(run(whole, stack, x, depth, scan=scan, remat=remat, last=short)[0])

    def body(module, index, state):
        x, weights = block(module, index, state[0])
        carry, output = observer.each(state[1], x, weights)
        return (x, carry), output

    (x, carry), outputs = run(body, stack, (x, observer.start(x)), depth, scan=scan, remat=remat)
    return Observed(x, carry, outputs)


# Returns the weights of all blocks, (depth, batch, heads, tokens, tokens).
ATTENTION = Observer(start=lambda tokens: None, each=lambda carry, tokens, weights: (None, weights))
