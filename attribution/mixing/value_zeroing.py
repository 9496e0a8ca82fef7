"""Value zeroing: how much a token's representation changes when another token's value vectors are taken away.

Only one layer is computed again, on what entered it, and of its attention only the mixing. Taking away the values of
key j changes z_i, the sum of residual and attention output, by as much as query i took from j:

    z_i(j) = z_i - sum_h A[h,i,j] V[h,j] W_O[h]

The feed-forward branch's first projection is linear in z_i(j) up to the scale s of its normalisation, so that it needs
no matrix product for each pair either, only the second one does:

    inner(z_i(j)) = s (G z_i - sum_h A[h,i,j] V[h,j] W_O[h] G^T) + constant
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from attribution.errors import InputError
from attribution.mixing.pairs import Attending, Block
from attribution.mixing.riding import Ride
from attribution.mixing.source import Source, chosen
from attribution.model.adapter import ModelAdapter
from attribution.model.inputs import Inputs


def _cosine(intact: Tensor, changed: Tensor) -> Tensor:
    """1 - cosine, as half the squared distance of unit vectors: nothing cancels."""
    squared: Tensor = F.normalize(changed, dim=-1).sub_(F.normalize(intact, dim=-1)).square_().sum(-1)
    return squared.masked_fill_(squared < _noise(squared) ** 2, 0) / 2


def _euclidean(intact: Tensor, changed: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(changed - intact, dim=-1)
    return length.masked_fill_(length < _noise(length) * intact.norm(dim=-1), 0)


def _noise(x: Tensor) -> float:
    """Relative differences below this are rounding: without it a row of them alone would be normalised."""
    return 16 * torch.finfo(x.dtype).eps


DISTANCES: dict[str, Callable[..., Tensor]] = {"cosine": _cosine, "euclidean": _euclidean}


def zeroing_distances(
    source: Source, *, distance: str = "cosine", heads: Tensor | None = None, memory: int | None = None
) -> Tensor:
    """[B, R, N] distance between the block's output at each query with and without the values of each key.

    heads: [L, H], 1 where values are taken away; None: all. Pairs without attention are exactly 0.
    """
    measure = chosen(DISTANCES, distance, "distance")
    weights = source.attention if heads is None else source.attention * heads[source.index]
    attending = source.attending(weights, to_itself=False)
    return attending.matrix(
        (block, measure(block.wanted(intact), changed))
        for block, intact, changed in _outputs(source, attending, memory)
    )


def _outputs(source: Source, attending: Attending, memory: int | None = None) -> Iterator[tuple[Block, Tensor, Tensor]]:
    """Of each block what leaves the layer at its queries [b, 1, T, D], and without each wanted key [P, D]."""
    layer, folded, whole = source.layer, source.folded, source.at_queries(source.sums)
    projected = whole @ folded.sums.T
    normed, scale = layer.middle.split(whole)
    intact = layer.leaves(layer.beside(whole, normed), torch.addcmul(folded.constant, projected, scale))
    for block in attending.blocks(2 * len(folded.constant) + 4 * whole.shape[2], memory):
        taken = block.mixed(block.weights, source.carried(block, layer.heads))
        z = torch.sub(block.of_queries(whole), taken, out=taken)
        normed, scale = layer.middle.split(z)
        weights = torch.cat((block.weights * -scale, torch.ones_like(scale)), -1)
        inner = block.mixed(weights, source.carried(block, folded.values, folded.constant))
        inner.addcmul_(block.of_queries(projected), scale)
        residual = block.wanted(layer.beside(z, normed))
        yield block, block.of_queries(intact), layer.leaves(residual, block.wanted(inner))


def row_distances(
    adapter: ModelAdapter, inputs: Inputs, positions: Tensor, *, distance: str, heads: Tensor | None, final_norm: bool
) -> Tensor:
    """[B, L, 1, N] as `zeroing_distances`, of one query of each row [B, 1] in all layers, in a pass of its own."""
    measure = chosen(DISTANCES, distance, "distance")
    if heads is None:
        heads = torch.ones(adapter.n_layers, adapter.n_heads, dtype=adapter.dtype, device=adapter.device)
    found = Ride(adapter, inputs, positions[:, 0], heads, measure, final_norm).run()
    visible = inputs.attention_mask.gather(1, positions)
    return (found * visible[..., None])[:, :, None]


def heads_of(head_mask: object, adapter: ModelAdapter) -> Tensor | None:
    """A mask [L, H] in the model's dtype, 0 or 1."""
    if head_mask is None:
        return None
    mask, shape = torch.as_tensor(head_mask, device=adapter.device), [adapter.n_layers, adapter.n_heads]
    if list(mask.shape) != shape:
        raise InputError(f"head_mask has shape {list(mask.shape)}; the model needs {shape} (layers, heads)")
    return mask.ne(0).to(adapter.score_dtype)
