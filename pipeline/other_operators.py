"""The first examples under other operators, by the same scores: does the order of the methods survive them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from evaluation import METRICS
from pipeline.collect import Results
from pipeline.config import Config
from pipeline.first_examples import first_parts
from pipeline.microbatch import MicroBatch
from pipeline.operators import under
from pipeline.perturbed import Perturbed
from pipeline.schedule import Portion, StagePlan, curve_families, perturbing, removed_sets
from pipeline.schemas import REMOVALS, VALUES
from pipeline.score import values_table
from pipeline.stages import compare_operators


def portions(config: Config, examples: pa.Table, batches: Sequence[MicroBatch]) -> list[Portion]:
    """The first examples of each microbatch under each of the other operators."""
    if not config.evaluation.other_operators:
        return []
    parts = list(first_parts(examples, batches, config.evaluation.first_examples))
    return [
        Portion(number, part, {**perturbing(config), "operator": operator, "places": places}, (operator,))
        for operator in config.evaluation.other_operators
        for number, part, places in parts
    ]


@dataclass
class OtherOperators:
    """What the first examples were found to be worth, by operator."""

    perturbed: dict[str, Perturbed] = field(default_factory=dict)

    @classmethod
    def read(
        cls, config: Config, plan: StagePlan, results: Results, items: Sequence[str], attributions: pa.Table
    ) -> OtherOperators:
        """The results of a plan; what should be there and is not is noted in `results`."""
        return cls(
            {
                operator: _read(operator, config, plan, results, items, attributions)
                for operator in config.evaluation.other_operators
            }
        )

    def values(self, labels: Sequence[str], examples: pa.Table, config: Config) -> pa.Table:
        """Rows of the `values` table: of each metric of perturbed inputs under each operator, as `metric@operator`."""
        asked = [metric for metric in config.evaluation.metrics if METRICS[metric].prepared]
        scoring = replace(config.evaluation, metrics=asked, where_marked=[])
        tables = [
            _renamed(values_table(labels, examples, found.attributions, found, scoring), operator)
            for operator, found in self.perturbed.items()
        ]
        return pa.concat_tables(tables) if tables else VALUES.empty_table()

    def forwards_alone(self, labels: Sequence[str], metrics: Sequence[str]) -> int:
        """Forwards of every method, metric and operator by itself."""
        return sum(found.forwards_alone(labels, metrics) for found in self.perturbed.values())


def _read(
    operator: str, config: Config, plan: StagePlan, results: Results, items: Sequence[str], attributions: pa.Table
) -> Perturbed:
    stage = compare_operators.STAGE
    drawn = [
        (str(label), keys)
        for (under, label, source), keys in plan.keys.items()
        if under == operator and source in curve_families(config)
    ]
    removed = [
        table
        for sets in removed_sets(config)
        for table in results.joined(plan.keys.get((operator, None, sets), []), stage, items)
    ]
    curves = results.by_method("curves", drawn, stage, items)
    return Perturbed(curves, pa.concat_tables(removed) if removed else REMOVALS.empty_table(), attributions)


def _renamed(values: pa.Table, operator: str) -> pa.Table:
    names = pa.array([under(metric, operator) for metric in values["metric"].to_pylist()], pa.string())
    return values.set_column(values.column_names.index("metric"), "metric", names)
