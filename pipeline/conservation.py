"""What became of the relevance of each conservative method of a run, from the facts beside its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attribution.conservation import FACTS, SUMS, conservation
from pipeline.schemas import CONSERVATION

Facts = Mapping[str, NDArray[np.float64]]


def conserved_facts(attributions: pa.Table) -> dict[str, Facts]:
    """{method: {fact: [E]}} of the methods that know what they conserve; examples that are not finite are left out.

    A fact that a method does not know is NaN throughout.
    """
    rows: dict[str, list[list[float]]] = {}
    columns = (attributions[name].to_pylist() for name in ("method", "facts"))
    for method, facts in zip(*columns, strict=True):
        known = named_facts(facts)
        values = [known[name] for name in FACTS if name in known]
        if all(name in known for name in SUMS) and np.isfinite(values).all():
            rows.setdefault(method, []).append([known.get(name, np.nan) for name in FACTS])
    return {method: dict(zip(FACTS, np.array(values).T, strict=True)) for method, values in rows.items()}


def conservation_table(attributions: pa.Table) -> pa.Table:
    """A row for each of these methods: slope, correlation, error and shares."""
    rows = [{"method": label, **_summary(facts)} for label, facts in conserved_facts(attributions).items()]
    return pa.Table.from_pylist(rows, schema=CONSERVATION)


def _summary(facts: Facts) -> dict[str, Any]:
    known = {name: values.tolist() for name, values in facts.items() if not np.isnan(values).all()}
    return asdict(conservation(known))


def named_facts(facts: list[dict[str, Any]] | None) -> dict[str, float]:
    """What a method knows of an example, by name."""
    return {fact["name"]: fact["value"] for fact in facts or []}
