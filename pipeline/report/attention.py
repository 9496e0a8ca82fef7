"""Every head on a few short texts, in a page that has no model behind it: what of the explorer fits into a report."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.report.html import Child, Safe, data_script, tag
from pipeline.report.texts import pieces_of
from pipeline.runs import Run

LONGEST = 48  # tokens of a text that is shown
BUDGET = 2_000_000  # bytes of attention in a page
LEVELS = 255  # a weight is told to 1/255

Row = Mapping[str, Any]


def attention_view(run: Run, count: int, showable: Iterable[int]) -> Child:
    """The first `count` short texts of those that may be shown; None where there is none, or none is asked for.

    Loads the run's model: InputError where it is no longer there.
    """
    rows = run.table("examples").to_pylist() if count else []
    short = [rows[index] for index in sorted(showable) if len(rows[index]["input_ids"]) <= LONGEST] if rows else []
    texts = list(_fitting(_packed(run, short[:count]))) if short else []
    if not texts:
        return None
    layers, heads = texts[0]["shape"]
    payload = {"layers": layers, "heads": heads, "levels": LEVELS, "texts": [_told(each) for each in texts]}
    hint = "Choose a head, or click one in the map above; click a token, or use arrow keys, to see whom it attends to."
    return [
        tag("h3", "One head, one text"), tag("p", hint, class_="hint"), _controls(texts, layers, heads),
        tag("p", class_="text numbers", id="attention", role="listbox", aria_label="tokens"),
        tag("p", class_="hint", id="attention-told", aria_live="polite"), data_script(payload, id="attention-data"),
    ]  # fmt: skip


def _controls(texts: Sequence[Row], layers: int, heads: int) -> Safe:
    named = [tag("option", _title(each["pieces"]), value=str(number)) for number, each in enumerate(texts)]
    all_heads = [(layer, head) for layer in range(layers) for head in range(heads)]
    options = [tag("option", f"{layer}.{head}", value=f"{layer}.{head}") for layer, head in all_heads]
    choices = (tag("label", "Text ", tag("select", named, id="attention-text")),
               tag("label", "Head ", tag("select", options, id="attention-head")))  # fmt: skip
    return tag("div", *choices, class_="controls")


def _title(pieces: Sequence[str]) -> str:
    text = "".join(pieces).strip()
    return text if len(text) <= 60 else f"{text[:59]}\u2026"


def _packed(run: Run, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Attention of each text [L, H, N, N] in bytes."""
    import torch

    from pipeline.reopened import Reopened

    reopened = Reopened(run)
    for row in rows:
        layers = reopened.explainer.adapter.attentions(reopened.inputs([row]))
        whole = torch.stack([each[0] for each in layers]).float().cpu()
        data = (LEVELS * whole).round().to(torch.uint8).numpy().tobytes()
        yield {"shape": whole.shape[:2], "pieces": pieces_of(row), "data": data}


def _fitting(texts: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """As many as the page has room for."""
    size = 0
    for each in texts:
        size += len(each["data"])
        if size > BUDGET:
            return
        yield each


def _told(text: Row) -> dict[str, Any]:
    return {"t": text["pieces"], "a": base64.b64encode(text["data"]).decode("ascii")}
