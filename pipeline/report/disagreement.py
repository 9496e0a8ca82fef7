"""Who says the same, and the texts on which methods differ most, the two that agree least side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attribution.rendering import html_fragment
from evaluation.disagreement import Disagreement, disagreements, spread_out
from evaluation.likeness import likeness
from pipeline.report.finding import title
from pipeline.report.html import Child, Safe, number, tag
from pipeline.report.likeness import likeness_figure
from pipeline.report.shares import SPECIAL
from pipeline.report.texts import Texts

SHOWN = 6


def disagreement(data: Texts, methods: Sequence[str], rows: Sequence[int]) -> Child:
    """The section about these methods: a tree from all examples, and of those in `rows` some that tell them apart.

    None where no two methods can be compared.
    """
    scores = {label: data.scores[label] for label in methods if label in data.scores}
    words = [kinds != SPECIAL for kinds in data.kinds]
    items = [example["item_id"] for example in data.examples]
    alike = likeness(scores, dict(zip(items, words, strict=True)))
    apart = disagreements(scores, {items[row]: words[row] for row in rows})
    if alike is None and not apart:
        return None
    return [None if alike is None else likeness_figure(alike), _opposed(apart, len(scores), data)]


def _opposed(found: Sequence[Disagreement], n_methods: int, data: Texts) -> Child:
    if not found:
        return None
    hint = (
        f"Of {len(found):,} texts those on which {n_methods} methods put the tokens in the most different orders "
        f"(mean Spearman correlation of every two; {number(_mean(found), 2)} over all), with the two methods that "
        "agree least. Special tokens are left out; colours are relative to a map's largest score."
    )
    places = {row["item_id"]: place for place, row in enumerate(data.examples)}
    cards = [_card(each, places[each.item], data) for each in spread_out(found, SHOWN)]
    return [tag("p", hint, class_="hint"), tag("ol", cards, class_="cards")]


def _mean(found: Sequence[Disagreement]) -> float:
    return float(np.mean([each.agreement for each in found]))


def _card(each: Disagreement, place: int, data: Texts) -> Safe:
    facts = [tag("b", f"#{data.examples[place]['row_index']}"), *map(_fact, _facts(each, place, data))]
    sides = [_side(label, each.item, place, data) for label in (each.first, each.second)]
    return tag("li", tag("div", facts, class_="facts"), tag("div", sides, class_="sides"), class_="card")


def _fact(text: str) -> Safe:
    return tag("span", text)


def _facts(each: Disagreement, place: int, data: Texts) -> list[str]:
    row, predicted = data.examples[place], data.predictions.get(each.item) or {}
    said = [f"mean correlation {number(each.agreement, 2)}", f"of these two {number(each.correlation, 2)}"]
    if row["label_name"] is not None:
        said.append(f"label {row['label_name']}")
    return [*said, *_predicted(predicted, data.run.manifest)]


def _predicted(predicted: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    if predicted.get("predicted") is None or predicted.get("predicted_end") is not None:
        return []
    names = (manifest.get("model") or {}).get("labels") or {}
    index = predicted["predicted"]
    return [f"predicted {names.get(str(index), index)}"]


def _side(label: str, item: str, place: int, data: Texts) -> Safe:
    """One method's map, and what it is worth on this text."""
    kept = data.kinds[place] != SPECIAL
    pieces = [piece for piece, shown in zip(data.pieces[place], kept, strict=True) if shown]
    value = data.values.get(label, {}).get(item)
    worth = None if value is None or data.metric is None else f"{title(data.metric)} {number(value)}"
    line = Safe(html_fragment(pieces, data.scores[label][item][kept].tolist()))
    return tag("div", tag("h4", label, tag("small", worth)), tag("p", line, class_="text"))
