"""What attribution and perturbation cost on a random bert-base, 128 tokens, one thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from timing import Ratio, ratio
from transformers import BertConfig, BertForSequenceClassification

from attribution import Explainer, Inputs
from evaluation import CURVES, CurveRequest, paper_counts, run_curves

N = 128
BASELINES = (
    "transformer_attribution", "partial_lrp", "full_lrp", "raw_attention", "attention_rollout", "attention_gradcam",
    "gradcam", "attcat",
)  # fmt: skip


def bert_base() -> BertForSequenceClassification:
    """Random weights: the cost does not depend on them."""
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig()).eval()


def half_of_the_heads(explainer: Explainer) -> torch.Tensor:
    """A mask [L, H] with every other head."""
    mask = torch.zeros(explainer.adapter.n_layers, explainer.adapter.n_heads)
    mask[:, ::2] = 1
    return mask


def bare_calls(explainer: Explainer, batches: Iterable[Inputs]) -> None:
    """The stock model on these batches, one call each."""
    with torch.inference_mode():
        for batch in batches:
            explainer.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)


def costs() -> Iterator[Ratio]:
    """The ratios, one after another."""
    model = bert_base()
    explainer = Explainer(model)
    ids = torch.randint(1000, 20000, (1, N), generator=torch.Generator().manual_seed(1))
    masked = {"method": "mask_lrp", "head_mask": half_of_the_heads(explainer)}
    unit = "forward+backward"

    def forward_backward() -> None:
        model.zero_grad()
        model(ids).logits[0, 1].backward()

    def forward() -> None:
        with torch.no_grad():
            model(ids)

    yield ratio("forward", forward, unit, forward_backward)
    yield ratio("mask_lrp", lambda: explainer.scores(ids, target=1, **masked), unit, forward_backward, limit=1.9)
    nine = {"mask_lrp": masked, **{name: name for name in BASELINES}}
    yield ratio("all nine methods together", _many(explainer, ids, nine), unit, forward_backward, limit=2.8)
    for name in ("gradcam", "full_lrp", "lrp_ah_ln"):
        yield ratio(name, _many(explainer, ids, {name: name}), unit, forward_backward)
    yield from perturbation_cost(explainer)


def _many(explainer: Explainer, ids: torch.Tensor, methods: dict[str, object]):  # type: ignore[no-untyped-def]
    return lambda: explainer.scores_many(ids, methods=methods, target=1)


def perturbation_cost(explainer: Explainer) -> Iterator[Ratio]:
    """A perturbation evaluation against bare model calls on the same distinct inputs in the same buckets."""
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([37, 61, 90, 128])
    ids = torch.randint(1000, 20000, (len(lengths), N), generator=generator)
    visible = (torch.arange(N) < lengths[:, None]).long()
    special = torch.zeros_like(ids)
    special[:, 0] = 1
    inputs = Inputs.of(ids * visible, visible, special_tokens_mask=special)
    scores = {name: torch.rand(ids.shape, generator=generator) for name in ("a", "b", "c")}
    steps = paper_counts(lengths)
    requests: dict[tuple[str, str], CurveRequest] = {
        (name, family.id): family.request(values, steps, "pad")
        for name, values in scores.items()
        for family in (CURVES[name] for name in ("aopc", "comprehensiveness", "sufficiency"))
    }
    seen: list[Inputs] = []
    original = explainer.adapter.logits
    explainer.adapter.logits = lambda batch: (seen.append(batch), original(batch))[1]  # type: ignore[method-assign]
    curves = run_curves(explainer, inputs, requests, target=1)
    explainer.adapter.logits = original  # type: ignore[method-assign]
    passes = next(iter(curves.values())).passes

    bare = partial(bare_calls, explainer, seen)
    print(
        f"perturbation: {passes.requested} inputs asked for, {passes.distinct} distinct, {passes.padding:.1%} padding"
    )
    evaluate = lambda: run_curves(explainer, inputs, requests, target=1)  # noqa: E731
    yield ratio("perturbation evaluation", evaluate, "bare model calls", bare, limit=1.10, rounds=3)
