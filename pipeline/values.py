"""The values of a run: of each metric, method and text, from what its stages found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.perturbed import Perturbed
from pipeline.score import values_table, without_failed

if TYPE_CHECKING:
    from pipeline.experiment import Experiment


def run_values(done: Experiment, metric: str | None = None) -> pa.Table:
    """The `values` table of an experiment whose results are read; that of one metric alone under the run's own operator
    where it is named.
    """
    config, labels, whole = done.config, list(done.methods), done.texts
    scoring = config.evaluation if metric is None else replace(config.evaluation, metrics=[metric], where_marked=[])
    examples = done.prepared.examples if whole is None else whole.examples
    attributions = done.attributions if whole is None else whole.attributions(done.attributions)
    perturbed = Perturbed(done.curves, done.removals, done.attributions)
    values = values_table(labels, examples, attributions, perturbed, scoring, config.mixing.blank_out)
    again = done.again if metric is None else done.again.filter(pc.field("metric") == metric)
    others = [done.others.values(labels, examples, config)] if metric is None else []
    values = without_failed(pa.concat_tables([values, again, *others]), attributions, done.attributions)
    return values if whole is None else whole.values(values)
