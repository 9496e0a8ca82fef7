"""Value zeroing: how much a token's representation changes when another token's value vectors are taken away.

Only one layer is computed again, on what entered it, and of its attention only the mixing. Taking away the values of
key j changes z_i, the sum of residual and attention output, by as much as query i took from j:

    z_i(j) = z_i - sum_h A[h,i,j] V[h,j] W_O[h]

The feed-forward branch's first projection is linear in z_i(j) up to the scale of its normalisation, so that it needs
no matrix product for each pair either; only the second projection does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from attribution.errors import InputError
from attribution.mixing.pairs import Attending, Chunk
from attribution.mixing.source import Source, chosen

Distance = Callable[[Tensor, Tensor], Tensor]


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """1 - cosine, as half the squared distance of unit vectors: nothing cancels. `one` has unit length already."""
    squared: Tensor = F.normalize(other, dim=-1).sub_(one).square_().sum(-1)
    return squared / 2


def _euclidean(one: Tensor, other: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(other - one, dim=-1)
    return length


DISTANCES: dict[str, Callable[..., Tensor]] = {"cosine": _cosine, "euclidean": _euclidean}
PREPARED: dict[str, Callable[[Tensor], Tensor]] = {"cosine": lambda x: F.normalize(x, dim=-1), "euclidean": lambda x: x}


def zeroing_distances(
    source: Source, *, distance: str = "cosine", heads: Tensor | None = None, memory: int | None = None
) -> Tensor:
    """[B, R, N] distance between the block's output at each query with and without the value of each key.

    heads: bool [H], those whose values are taken away; None: all. Pairs without attention are exactly 0.
    """
    measure = chosen(DISTANCES, distance, "distance")
    weights = source.attention if heads is None else source.attention * heads.to(source.attention)[:, None, None]
    attending = source.attending(weights, to_itself=False)
    whole, vary = attending.gather(source.sums), _without_fold if attending.weights.shape[2] == 1 else _with_fold
    intact = PREPARED[distance](source.layer.leaves(whole, source.layer.inner(whole)))

    def found() -> Iterator[tuple[Chunk, Tensor]]:
        for chunk, changed in vary(source, attending, whole, memory):
            yield chunk, measure(intact.index_select(0, chunk.queries), changed)

    return attending.matrix(found())


def _with_fold(
    source: Source, attending: Attending, whole: Tensor, memory: int | None
) -> Iterator[tuple[Chunk, Tensor]]:
    """What leaves the block for each pair [P, D]; the first projection is folded into values and sums."""
    layer, folded = source.layer, source.folded
    projected, width = whole @ folded.sums.T, len(folded.constant)
    for chunk in attending.chunks(2 * width + 4 * whole.shape[1], memory):
        z = chunk.without(whole, source.carried(chunk, layer.heads))
        inner = chunk.without(projected, source.carried(chunk, folded.values))
        inner = torch.addcmul(folded.constant, inner, layer.middle.scale(z), out=inner)
        yield chunk, layer.leaves(z, inner)


def _without_fold(
    source: Source, attending: Attending, whole: Tensor, memory: int | None
) -> Iterator[tuple[Chunk, Tensor]]:
    """The same by the plain projection: cheaper where each key is left out for a single query."""
    layer = source.layer
    width = sum(len(weight) for weight, _ in layer.inward)
    for chunk in attending.chunks(2 * width + 4 * whole.shape[1], memory):
        z = chunk.without(whole, source.carried(chunk, layer.heads))
        yield chunk, layer.leaves(z, layer.inner(z))


def heads_of(head_mask: object, source: Source) -> Tensor | None:
    """Bool [H] of the layer, from a mask [L, H]."""
    if head_mask is None:
        return None
    adapter = source.capture.trace.adapter
    mask, shape = torch.as_tensor(head_mask), [adapter.n_layers, adapter.n_heads]
    if list(mask.shape) != shape:
        raise InputError(f"head_mask has shape {list(mask.shape)}; the model needs {shape} (layers, heads)")
    return mask[source.index] != 0
