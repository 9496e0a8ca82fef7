"""What perturbation methods cost beside bare model calls on the distinct inputs they ask for; bert-base, one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from attribution_cost import bare_calls, bert_base
from timing import Ratio, ratio

from attribution import Explainer, Inputs

N = 64
METHODS: dict[str, dict[str, int]] = {
    "occlusion": {},
    "lime": {"n_samples": 32},
    "kernel_shap": {"n_samples": 32},
    "shapley_sampling": {"n_samples": N},
}
LIMIT = 1.10


def costs() -> Iterator[Ratio]:
    """The ratios, one after another."""
    explainer = Explainer(bert_base())
    ids = torch.randint(1000, 20000, (1, N), generator=torch.Generator().manual_seed(1))
    for method, parameters in METHODS.items():
        work = partial(explainer.scores_many, ids, methods={"m": {"method": method, **parameters}}, target=1)
        bare = partial(bare_calls, explainer, distinct_inputs(explainer, work))
        yield ratio(method, work, "bare calls on its distinct inputs", bare, limit=LIMIT, rounds=3)


def distinct_inputs(explainer: Explainer, work: Callable[[], object]) -> list[Inputs]:
    """The batches `work` hands to the model, without repeated rows that only fill a pass."""
    seen: list[Inputs] = []
    original = explainer.adapter.forward

    def recorded(inputs: Inputs, *rest: object) -> torch.Tensor:
        seen.append(inputs)
        return original(inputs, *rest)  # type: ignore[arg-type]

    explainer.adapter.forward = recorded  # type: ignore[method-assign]
    try:
        work()
    finally:
        explainer.adapter.forward = original  # type: ignore[method-assign]
    return [_unfilled(inputs) for inputs in seen]


def _unfilled(inputs: Inputs) -> Inputs:
    both = torch.cat((inputs.input_ids, inputs.attention_mask), 1)
    return inputs.rows(slice(0, int((both != both[-1]).any(1).sum()) + 1))
