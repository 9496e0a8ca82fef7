"""The verdict as a page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from pipeline.regression.decide import Finding, title
from pipeline.regression.verdict import Drift, Move, Party, Verdict
from pipeline.report.html import Child, Safe, join, number, signed, tag

_STYLE = files("pipeline.report") / "assets" / "page.css"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"
_NIGHTS = 60  # shown

Row = Mapping[str, Any]


def page(verdict: Verdict, texts: Mapping[str, str], nights: Sequence[Row]) -> str:
    """The document. `texts` are those of the examples that moved, empty where they are not to be shown."""
    sections = [(name, anchor, content) for name, anchor, content in _sections(verdict, texts, nights) if content]
    navigation = tag("nav", [tag("a", name, href=f"#{anchor}") for name, anchor, _ in sections], aria_label="Sections")
    body = [tag("section", tag("h2", name), content, id=anchor) for name, anchor, content in sections]
    head = [
        Safe('<meta charset="utf-8">'),
        Safe(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Safe('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", f"{verdict.verdict} · {verdict.night} · Headlight"),
        tag("style", Safe(_STYLE.read_text("utf-8"))),
    ]
    document = tag("html", tag("head", head), tag("body", _header(verdict), navigation, tag("main", body)), lang="en")
    return f"<!doctype html>\n{document}\n"


def _header(verdict: Verdict) -> Safe:
    facts = [
        ("verdict", verdict.verdict),
        ("exit code", str(verdict.exit_code)),
        ("champion", verdict.champion.name if verdict.champion else "none"),
        ("may differ", ", ".join(verdict.vary) or "nothing"),
    ]
    tiles = [tag("div", tag("dt", name), tag("dd", text)) for name, text in facts]
    eyebrow, name = tag("p", "Headlight regression", class_="eyebrow"), tag("h1", verdict.night)
    return tag("header", eyebrow, name, tag("p", verdict.summary(), class_="finding"), tag("dl", tiles, class_="tiles"))


def _sections(verdict: Verdict, texts: Mapping[str, str], nights: Sequence[Row]) -> Iterator[tuple[str, str, Child]]:
    yield "Findings", "findings", _listed([*verdict.reasons, *map(str, verdict.loud), *verdict.notes])
    yield "What differs", "differs", _listed([str(departure) for departure in verdict.departures])
    yield "Comparisons", "comparisons", _table(COMPARISON, verdict.compared)
    moved: dict[str, Callable[[Move], Child]] = dict(MOVED)
    if texts:
        moved["text"] = lambda move: texts.get(move.item_id, "")
    yield "Examples that moved most", "moved", _table(moved, verdict.moved)
    since = verdict.first_champion
    hint = tag("p", f"Since {since.name}, {since.created}.", class_="hint") if since and verdict.drift else None
    yield "Drift since the first champion", "drift", [hint, _table(DRIFT, verdict.drift)] if verdict.drift else None
    yield "Previous nights", "nights", _table(NIGHT, list(reversed(nights[-_NIGHTS:])))
    yield "Runs", "runs", _table(PARTY, [party for party in (verdict.champion, verdict.candidate) if party])


def _listed(lines: Sequence[str]) -> Child:
    return tag("ul", [tag("li", line) for line in lines], class_="notes") if lines else None


def _table(columns: Mapping[str, Callable[[Any], Child]], rows: Sequence[Any]) -> Child:
    """A table of one cell function for each heading; nothing without rows."""
    if not rows:
        return None
    head = tag("tr", [tag("th", name, scope="col") for name in columns])
    body = [tag("tr", [tag("td", cell(row)) for cell in columns.values()]) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body)), class_="scroll")


def _interval(finding: Finding) -> str:
    return f"[{signed(finding.low)}, {signed(finding.high)}]"


def _differences(night: Row) -> Child:
    """What was found that night, folded where it is long."""
    found = [str(text) for text in night.get("findings") or night.get("reasons") or []]
    return join(tag("details", tag("summary", found[0]), _listed(found[1:]))) if len(found) > 1 else join(found)


COMPARISON: dict[str, Callable[[Finding], Child]] = {
    "": lambda f: f.title,
    "champion": lambda f: number(f.champion),
    "candidate": lambda f: number(f.candidate),
    "change": lambda f: signed(f.delta),
    "interval": _interval,
    "alarm line": lambda f: number(f.line),
    "tolerance": lambda f: number(f.tolerance),
    "found if at least": lambda f: number(f.detectable),
    "p (Holm)": lambda f: number(f.p),
    "examples": lambda f: str(f.n),
    "needed": lambda f: str(f.n_needed or "–"),
    "level": lambda f: f.level,
}
MOVED: dict[str, Callable[[Move], Child]] = {
    "": lambda m: title(m.method, m.metric),
    "row": lambda m: str(m.row_index),
    "champion": lambda m: number(m.champion),
    "candidate": lambda m: number(m.candidate),
    "loss": lambda m: signed(m.loss),
}
DRIFT: dict[str, Callable[[Drift], Child]] = {
    "": lambda d: title(d.method, d.metric),
    "first": lambda d: number(d.first),
    "now": lambda d: number(d.now),
    "change": lambda d: signed(d.delta),
}
NIGHT: dict[str, Callable[[Row], Child]] = {
    "night": lambda night: str(night.get("night")),
    "began": lambda night: str(night.get("started")),
    "verdict": lambda night: str(night.get("verdict")),
    "champion": lambda night: str(night.get("champion") or "–"),
    "found": _differences,
}
PARTY: dict[str, Callable[[Party], Child]] = {
    "run": lambda party: party.name,
    "id": lambda party: party.run_id,
    "made": lambda party: party.created,
    "model": lambda party: party.model or "–",
    "files": lambda party: party.folder,
}
