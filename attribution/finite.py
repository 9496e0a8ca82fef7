"""Where values stopped being finite, looked up only for examples whose scores are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attribution.capture import GRADIENTS, UNMASKED_RELEVANCE, Need, Trace, trace
from attribution.model.adapter import ModelAdapter, align, frozen
from attribution.model.inputs import Inputs
from attribution.relevance.node import AbsoluteWeights, RuleTable
from attribution.relevance.tables import CHEFER, GRADIENT
from attribution.targets import Part, TargetLike, in_aligned_columns, of_rows, parts, token_columns

if TYPE_CHECKING:
    from attribution.explainer import Request

NOTHING = ("0", "0")  # of a method that needs no forward of its own, and no backward at other places
OWN = "what the model computes is finite, the method's own arithmetic or further passes are not"


def problems(
    adapter: ModelAdapter, inputs: Inputs, scores: Tensor, request: Request, target: TargetLike, output: str = "logit"
) -> list[str | None]:
    """For each row of scores [B, N] (or [B, T, N]) what is wrong with it; None where all are finite."""
    broken = (~scores.flatten(1).isfinite().all(1)).nonzero()[:, 0].tolist()
    found: list[str | None] = [None] * len(scores)
    for row in broken:
        place = first_not_finite(
            adapter, inputs.rows(slice(row, row + 1)), request, of_rows(target, slice(row, row + 1)), output
        )
        found[row] = f"{request.method.id}: scores are not finite: {place}"
    return found


def first_not_finite(
    adapter: ModelAdapter, inputs: Inputs, request: Request, target: TargetLike = None, output: str = "logit"
) -> str:
    """The module whose output, or the block whose backward, is the first that is not finite for one row [1, N]."""
    module = first_module(adapter, inputs)
    if module is not None:
        return f"the forward from {module} on"
    passes = () if request.method.asked != NOTHING else _backwards(adapter, inputs, request, target, output)
    for name, layer in passes:
        if layer is not None:
            return f"the backward of the {name} from layer {layer} down"
    return OWN


def first_module(adapter: ModelAdapter, inputs: Inputs) -> str | None:
    """The first module that gives something that is not finite for one row [1, N]; None where none does."""
    aligned, _ = align(inputs.to(adapter.device))
    seen: list[str] = []
    with torch.no_grad(), frozen(adapter.model), _watched(adapter.model, seen):
        adapter.forward(aligned)
    return seen[0] if seen else None


@contextmanager
def _watched(model: nn.Module, seen: list[str]) -> Iterator[None]:
    """Note in `seen` the modules whose outputs are not finite, in the order they end: parts before the whole."""

    def watch(name: str) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, tuple) else []
            floating = [each for each in tensors if isinstance(each, Tensor) and each.is_floating_point()]
            if not all(bool(each.isfinite().all()) for each in floating):
                seen.append(name)

        return look

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _backwards(
    adapter: ModelAdapter, inputs: Inputs, request: Request, target: TargetLike, output: str
) -> Iterator[tuple[str, int | None]]:
    """What a method carries back, and the uppermost block behind which it is not finite; None where it is."""
    needs = request.method.needs
    tables: list[tuple[str, Need, RuleTable | None]] = [
        ("gradient", GRADIENTS, GRADIENT),
        ("relevance", UNMASKED_RELEVANCE | Need.MASKED_RELEVANCE, CHEFER),
        ("modified gradient", Need.MODIFIED_GRADIENT, request.method.table),
    ]
    aligned, index = align(inputs.to(adapter.device))
    goal = in_aligned_columns(target, adapter.task, index)
    columns = None
    if adapter.is_generative:
        columns = token_columns([goal], aligned.attention_mask.bool(), adapter.read_out(aligned), adapter.task)
    run = trace(adapter, aligned, needs, AbsoluteWeights(), keep=True, columns=columns)
    options: dict[str, Any] = {"columns": columns, "task": adapter.task, "independent": adapter.multi_label}
    read = (run.logits.detach(), run.visible, adapter.read_out(aligned), output)
    for part in parts(goal, *read, **options):
        for name, group, table in tables:
            if needs & group and table is not None:
                yield name, _uppermost(run, table, part)


def _uppermost(run: Trace, table: RuleTable, part: Part) -> int | None:
    seed = part.gradient if table is GRADIENT else part.relevance
    arrived = run.backward(table, seed, run.hidden)
    bad = [layer for layer, each in enumerate(arrived) if each is not None and not bool(each.isfinite().all())]
    return max(bad, default=None)
