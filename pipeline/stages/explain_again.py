"""Explain again: what becomes of scores when the model, the class, the input or the seed is another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from attribution.capture import Need
from attribution.explainer import Explainer
from attribution.methods.registry import METHODS, Method
from attribution.model.inputs import Inputs
from evaluation import METRICS
from evaluation.metric import Metric
from evaluation.neighbourhood import Neighbourhood, neighbourhood_many
from evaluation.randomised import (
    neighbour_scores_many,
    other_class_scores_many,
    randomised_scores_many,
    reseeded_scores_many,
    shuffled_label_scores_many,
)
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch, padded
from pipeline.schemas import CHECKS
from pipeline.stages.asked import Targets, target_of
from pipeline.stages.attribute import explained_inputs
from pipeline.stages.evaluate import read_scores
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "explain_again"

# metric -> the scores that it compares with, and of which methods there are such
AGAIN: dict[str, tuple[Callable[..., Any], Callable[[Method], bool]]] = {
    "mprt": (randomised_scores_many, lambda method: not _decodes(method)),
    "efficient_mprt": (partial(randomised_scores_many, order="all"), lambda method: not _decodes(method)),
    "random_logit": (other_class_scores_many, lambda method: not method.class_blind),
    **dict.fromkeys(
        ("max_sensitivity", "avg_sensitivity", "top_k_stability"),
        (neighbour_scores_many, lambda method: not method.asks),
    ),
    **dict.fromkeys(
        (
            *("relative_input_stability", "relative_output_stability", "relative_representation_stability"),
            "local_lipschitz",
        ),
        (neighbourhood_many, lambda method: not method.asks),
    ),
    "label_randomisation": (shuffled_label_scores_many, lambda method: not _decodes(method)),
    "seed_stability": (reseeded_scores_many, lambda method: "seed" in method.parameters),
}


def _decodes(method: Method) -> bool:
    """Whether it reads hidden states by a language-model head, to which those of random weights say nothing."""
    return Need.LAYER_GRADIENT in method.needs


class Wanted(NamedTuple):
    """One result of a task: a metric of a method, whose scores of the whole microbatch are there."""

    metric: str
    method: Mapping[str, Any]
    attribution_key: str


def applies(metric: str, method: str) -> bool:
    """Whether a metric says anything of a method."""
    return AGAIN[metric][1](METHODS[method])


def key_of(setting: Setting, batch: MicroBatch, wanted: Wanted, targets: Targets, options: Mapping[str, Any]) -> str:
    """Key of one metric of one method's scores of some examples of a microbatch."""
    other = {"shuffled": setting.shuffled} if AGAIN[wanted.metric][0] is shuffled_label_scores_many else {}
    return setting.key(STAGE, wanted=wanted, targets=targets, options=options, **other, **content_of(batch))


def task_of(
    setting: Setting, batch: MicroBatch, wanted: Mapping[str, Wanted], targets: Targets, options: Mapping[str, Any]
) -> Task:
    """The task that computes several results {key: wanted} of these examples."""
    payload = {"wanted": dict(wanted), "targets": targets, **options, "shard": setting.shard(batch)}
    weight = len(batch.rows) * len(wanted)
    return Task(digest(sorted(wanted)), STAGE, payload, setting.model.fingerprint, weight, tuple(wanted), batch.items)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    wanted: dict[str, Wanted],
    targets: Targets,
    hide_separators: bool,
    shard: Shard,
    places: tuple[int, ...],
) -> dict[str, pa.Table]:
    """Explain rows again, and compare; `places`: of the shard's rows in the microbatch whose scores are read."""
    units = {str(each.method.get("unit")) for each in wanted.values()}
    explainer, examples, inputs = explained_inputs(worker, shard, rows, units, hide_separators)
    ranked = torch.from_numpy(padded([row["special_tokens"] for row in examples], shard.length, 1)) == 0
    goal = target_of(examples, targets[rows])
    explained = _explained(worker, shard, explainer, inputs, wanted.values(), goal)
    found = {}
    for key, each in wanted.items():
        own = read_scores(worker, each.attribution_key, shard.length)[list(places)][rows]
        metric = METRICS[each.metric]
        others = explained[AGAIN[each.metric][0]][each.attribution_key]
        values = metric(scores=own, tokens=ranked, **_named(metric, others))
        found[key] = pa.table([[row["item_id"] for row in examples], values.numpy()], schema=CHECKS)
    return found


def _explained(
    worker: StageWorker,
    shard: Shard,
    explainer: Explainer,
    inputs: Inputs,
    wanted: Iterable[Wanted],
    target: Any,
) -> dict[Callable[..., Any], dict[str, Any]]:
    """What each way of explaining again finds, by the key of the scores it is compared with; all methods together."""
    asked: dict[Callable[..., Any], dict[str, Mapping[str, Any]]] = {}
    for each in wanted:
        asked.setdefault(AGAIN[each.metric][0], {})[each.attribution_key] = each.method
    found = {}
    for explain, methods in asked.items():
        more = {"other": worker.shuffled(shard.model)} if explain is shuffled_label_scores_many else {}
        found[explain] = explain(explainer, inputs, methods, target=target, **more)
    return found


def _named(metric: Metric, found: Tensor | Neighbourhood) -> dict[str, Tensor]:
    """What was found, by the names that a metric has for it."""
    if isinstance(found, Neighbourhood):
        return {name: value for name, value in found.given().items() if name in metric.needs}
    (other,) = (need for need in metric.needs if need not in ("scores", "tokens"))
    return {other: found.cpu()}
