"""How much of what is explained arrives as relevance, for methods that are meant to conserve it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from pipeline.conservation import Facts, conservation_table, conserved_facts
from pipeline.report.html import Child, Safe, number, tag

COLUMNS = ["method", "facts"]
_HEADINGS = {
    "n": "texts",
    "slope": "slope",
    "correlation": "correlation",
    "relative_error": "relative error",
    "relevance": "tokens",
    "absorbed_by_biases": "biases",
    "absorbed_by_positions": "positions",
    "lost": "lost",
}
_HINT = (
    "The sum of a text's relevance against what is explained of it: on the line all of it arrives at the tokens. "
    "The relative error is the mean distance from that, as a share of what is explained. "
    "Shares of what is explained: what tokens hold, what biases absorbed, what positions and token types absorbed, "
    "what the rules lost."
)
_SIZE, _EDGE, _MOST = 220, 12, 500


def conserved(attributions: pa.Table) -> Child:
    """A table and a figure for each method that knows what it conserves; None where no method does."""
    facts = conserved_facts(attributions)
    if not facts:
        return None
    rows = [_row(row) for row in conservation_table(attributions).to_pylist()]
    heads = [tag("th", heading, scope="col", class_="number") for heading in _HEADINGS.values()]
    head = tag("thead", tag("tr", tag("th", "Method", scope="col"), heads))
    table = tag("table", head, tag("tbody", rows), class_="plain")
    figures = tag("div", [_figure(label, points) for label, points in facts.items()], class_="scatters")
    return [tag("p", _HINT, class_="hint"), tag("div", table, class_="scroll"), figures]


def _row(row: Mapping[str, float]) -> Safe:
    cells = [tag("td", str(row[n]) if n == "n" else number(row[n]), class_="number") for n in _HEADINGS]
    return tag("tr", tag("th", str(row["method"]), scope="row"), cells)


def _figure(label: str, facts: Facts) -> Safe:
    """A point for each text, at most 500 of them, and the line where both are equal."""
    x, y = facts["explained"][:_MOST], facts["relevance"][:_MOST]
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    span = high - low or 1.0
    right, down = _EDGE + (x - low) / span * (_SIZE - 2 * _EDGE), _SIZE - _EDGE - (y - low) / span * (_SIZE - 2 * _EDGE)
    points = [tag("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=2.5) for a, b in np.column_stack((right, down))]
    line = tag("line", class_="grid", x1=_EDGE, y1=_SIZE - _EDGE, x2=_SIZE - _EDGE, y2=_EDGE)
    about = f"{label}: sum of relevance (upwards) against what is explained (to the right), {low:.3g} to {high:.3g}"
    svg = tag("svg", line, points, viewBox=f"0 0 {_SIZE} {_SIZE}", role="img", aria_label=about)
    return tag("figure", svg, tag("figcaption", tag("b", label), f" · {low:.3g} to {high:.3g}"))
