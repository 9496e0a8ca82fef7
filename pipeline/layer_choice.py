"""The choice of the layer to decode: plans of tasks, and from their results to the layer, a table and a record."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from attribution.decoding.coherence import Coherence
from attribution.decoding.head import RECORD
from attribution.errors import InputError
from evaluation.layer_choice import BY_COHERENCE, readable_layers
from pipeline.layer_texts import AUTO, chosen_labels
from pipeline.other_texts import OtherTexts
from pipeline.schedule import StagePlan, plan_whole
from pipeline.schemas import LAYERS
from pipeline.stages import compare_layers, measure_coherence
from pipeline.stages.measure_coherence import EXPLAINED, PRETRAINED

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

COMPREHENSIVENESS = "comprehensiveness"
Chosen = Generator[StagePlan, None, "LayerChoice"]


@dataclass(frozen=True)
class LayerChoice:
    """The layer, and what is known of all of them."""

    layer: int
    table: pa.Table = field(default_factory=LAYERS.empty_table)
    record: Mapping[str, Any] = field(default_factory=dict)  # for the manifest

    def applied(self, methods: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The methods with this layer where it was to be chosen."""
        chosen = chosen_labels(methods)
        return {
            label: {**each, "layer": self.layer} if label in chosen else dict(each) for label, each in methods.items()
        }


def choosing(experiment: Experiment, texts: OtherTexts) -> Chosen:
    """Measure all layers, then choose. Each plan is to be done before the next."""
    asked = experiment.config.decoding
    experiment.store_texts(texts.prepared)
    tables = yield from experiment.whole(lambda: plan_coherence(experiment, texts))
    layers = _joined(tables.values())
    coherence = coherence_of(layers)
    if asked.choose in BY_COHERENCE:
        chosen = BY_COHERENCE[asked.choose](coherence)
    else:
        readable = _readable(experiment, coherence)
        maps = yield from experiment.whole(lambda: plan_maps(experiment, texts, readable))
        means = _comprehensiveness(pa.concat_tables(maps.values()))
        layers = pa.concat_tables([layers, means])
        chosen = max(means.to_pylist(), key=lambda row: row["value"])["layer"]
    return LayerChoice(chosen, layers, _record(experiment, texts, chosen))


def plan_coherence(experiment: Experiment, texts: OtherTexts) -> StagePlan:
    """A task for each microbatch and body."""
    tasks = [measure_coherence.task_of(texts.setting, batch, body) for body in bodies(texts) for batch in texts.batches]
    return plan_whole(experiment.ledger, measure_coherence.STAGE, tasks)


def plan_maps(experiment: Experiment, texts: OtherTexts, layers: Sequence[int]) -> StagePlan:
    """A task for each microbatch."""
    tasks = [compare_layers.task_of(texts.setting, batch, layers) for batch in texts.batches]
    return plan_whole(experiment.ledger, compare_layers.STAGE, tasks)


def bodies(texts: OtherTexts) -> tuple[str, ...]:
    """What is measured: a head that was trained here was trained on the body explained, and knows no other."""
    head = texts.prepared.model.lm_head
    assert head is not None, "validated: a choice needs a head"
    return (EXPLAINED,) if (head.folder / RECORD).is_file() else (EXPLAINED, PRETRAINED)


def coherence_of(layers: pa.Table) -> Coherence:
    """That of the body explained."""
    rows = [row for row in layers.to_pylist() if row["body"] == EXPLAINED]
    values: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["layer"]):
        values.setdefault(row["metric"], []).append(row["value"])
    return Coherence({name: torch.tensor(each, dtype=torch.float64) for name, each in values.items()}, rows[0]["n"])


def _joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Means over all positions, of the means of microbatches."""
    sums: dict[tuple[str, int, str], list[float]] = {}
    for row in (row for table in tables for row in table.to_pylist()):
        total = sums.setdefault((row["body"], row["layer"], row["metric"]), [0.0, 0])
        total[0] += row["value"] * row["n"]
        total[1] += row["n"]
    rows = [(*about, total / n, n) for about, (total, n) in sums.items()]
    return pa.table(dict(zip(LAYERS.names, zip(*rows, strict=True), strict=True)), schema=LAYERS)


def _comprehensiveness(maps: pa.Table) -> pa.Table:
    """Means over the texts where it is defined."""
    found: dict[int, list[float]] = {}
    for row in maps.to_pylist():
        if np.isfinite(row["value"]):
            found.setdefault(row["layer"], []).append(row["value"])
    rows = [
        {"body": EXPLAINED, "layer": layer, "metric": COMPREHENSIVENESS, "value": float(np.mean(each)), "n": len(each)}
        for layer, each in found.items()
    ]
    return pa.Table.from_pylist(rows, schema=LAYERS)


def _readable(experiment: Experiment, coherence: Coherence) -> list[int]:
    try:
        return readable_layers(coherence)
    except InputError as error:
        label = chosen_labels(experiment.config.attribution)[0]
        raise InputError(f"conf error: attribution.{label}.layer={AUTO}: {error}.") from error


def _record(experiment: Experiment, texts: OtherTexts, layer: int) -> dict[str, Any]:
    return {
        "layer": layer,
        "choose": experiment.config.decoding.choose,
        "methods": chosen_labels(experiment.config.attribution),
        "texts": texts.prepared.examples.num_rows,
        "source": texts.source,
        "left_out": texts.left_out,
        "examples": texts.prepared.examples_key,
    }
