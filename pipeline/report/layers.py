"""How well each layer decodes to the words of texts, and which one was chosen: a picture and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.layer_choice import COMPREHENSIVENESS
from pipeline.report.html import Child, Safe, number, tag

Curve = Sequence[float]
Curves = dict[tuple[str, str], Curve]  # (body, metric) -> a value for each layer from 0

SHOWN = {  # metrics drawn, and what is recovered
    "in_text@10": "a word of the text",
    "recovery@10": "their own word",
    "recovery@1": "their own word first of all",
}
BODIES = {"explained": "the model explained", "pretrained": "before fine-tuning"}
WAYS = {
    "faithful": "the most comprehensive maps among the layers where at least half of the positions decode to a word of "
    "the text",
    "coherent": "the latest layer with nine tenths of the best recovery of the own word",
    "most_coherent": "the best recovery of the own word",
}
_HINT = (
    "Share of the positions of words where the ten words that a layer decodes to hold their own, or any word of the "
    "text. Layer 0 are the embeddings."
)
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 680, 240, 46, 18, 12, 40
_DASHES = {"explained": "none", "pretrained": "7 3"}


def layers(manifest: Mapping[str, Any], table: pa.Table) -> Child:
    """The choice of a run; None where nothing was to be chosen."""
    chosen = manifest.get("layer_choice")
    if not chosen or not table.num_rows:
        return None
    curves = _curves(table)
    return [
        tag("h3", "Which layer"),
        tag("p", *_said(chosen)),
        _maps(table),
        tag("p", _HINT, class_="hint"),
        _figure({about: curve for about, curve in curves.items() if about[1] in SHOWN}, chosen["layer"]),
        _numbers(table, chosen["layer"]),
    ]


def _said(chosen: Mapping[str, Any]) -> list[Child]:
    left_out = f"; {chosen['left_out']} that are explained were left out" if chosen["left_out"] else ""
    return [
        tag("b", f"Layer {chosen['layer']}"),
        f" was chosen for {', '.join(chosen['methods'])}: {WAYS[chosen['choose']]} ({chosen['choose']}), on "
        f"{chosen['texts']} texts without their labels from {chosen['source']}{left_out}.",
    ]


def _maps(table: pa.Table) -> Child:
    """What decided, where it was not coherence; layers that cannot be read have none."""
    found = {row["layer"]: row["value"] for row in table.to_pylist() if row["metric"] == COMPREHENSIVENESS}
    said = ", ".join(f"{layer}: {number(value)}" for layer, value in sorted(found.items()))
    return tag("p", f"Mean comprehensiveness of the maps by layer: {said}.") if found else None


def _curves(table: pa.Table) -> Curves:
    found: dict[tuple[str, str], list[float]] = {}
    for row in sorted(table.to_pylist(), key=lambda row: int(row["layer"])):
        found.setdefault((row["body"], row["metric"]), []).append(row["value"])
    return {about: found[about] for body in BODIES for metric in SHOWN if (about := (body, metric)) in found}


def _figure(curves: Curves, chosen: int) -> Safe:
    last = max(len(curve) for curve in curves.values()) - 1

    def x(layer: float) -> float:
        return _LEFT + layer / max(1, last) * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    looks = {about: (f"line c{list(SHOWN).index(about[1])}", _DASHES[about[0]]) for about in curves}
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    marks: list[Child] = [
        [tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y(s):.1f}", y2=f"{y(s):.1f}") for s in shares],
        [tag("text", f"{s:.0%}", x=_LEFT - 8, y=f"{y(s) + 4:.1f}", text_anchor="end") for s in shares],
        [tag("text", str(n), x=f"{x(n):.1f}", y=_HEIGHT - _BOTTOM + 18, text_anchor="middle") for n in range(last + 1)],
        tag("line", class_="chosen", x1=f"{x(chosen):.1f}", x2=f"{x(chosen):.1f}", y1=_TOP, y2=_HEIGHT - _BOTTOM),
        tag("text", "layer", x=_WIDTH - _RIGHT, y=_HEIGHT - 4, text_anchor="end"),
    ]
    lines = [
        tag("g", _line([(x(n), y(value)) for n, value in enumerate(curve)], looks[about][1]), class_=looks[about][0])
        for about, curve in curves.items()
    ]
    about = f"share of positions that decode to words of the text by layer; layer {chosen} was chosen"
    svg = tag("svg", marks, lines, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=about)
    legend = tag("ul", [_key(each, *looks[each]) for each in curves], class_="legend", aria_label="Curves")
    caption = tag("figcaption", tag("b", "Decoding by layer"), f" · the upright line is the layer chosen, {chosen}")
    return tag("figure", caption, tag("div", tag("div", svg, class_="plot"), legend, class_="chart"))


def _line(points: Iterable[tuple[float, float]], dash: str) -> Safe:
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), stroke_dasharray=dash)


def _key(about: tuple[str, str], look: str, dash: str) -> Safe:
    line = tag("line", x1=0, x2=26, y1=5, y2=5, stroke_dasharray=dash)
    swatch = tag("svg", line, viewBox="0 0 26 10", aria_hidden="true", class_=look)
    body, metric = about
    return tag("li", swatch, f" {SHOWN[metric]}, {BODIES[body]}")


def _numbers(table: pa.Table, chosen: int) -> Safe:
    """Every statistic of every layer."""
    cells = {(row["body"], row["metric"], row["layer"]): row["value"] for row in table.to_pylist()}
    n_layers = 1 + max(layer for *_, layer in cells)
    heads = [tag("th", str(n), scope="col", class_="number best" if n == chosen else "number") for n in range(n_layers)]
    rows = [
        tag(
            "tr",
            tag("th", metric, scope="row"),
            tag("td", BODIES[body]),
            [tag("td", number(cells.get((body, metric, n))), class_="number") for n in range(n_layers)],
        )
        for body, metric in dict.fromkeys((body, metric) for body, metric, _ in cells)
    ]
    head = tag("tr", tag("th", "Statistic", scope="col"), tag("th", "Body", scope="col"), heads)
    plain = tag("table", tag("thead", head), tag("tbody", rows), class_="plain")
    return tag("details", tag("summary", "Numbers of all layers"), tag("div", plain, class_="scroll"))
