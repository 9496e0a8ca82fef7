"""What a model does once a person has switched heads off, turned them down, or given them a pattern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from attribution.capture import Need
from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.heads.outputs import gated, head_outputs
from attribution.methods import Method
from attribution.model.adapter import ModelAdapter
from attribution.patterns.models import inject
from attribution.patterns.schema import IN_PLACE, MAPPED, Assignment, Head, Injection, Pattern, PatternFile, write_head


@contextmanager
def gated_heads(adapter: ModelAdapter, gates: Mapping[Head, float]) -> Iterator[None]:
    """Inside, these heads give their gate, 0 (off) to 1, times what they give. InputError for others."""
    values = torch.ones(adapter.n_layers, adapter.n_heads, dtype=torch.float64, device=adapter.device)
    for (layer, head), gate in gates.items():
        check_head(adapter, (layer, head))
        if not 0 <= gate <= 1:
            raise InputError(f"conf error: gate of {write_head((layer, head))}={gate} must be from 0 (off) to 1.")
        values[layer, head] = gate
    with head_outputs(adapter, gated(values)):
        yield


def patterned(explainer: Explainer, patterns: Mapping[Head, Pattern]) -> Explainer:
    """A copy of the model whose heads follow these patterns; the explainer itself where there are none."""
    if not patterns:
        return explainer
    for head in patterns:
        check_head(explainer.adapter, head)
    heads = {write_head(head): write_head(head) for head in patterns}
    named = {write_head(head): pattern for head, pattern in patterns.items()}
    file = PatternFile(named, Injection(Assignment(MAPPED, heads=heads), IN_PLACE))
    changed = inject(explainer.model, explainer.tokenizer, file)
    return Explainer(changed, explainer.tokenizer, max_tokens=explainer.max_tokens)


def sees_gates(method: Method) -> bool:
    """Whether a method explains what gated heads give; those that take blocks apart read their weights instead."""
    return Need.SUMS not in method.needs


def check_head(adapter: ModelAdapter, head: Head) -> None:
    """InputError where a model has no such head."""
    layer, number = head
    if not (0 <= layer < adapter.n_layers and 0 <= number < adapter.n_heads):
        last = write_head((adapter.n_layers - 1, adapter.n_heads - 1))
        raise InputError(f"conf error: there is no head {write_head(head)}; heads are 0.0 to {last}.")
