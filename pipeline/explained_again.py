"""The first examples explained again, and what that says of each method: randomisation and robustness metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.collect import Results
from pipeline.config import Config
from pipeline.first_examples import first_parts
from pipeline.microbatch import MicroBatch
from pipeline.schedule import Ledger, StagePlan
from pipeline.schemas import VALUES
from pipeline.stages import explain_again
from pipeline.stages.asked import targets_for
from pipeline.stages.explain_again import AGAIN, Wanted, applies
from pipeline.stages.setting import Setting

Methods = Mapping[str, Mapping[str, Any]]  # label -> id and resolved parameters


def plan_again(
    config: Config,
    setting: Setting,
    ledger: Ledger,
    examples: pa.Table,
    batches: Sequence[MicroBatch],
    targets: Sequence[Any],
    methods: Methods,
    scores: Mapping[str, Sequence[str]],
) -> StagePlan:
    """One task for the first examples of each microbatch; its keys are by label and metric."""
    asked = list(_asked(config, methods))
    parts = list(first_parts(examples, batches, config.evaluation.first_examples)) if asked else []
    goals = [targets_for(batch, targets) for _, batch, _ in parts]
    options = [{"hide_separators": config.explain.hide_separators, "places": places} for _, _, places in parts]
    results = [
        {(label, metric): Wanted(metric, methods[label], scores[label][number]) for label, metric in asked}
        for number, _, _ in parts
    ]
    wanted = [
        {name: explain_again.key_of(setting, part.batch, each, goal, how) for name, each in own.items()}
        for part, goal, how, own in zip(parts, goals, options, results, strict=True)
    ]

    def task_of(index: int, absent: list[str]) -> Any:
        by_key = {key: results[index][name] for name, key in wanted[index].items()}
        own = {key: by_key[key] for key in absent}
        return explain_again.task_of(setting, parts[index].batch, own, goals[index], options[index])

    return ledger.plan(explain_again.STAGE, wanted, task_of)


def _asked(config: Config, methods: Methods) -> Iterator[tuple[str, str]]:
    for metric in config.evaluation.metrics:
        for label, method in methods.items() if metric in AGAIN else ():
            if applies(metric, method["method"]):
                yield label, metric


def again_values(plan: StagePlan, results: Results) -> pa.Table:
    """Rows of the `values` table; what should be there and is not is noted in `results`."""
    parts = [
        _values(label, metric, table)
        for (label, metric), keys in plan.keys.items()
        for table in results.tables(keys, plan.stage).values()
    ]
    return pa.concat_tables(parts) if parts else VALUES.empty_table()


def _values(label: str, metric: str, found: pa.Table) -> pa.Table:
    n = found.num_rows
    columns = {"item_id": found["item_id"], "value": found["value"], "weight": [1.0] * n}
    return pa.table({**columns, "method": [label] * n, "metric": [metric] * n}).select(VALUES.names).cast(VALUES)
