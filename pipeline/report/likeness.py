"""Which methods say the same, as a tree, and how much any two agree, as a table."""

from __future__ import annotations

from evaluation.likeness import Likeness
from pipeline.report.html import Safe, join, number, tag

_WIDTH, _ROW, _LETTER, _TOP = 680, 18, 7, 34
_TICKS = 5


def likeness_figure(found: Likeness) -> Safe:
    """The tree of the methods, and behind a fold the correlations."""
    hint = (
        f"Methods that join far to the left put the tokens of {found.n:,} texts in nearly the same order; where two "
        "branches join is their mean Spearman correlation (average linkage)."
    )
    caption = tag("figcaption", tag("b", "Who says the same"), f" · {hint}")
    return join(tag("figure", caption, _tree(found), class_="drawing"), _table(found))


def _tree(found: Likeness) -> Safe:
    size = len(found.methods)
    side, deepest = 16 + _LETTER * max(map(len, found.methods)), max(float(found.merges[:, 2].max()), 0.01)

    def x(distance: float) -> float:
        return round(side + distance / deepest * (_WIDTH - side - 30), 1)

    places = [(x(0), _TOP + _ROW * row + 4.0) for row in range(size)]  # of leaves, then of joints
    lines = []
    for first, second, distance, _ in found.merges:
        (x1, y1), (x2, y2) = places[int(first)], places[int(second)]
        at = x(float(distance))
        lines.append(tag("path", d=f"M{x1} {y1}H{at}V{y2}H{x2}", fill="none", stroke="currentColor"))
        places.append((at, (y1 + y2) / 2))
    names = [
        tag("text", name, x=side - 6, y=_TOP + _ROW * row + 8, text_anchor="end", font_size=12)
        for row, name in enumerate(found.methods)
    ]
    steps = [deepest * step / _TICKS for step in range(_TICKS + 1)]
    ticks = [tag("text", number(1 - step, 2), x=x(step), y=14, text_anchor="middle", font_size=11) for step in steps]
    about = f"Tree of {size} methods by how alike they rank tokens"
    return tag("svg", ticks, lines, names, viewBox=f"0 0 {_WIDTH} {_TOP + _ROW * size}", role="img", aria_label=about)


def _table(found: Likeness) -> Safe:
    head = tag("tr", tag("th", "Spearman"), [tag("th", name, scope="col") for name in found.methods])
    rows = [
        tag("tr", tag("th", name, scope="row"), [tag("td", number(value, 2)) for value in row])
        for name, row in zip(found.methods, found.correlations.tolist(), strict=True)
    ]
    table = tag("table", tag("thead", head), tag("tbody", rows))
    return tag("details", tag("summary", "Every two of them"), tag("div", table, class_="scroll"))
