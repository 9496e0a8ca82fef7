"""Attention flow: how much can flow from a position to each input token when attention weights are capacities."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNIT = 2**30  # capacities are whole numbers of it: the error of a flow is below N / UNIT

Capacities = NDArray[np.int32]  # [L, N, N]


def attention_flows(attention: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
    """[B, R, N] maximum flow from each position [B, R] above layer L to each token below it, rows normalised.

    attention: [B, L, N, N], heads averaged; visible: bool [B, N]. Capacities are those of attention rollout:
    (attention + identity) / 2. Source: Abnar & Zuidema 2020, section 3.
    """
    rolled = (attention + torch.eye(attention.shape[-1], device=attention.device, dtype=attention.dtype)) / 2
    capacities = (rolled.to("cpu", torch.float64) * UNIT).round().to(torch.int32).numpy()
    flows = np.zeros((*positions.shape, attention.shape[-1]))
    for example, seen in enumerate(visible.cpu().numpy()):
        length = int(seen.nonzero()[0].max()) + 1
        for row, position in enumerate(positions[example].tolist()):
            if seen[position]:
                flows[example, row, :length] = _flows(capacities[example, :, :length, :length], position, seen[:length])
    found = torch.from_numpy(flows).to(attention)
    return found / found.sum(-1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def _flows(capacities: Capacities, position: int, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[N] maximum flow to each token, one problem each."""
    from scipy.sparse.csgraph import maximum_flow  # type: ignore[import-untyped]

    n_layers, length = capacities.shape[:2]
    graph, source = _graph(capacities), n_layers * length + position
    values = [maximum_flow(graph, source, token).flow_value if seen[token] else 0 for token in range(length)]
    return np.array(values) / UNIT


def _graph(capacities: Capacities) -> object:
    """Node l * N + i is position i below layer l; edges lead downwards."""
    from scipy.sparse import coo_array, csr_array  # type: ignore[import-untyped]

    n_layers, length = capacities.shape[:2]
    layer, upper, lower = capacities.nonzero()
    size = (n_layers + 1) * length
    edges = (capacities[layer, upper, lower], ((layer + 1) * length + upper, layer * length + lower))
    return csr_array(coo_array(edges, shape=(size, size)))
