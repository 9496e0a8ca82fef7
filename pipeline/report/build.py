"""Puts the report together: one page that needs nothing but itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.operators import other_operator
from pipeline.recommendation import recommendation
from pipeline.report.alignment import alignment
from pipeline.report.attention import attention_view
from pipeline.report.chart import charts
from pipeline.report.completeness import COLUMNS, completeness
from pipeline.report.conservation import COLUMNS as CONSERVED
from pipeline.report.conservation import conserved
from pipeline.report.curves import mean_curves
from pipeline.report.decoded import COLUMNS as DECODED
from pipeline.report.decoded import decoded
from pipeline.report.disagreement import disagreement
from pipeline.report.errors import Errors, errors_section
from pipeline.report.finding import finding, title
from pipeline.report.head_table import agreement, alike, every_head, found_by_chance, rankings
from pipeline.report.headmap import head_map
from pipeline.report.html import Child, Safe, data_script, join, number, tag
from pipeline.report.layers import layers
from pipeline.report.leaderboard import Board, comparisons, leaderboard
from pipeline.report.page import asset, document
from pipeline.report.patterns import patterns
from pipeline.report.provenance import provenance
from pipeline.report.shares import kind_shares, share_table
from pipeline.report.texts import Texts
from pipeline.report.verdict import verdict_section
from pipeline.runs import REPORT, Run
from pipeline.standing import standings


def build_report(
    run_folder: Path, *, texts: Literal["full", "sample", "none"] | str, examples: int, attention: int = 0
) -> Path:
    """Write `report.html` into a run folder and return its path.

    `texts`: `full` embeds as many texts as a page can hold, `sample` at most `examples`, `none` not a token of them.
    `examples` is also how many the page shows at first. `attention`: of how many short texts the page has that of every
    head, for which the run's model is loaded.
    """
    page = render(Run(run_folder), texts, examples, attention)
    path = run_folder / REPORT
    partial = path.with_suffix(f".{os.getpid()}.new")
    partial.write_text(page, "utf-8")
    return partial.replace(path)


def render(run: Run, texts: str, examples: int, attention: int = 0) -> str:
    """The page."""
    measured = [entry for entry in standings(run.table("metrics").to_pylist()) if not other_operator(entry.metric)]
    board = Board(measured, run.manifest)
    found = _sections(run, board, texts, examples, attention)
    sections = [(name, anchor, content) for name, anchor, content in found if content]
    navigation = tag("nav", [tag("a", name, href=f"#{anchor}") for name, anchor, _ in sections], aria_label="Sections")
    body = [tag("section", tag("h2", name), content, id=anchor) for name, anchor, content in sections]
    content = join(_header(run, board), navigation, tag("main", body))
    return document(f"{run.manifest.get('name')} · Headlight", content, script=asset("page.js"))


def _sections(run: Run, board: Board, texts: str, examples: int, attention: int) -> Iterator[tuple[str, str, Child]]:
    data = Texts.of(run, board.metrics[0] if board.metrics else None)
    controls = frozenset(label for label in board.labels if board.control(label))
    yield "Verdict", "verdict", verdict_section(recommendation(run))
    yield "Methods", "methods", _methods(board)
    curves = [curve for curve in mean_curves(run.table("curves")) if np.isfinite(curve.mean).all()]
    yield "Perturbation curves", "curves", charts(curves, board.labels, controls)
    yield "Completeness", "completeness", completeness(run.table("attributions", COLUMNS))
    yield "Conservation", "conservation", conserved(run.table("attributions", CONSERVED))
    yield (
        "Cues, layer by layer",
        "cues",
        alignment(*(run.table(name) for name in ("alignment_means", "probes", "profiles"))),
    )
    yield "Decoded layers", "decoded", _decoded(run, data, texts)
    yield "Errors", "errors", _errors(run, data, texts, examples)
    explaining = [label for label in board.labels if label not in controls]
    yield "Where methods differ", "disagreement", disagreement(data, explaining, data.showable(texts, examples))
    yield "Texts", "texts", _texts(data, board, texts, examples)
    yield "Heads", "heads-section", _heads(run, attention_view(run, attention, data.showable(texts, examples)))
    yield "Attention patterns", "patterns", patterns(run.table("patterns"), run.table("arms"))
    yield "Where the attribution goes", "shares", _shares(data, board)
    yield "Notes", "notes", _notes(run, data)
    yield "Provenance", "provenance", provenance(run)


def _header(run: Run, board: Board) -> Safe:
    manifest = run.manifest
    sentences = finding(board.entries, manifest)
    lead = tag("p", sentences[0], class_="finding")
    more = [tag("p", sentence, class_="finding more") for sentence in sentences[1:]]
    facts = [tag("div", tag("dt", name), tag("dd", text)) for name, text in _facts(manifest)]
    name = tag("h1", str(manifest.get("name")))
    return tag(
        "header", tag("p", "Headlight report", class_="eyebrow"), name, lead, more, tag("dl", facts, class_="tiles")
    )


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model, data = manifest.get("model") or {}, manifest.get("dataset") or {}
    yield "model", str(model.get("name"))
    yield "data", " ".join(str(data[key]) for key in ("name", "split") if data.get(key))
    yield "examples", f"{data.get('n', 0):,}"
    if manifest.get("accuracy") is not None:
        yield "accuracy", number(manifest["accuracy"])
    if manifest.get("majority_rate") is not None:
        yield "majority rate", number(manifest["majority_rate"])
    seconds = sum((manifest.get("timings") or {}).values())
    yield "time", f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.0f} s"


def _methods(board: Board) -> Child:
    if not board.metrics:
        return None
    kind = "intervals that hold wherever one stops" if board.manifest.get("budget") else "bootstrap intervals"
    hint = f"Means over examples with 95 % {kind}; the tick in a strip marks random scores. Headings sort."
    pairs = "Paired differences, example by example, with 95 % intervals: ▲ better, ▼ worse, ≈ the interval holds 0."
    differences = comparisons(board)
    below = tag("div", tag("p", pairs, class_="hint"), differences, class_="pair") if differences else None
    return [tag("p", hint, class_="hint"), leaderboard(board), below]


def _texts(data: Texts, board: Board, texts: str, examples: int) -> Child:
    if texts == "none":
        return tag("p", "Texts are left out of this report (report.texts=none).", class_="hint")
    methods = [label for label in board.labels if label in data.scores]
    chosen = data.chosen(methods, examples if texts == "sample" else None)
    if not chosen:
        return None
    payload = data.payload(methods, chosen) | {"page": examples, "title": title(data.metric or "")}
    left_out = (
        f"{len(chosen):,} of {len(data.examples):,} texts are in this page." if len(chosen) < len(data.examples) else ""
    )
    options = [tag("option", label, value=str(index)) for index, label in enumerate(methods)]
    metric = title(data.metric) if data.metric else "value"
    orders = {
        "best": f"best {metric} first",
        "worst": f"worst {metric} first",
        "data": "in data order",
        "wrong": "wrong predictions",
    }
    controls = [
        tag("label", "Method ", tag("select", options, id="text-method")),
        tag(
            "label",
            "Order ",
            tag("select", [tag("option", name, value=key) for key, name in orders.items()], id="text-order"),
        ),
        tag("label", "Find ", tag("input", type="search", id="text-find", placeholder="words")),
        tag("label", tag("input", type="checkbox", id="text-all"), " special tokens in the scale"),
        tag("label", tag("input", type="checkbox", id="text-numbers"), " show numbers"),
    ]
    key = tag("p", _key(data), left_out, class_="hint")
    listed = tag("ol", class_="cards", id="cards")
    more = tag("button", "Show more", type="button", id="text-more", class_="more-button")
    count = tag("p", class_="hint", id="text-count", aria_live="polite")
    without = tag("noscript", tag("p", "The coloured texts need JavaScript; all tables above and below do not."))
    return [
        tag("div", controls, class_="controls"),
        key,
        count,
        listed,
        more,
        without,
        data_script(payload, id="text-data"),
    ]


def _key(data: Texts) -> list[Child]:
    """What colours, underlines and outlines of tokens mean."""
    supports, against = (
        tag("span", "supports", class_="token for"),
        tag("span", "speaks against", class_="token against"),
    )
    words: list[Child] = [supports, " the explained class, ", against, " it; strongest at the text's largest score. "]
    if any(row["answer_start"] is not None for row in data.examples):
        words += [tag("span", "Outlined", class_="token gold"), ": the gold answer. "]
    if any(row["rationale"] is not None for row in data.examples):
        words += [tag("span", "Overlined", class_="token marked"), ": what a person marked. "]
    return words


def _decoded(run: Run, data: Texts, texts: str) -> Child:
    found = decoded(run.manifest, run.table("attributions", DECODED), data, texts)
    return [found, layers(run.manifest, run.table("layers"))] if found else None


def _errors(run: Run, data: Texts, texts: str, examples: int) -> Child:
    explained, words = (run.table(name).to_pylist() for name in ("errors", "error_words"))
    shown = frozenset(data.showable(texts, examples))
    return errors_section(Errors(run.manifest, data, explained, words if texts != "none" else None, shown))


def _heads(run: Run, attention: Child) -> Child:
    rows, model = run.table("heads").to_pylist(), run.manifest.get("model") or {}
    if not rows:
        return attention
    layers = model.get("n_layers") or 1 + max(row["layer"] for row in rows)
    heads = model.get("n_heads") or 1 + max(row["head"] for row in rows)
    return [
        head_map(rows, layers, heads),
        attention,
        every_head(rows),
        rankings(run.table("rankings"), run.table("pruning")),
        agreement(rows),
        found_by_chance(run.table("head_controls")),
        alike(run.table("head_clusters")),
    ]


def _shares(data: Texts, board: Board) -> Child:
    if not data.scores or not data.examples:
        return None
    shares = {label: kind_shares(*data.of_method(label)) for label in board.labels}
    counts = np.array([np.bincount(kind, minlength=3) / len(kind) for kind in data.kinds])
    hint = "Mean share of the absolute scores; above it, for comparison, the share of the tokens themselves."
    return [tag("p", hint, class_="hint"), share_table(shares, counts.mean(axis=0))]


def _notes(run: Run, data: Texts) -> Child:
    items = [tag("li", note) for note in _note_texts(run, data)]
    return tag("ul", items, class_="notes") if items else None


def _note_texts(run: Run, data: Texts) -> Iterator[str]:
    manifest = run.manifest
    truncated = manifest.get("truncated") or {}
    if truncated.get("examples"):
        count, tokens = truncated["examples"], truncated["tokens"]
        share = f" ({truncated['share']:.1%} of all)" if "share" in truncated else ""
        yield f"{count} of the texts were longer than the model takes: {tokens} tokens were cut off{share}."
    if windows := manifest.get("windows"):
        yield (
            f"{windows['texts']} of the texts were longer than {windows['length']} tokens: explained in "
            f"{windows['windows']} windows, joined to one explanation each."
        )
    divided = manifest.get("divided")
    for stage, count in divided.items() if isinstance(divided, Mapping) else ():
        yield (
            f"{count} tasks of {stage} were computed in parts for want of memory; their numbers may differ in the last "
            "digit from those of a machine with more."
        )
    for method, scores in data.scores.items():
        undefined = sum(not np.isfinite(score).all() for score in scores.values())
        if undefined:
            yield f"{method} has no defined scores for {undefined} of {len(scores)} texts."
    for failure in manifest.get("failures") or []:
        yield f"Failed: {_failure(failure)}"
    yield from (manifest.get("dataset") or {}).get("notes") or []


def _failure(failure: Any) -> str:
    """Which task failed and why; tracebacks stay in the manifest."""
    if not isinstance(failure, Mapping):
        return str(failure)
    return ", ".join(f"{key} {value}" for key, value in failure.items() if value and key != "traceback")
