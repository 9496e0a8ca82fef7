"""What is kept of a night: its verdict in each form, and its line of the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import write_atomically
from pipeline.regression.decide import IMPROVED
from pipeline.regression.formats import junit, markdown
from pipeline.regression.page import page
from pipeline.regression.verdict import Verdict
from pipeline.runs import Run


def write_verdict(verdict: Verdict, run: Run, nights: Sequence[Mapping[str, Any]], texts: bool) -> list[Path]:
    """Put the documents into the run's folder; `texts` says whether the page may show texts of the data."""
    documents = {
        "verdict.json": verdict.to_json(),
        "verdict.md": markdown(verdict),
        "verdict.html": page(verdict, _texts(run, verdict) if texts else {}, nights),
        "junit.xml": junit(verdict),
    }
    for name, document in documents.items():
        write_atomically(run.folder / name, document.encode())
    return [run.folder / name for name in documents]


def _texts(run: Run, verdict: Verdict) -> dict[str, str]:
    """The texts of the examples that moved."""
    wanted = {move.item_id for move in verdict.moved}
    rows = run.table("examples", ["item_id", "text", "text_b"]).to_pylist()
    return {
        row["item_id"]: " / ".join(filter(None, (row["text"], row["text_b"])))
        for row in rows
        if row["item_id"] in wanted
    }


def history_line(verdict: Verdict) -> dict[str, Any]:
    """What `nights.jsonl` keeps of a night."""
    return {
        "night": verdict.night,
        "started": verdict.started,
        "finished": verdict.finished,
        "exit_code": verdict.exit_code,
        "verdict": verdict.verdict,
        "reasons": verdict.reasons,
        "findings": [str(finding) for finding in verdict.loud if finding.level != IMPROVED],
        "means": {" ".join(finding.key): finding.candidate for finding in verdict.compared},
        "champion": verdict.champion.name if verdict.champion else None,
        "run_id": verdict.candidate.run_id if verdict.candidate else None,
    }
