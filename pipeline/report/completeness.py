"""By how much scores miss the change they should add up to, for methods that have a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.report.html import Child, Safe, tag

COLUMNS = ["method", "value", "baseline_value", "completeness_error", "forwards", "backwards"]
SMALLEST_CHANGE = 1e-2  # smaller changes of the explained value count as this
_HEADINGS = ("texts", "median", "95 %", "largest", "forwards", "backwards")
_HINT = (
    "The scores of these methods should add up to what is explained of the text less that of the baseline. Error as a "
    f"share of this change, changes below {SMALLEST_CHANGE:g} counted as that; passes of the method's own per text."
)


def completeness(attributions: pa.Table) -> Child:
    """A table with a row for each method that knows its completeness error; None where no method does."""
    known = attributions.filter(pc.is_valid(attributions["completeness_error"]))
    rows = [_row(method, known.filter(pc.equal(known["method"], method))) for method in known["method"].unique()]
    if not rows:
        return None
    head = tag("tr", tag("th", "Method", scope="col"), [tag("th", h, scope="col", class_="number") for h in _HEADINGS])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="plain")
    return [tag("p", _HINT, class_="hint"), tag("div", table, class_="scroll")]


def relative_errors(rows: pa.Table) -> NDArray[np.float64]:
    """[n] absolute completeness errors as shares of the change of the explained value."""
    change = _column(rows, "value") - _column(rows, "baseline_value")
    return np.abs(_column(rows, "completeness_error")) / np.maximum(np.abs(change), SMALLEST_CHANGE)


def _row(method: Any, rows: pa.Table) -> Safe:
    cells = [tag("td", text, class_="number") for text in _cells(rows)]
    return tag("tr", tag("th", str(method), scope="row"), cells)


def _cells(rows: pa.Table) -> Iterator[str]:
    errors = relative_errors(rows)
    yield f"{len(errors):,}"
    yield from (f"{value:.1e}" for value in (*np.nanquantile(errors, (0.5, 0.95)), np.nanmax(errors)))
    for passes in ("forwards", "backwards"):
        mean = pc.mean(rows[passes]).as_py()
        yield "" if mean is None else f"{mean:.1f}"


def _column(rows: pa.Table, name: str) -> NDArray[np.float64]:
    return np.array(rows[name].to_pylist(), dtype=np.float64)
