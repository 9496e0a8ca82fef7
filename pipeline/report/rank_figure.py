"""Mean ranks of methods as a picture, with the critical difference (Demsar 2006)."""

from __future__ import annotations

from evaluation.statistics import CriticalDifference
from pipeline.report.html import Safe, tag

_WIDTH, _ROW, _LETTER = 680, 18, 7
_TICKS = 20  # ranks that are all written


def rank_figure(ranks: CriticalDifference, over: str) -> Safe:
    """Mean ranks over so many examples, or runs, with the critical difference."""
    hint = (
        f"Mean rank over {ranks.n} {over}, 1 being the best; a bar joins methods closer than the critical difference "
        f"of {ranks.difference:.2f} (Nemenyi)."
    )
    return tag(
        "figure", tag("figcaption", tag("b", "Critical difference"), f" · {hint}"), _picture(ranks), class_="drawing"
    )


def _picture(ranks: CriticalDifference) -> Safe:
    size, bars = len(ranks.methods), len(ranks.groups)
    top, side = 24 + 8 * bars, 16 + _LETTER * max(len(f"{name} 00.00") for name in ranks.methods)
    height = top + _ROW * size + 6

    def x(rank: float) -> float:
        return round(side + (rank - 1) / max(1, size - 1) * (_WIDTH - side - 20), 1)

    shown = range(1, size + 1, 1 if size <= _TICKS else 5)
    ticks = [tag("text", str(rank), x=x(rank), y=12, text_anchor="middle", font_size=11) for rank in shown]
    place = dict(zip(ranks.methods, ranks.mean_ranks, strict=True))
    joined = [
        _line(x(place[group[0]]) - 3, 20 + 8 * row, x(place[group[-1]]) + 3, 20 + 8 * row, 4)
        for row, group in enumerate(ranks.groups)
    ]
    names = [
        [
            tag("text", f"{name} {rank:.2f}", x=4, y=top + _ROW * row + 12, font_size=12),
            _line(side - 4, top + _ROW * row + 8, x(rank), top + _ROW * row + 8, 0.5),
            _line(x(rank), 16, x(rank), top + _ROW * row + 8, 0.5),
        ]
        for row, (name, rank) in enumerate(place.items())
    ]
    about = "Mean ranks of the methods with the critical difference"
    return tag("svg", ticks, joined, names, viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=about)


def _line(x1: float, y1: float, x2: float, y2: float, width: float) -> Safe:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_width=width)
