"""What leaves attention, split into one vector per token: norms of the parts, or their distance from the whole.

v[i,j] = sum_h A[h,i,j] V[h,j] W_O[h] (+ x_i where i = j, the residual); normalisations on the residual path are linear
at the deviation of what they really normalise. Biases behind the values belong to no token and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from attribution.mixing.pairs import Block
from attribution.mixing.source import Source, chosen, normalised
from attribution.model.layer import Norm


def _norms_of_heads(source: Source, memory: int | None) -> Tensor:
    """[B, R, N] norm of what each head carries, summed over heads."""
    heads = source.layer.heads
    gram = heads @ heads.transpose(1, 2)  # [H, d, d]: |v W|^2 = v (W W^T) v^T
    square = ((source.values @ gram[:, None]) * source.values).sum(-1)
    lengths = square.clamp(min=0).sqrt().permute(1, 2, 0)
    return (source.attention * lengths[:, None]).sum(-1)


def _vectors(
    source: Source, norms: list[tuple[Norm, Tensor]], residual: bool, memory: int | None
) -> Iterator[tuple[Block, Tensor]]:
    """v[i,j] [P, D] of each block's pairs, through normalisations (each with its scale at every query [B, R, 1])."""
    attending = source.attending(source.attention, to_itself=residual)
    entering = source.at_queries(source.entering)
    for block in attending.blocks(6 * entering.shape[2], memory):
        vectors = block.mixed(block.weights, source.carried(block, source.layer.heads))
        if residual:
            own = source.itself[block.examples, block.queries, block.keys].transpose(1, 2)[..., None]
            vectors.addcmul_(block.of_queries(entering), own.to(vectors))
        for norm, scale in norms:
            vectors = norm.part(vectors, block.of_queries(scale))
        yield block, block.wanted(vectors)


def _lengths(source: Source, norms: list[tuple[Norm, Tensor]], residual: bool, memory: int | None) -> Tensor:
    attending = source.attending(source.attention, to_itself=residual)
    return attending.matrix((block, v.norm(dim=-1)) for block, v in _vectors(source, norms, residual, memory))


def _scales(source: Source, count: int) -> list[tuple[Norm, Tensor]]:
    """The first `count` normalisations on the residual path, with their scale where each query stands."""
    layer = source.layer
    z = source.at_queries(source.sums)
    normed, scale = layer.middle.split(z)
    found = [(norm, scale) for norm in layer.norms()[:count]]
    if len(found) == 2:
        last, _ = found[1]
        found[1] = last, last.split(layer.total(layer.beside(z, normed), layer.inner(normed)))[1]
    return found


VARIANTS: dict[str, Callable[[Source, int | None], Tensor]] = {
    "heads": _norms_of_heads,
    "sum": lambda source, memory: _lengths(source, [], False, memory),
    "residual": lambda source, memory: _lengths(source, [], True, memory),
    "residual_norm": lambda source, memory: _lengths(source, _scales(source, 1), True, memory),
}


def attention_norms(source: Source, *, variant: str = "heads", memory: int | None = None) -> Tensor:
    """[B, R, N], rows normalised: size of what each token brings to each query, by a variant of `VARIANTS`."""
    return normalised(chosen(VARIANTS, variant, "variant")(source, memory))


def globenc_norms(source: Source, *, memory: int | None = None) -> Tensor:
    """[B, R, N], rows normalised: norms of v with residual, behind both normalisations of the residual path."""
    return normalised(_lengths(source, _scales(source, 2), True, memory))


def alti_contributions(source: Source, *, memory: int | None = None) -> Tensor:
    """[B, R, N], rows normalised: (|y_i|_1 - |y_i - v[i,j]|_1)+ with y_i what the attention sublayer gives."""
    z = source.at_queries(source.sums)
    y = source.layer.beside(z, source.layer.middle(z))
    vectors = _vectors(source, _scales(source, 1), True, memory)
    found = ((block, _gain(block.wanted(block.of_queries(y)), v)) for block, v in vectors)
    return normalised(source.attending(source.attention, to_itself=True).matrix(found))


def _gain(whole: Tensor, part: Tensor) -> Tensor:
    """[P] how much nearer to `whole` [P, D] than nothing `part` is, in L1; 0 where it is farther."""
    return (whole.abs().sum(-1) - (whole - part).abs().sum(-1)).clamp(min=0)
