"""What a plan says of the importances of heads and of what their rankings are worth, before they are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attribution.heads.importance import own_passes, parameters_of
from attribution.heads.importance_methods import Size
from pipeline.schedule import StagePlan
from pipeline.stages import prune_heads

if TYPE_CHECKING:
    from pipeline.experiment import Experiment


def head_costs(experiment: Experiment) -> Iterator[str]:
    """Passes of importances and of curves; none where importance is not asked for."""
    texts, heads = experiment.head_texts, experiment.config.heads
    if texts is None:
        return
    model, number = texts.prepared.model, texts.prepared.examples.num_rows
    size = Size(number, model.n_layers, model.n_heads)
    yield f"importance of heads: {number} texts in {len(texts.batches)} microbatches, {len(heads.importance)} rankings"
    for label, spec in heads.importance.items():
        forwards, backwards = own_passes(spec, size)
        given = ", ".join(f"{name}={value}" for name, value in parameters_of(spec).items())
        if forwards:
            yield f"{label}: {forwards} texts forward and {backwards} back beside the pass that serves all ({given})"
    if heads.curves:
        sets = (heads.curve_steps - 1) * _orders(experiment) + 2
        examples = experiment.prepared.examples.num_rows
        yield f"pruning: {_orders(experiment)} orders, at most {sets} sets of heads removed from {examples} examples"


def pruning_ahead(experiment: Experiment, plans: Sequence[StagePlan]) -> Iterator[str]:
    """A line for curves that cannot be planned yet, since the rankings are not there."""
    known = any(plan.stage == prune_heads.STAGE for plan in plans)
    if experiment.head_texts is not None and experiment.config.heads.curves and not known:
        results = _orders(experiment) * len(experiment.batches)
        yield f"{prune_heads.STAGE}: up to {results} results; known once heads are weighed"


def _orders(experiment: Experiment) -> int:
    heads = experiment.config.heads
    return 2 * len(heads.importance) + heads.random_orders
