"""What the evaluation of ten methods under five metrics costs; a random model of MiniLM's size, one thread.

Its time against bare model calls on its distinct inputs, in the same batches without the rows that only fill them, and
its forwards against those of each method and metric by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from attribution_cost import bare_calls
from sampling_cost import distinct_inputs
from timing import Ratio, ratio, verdict
from transformers import BertConfig, BertForSequenceClassification

from attribution import Explainer, Inputs
from evaluation import evaluate_all, paper_counts

METHODS = (
    "gradcam", "attcat", "attention_gradcam", "transformer_attribution", "partial_lrp", "raw_attention",
    "attention_rollout", "input_x_gradient", "saliency", "random",
)  # fmt: skip
METRICS = ("aopc", "comprehensiveness", "sufficiency", "delta_auc", "faithfulness_correlation")
LENGTHS = (8, 11, 15, 19, 23, 26, 30, 37)  # about those of SST-2
TIME, SHARE = 1.10, 0.6


@dataclass(frozen=True)
class Forwards:
    """How many forwards were run, of those that every method and metric would run by itself."""

    run: int
    alone: int

    def __str__(self) -> str:
        share = self.run / self.alone
        return f"{'forwards run':44s} {share:6.3f} of {self.alone} alone ({self.run}){verdict(share, SHARE)}"


def costs(rounds: int = 3) -> Iterator[Forwards | Ratio]:
    """The share of forwards, then the time."""
    explainer, inputs = Explainer(_model()), _texts()
    scores = explainer.scores_many(**inputs.present(), methods={name: name for name in METHODS}, target=1)
    steps, fields = paper_counts(inputs.attention_mask.sum(1)), inputs.present()
    ids, visible = fields.pop("input_ids"), fields.pop("attention_mask")
    options = {"target": 1, "levels": steps, "operator": "pad"}
    work = partial(evaluate_all, explainer, ids, visible, scores, METRICS, **options, **fields)
    passes = work().passes
    yield Forwards(passes.distinct, passes.requested)
    bare = partial(bare_calls, explainer, distinct_inputs(explainer, work))
    about = f"evaluation of {len(METHODS)} methods, {len(METRICS)} metrics"
    yield ratio(about, work, "bare calls on its distinct inputs", bare, limit=TIME, rounds=rounds)


def _model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    return BertForSequenceClassification(config).eval()


def _texts() -> Inputs:
    """A microbatch, its first and last tokens special."""
    lengths, width = torch.tensor(LENGTHS), max(LENGTHS)
    ids = torch.randint(1000, 20000, (len(LENGTHS), width), generator=torch.Generator().manual_seed(1))
    place = torch.arange(width)
    visible = (place < lengths[:, None]).long()
    special = ((place == 0) | (place == lengths[:, None] - 1)).long()
    return Inputs.of(ids * visible, visible, special_tokens_mask=special)
