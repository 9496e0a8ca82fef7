"""Is a run what it says it is: are its files and results whole, and do its numbers come out again?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attribution.methods.registry import METHODS
from pipeline.folder import RESULTS
from pipeline.keys import file_digest
from pipeline.reopened import Reopened, as_it_ran
from pipeline.runs import Run
from pipeline.store import Store

Row = Mapping[str, Any]

LOGITS = {"float64": 1e-4, "float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}  # of the largest logit, at least of 1
NAMED = 5  # of what is wrong


@dataclass(frozen=True)
class Check:
    """What was looked at, how much of it, and what is wrong with it."""

    what: str
    checked: int
    wrong: tuple[str, ...] = ()
    note: str = ""

    @property
    def line(self) -> str:
        """The same in one line."""
        shown = "; ".join(self.wrong[:NAMED]) + ("; ..." if len(self.wrong) > NAMED else "")
        told = (
            f"{len(self.wrong)} of {self.checked} wrong: {shown}" if self.wrong else f"{self.checked} as they should be"
        )
        return f"{self.what}: {told}{f' ({self.note})' if self.note else ''}"


def verify(run: Run, n: int) -> Iterator[Check]:
    """Check files and results by their hashes, then `n` of the examples by computing them again."""
    yield check_files(run)
    yield check_results(run)
    if n:
        yield from Recomputed(run, n).checks()


def check_files(run: Run) -> Check:
    """The files of the folder against the hashes in the manifest."""
    files = run.manifest.get("files") or {}
    wrong = []
    for name, sha256 in sorted(files.items()):
        path = run.folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif file_digest(path) != sha256:
            wrong.append(f"{name} is not what was written")
    return Check("files", len(files), tuple(wrong))


def check_results(run: Run) -> Check:
    """The results in the store that the run was made of. Those that are gone can be computed again."""
    path = run.folder / RESULTS
    names = path.read_text("utf-8").splitlines() if path.is_file() else []
    if not names:
        return Check("results", 0)
    backend, absent, wrong = Store(run.config["paths"]["store"]).backend, 0, []
    for name in names:
        held = backend.read(name)
        if held is None:
            absent += 1
        elif held.facts.get("sha256") != hashlib.sha256(held.data).hexdigest():
            wrong.append(f"{name} is damaged")
    return Check("results", len(names) - absent, tuple(wrong), f"{absent} are no longer in the store" if absent else "")


@dataclass(frozen=True)
class Recomputed:
    """Some examples of a run, predicted and explained once more in this process."""

    run: Run
    n: int

    def checks(self) -> Iterator[Check]:
        """Of the logits, then of each method."""
        if self.run.manifest.get("windows"):
            yield Check("examples", 0, note="texts in windows are not computed again")
            return
        yield self._logits()
        for label, entry in (self.run.manifest.get("methods") or {}).items():
            yield self._scores(label, entry)

    @cached_property
    def _config(self) -> dict[str, Any]:
        return self.run.config

    @property
    def _dtype(self) -> str:
        return self._reopened.dtype

    @cached_property
    def _reopened(self) -> Reopened:
        return Reopened(self.run)

    @cached_property
    def _rows(self) -> list[Row]:
        """Examples with the smallest ids, which are hashes: drawn, and the same ones every time."""
        rows = self.run.table("examples").to_pylist()
        return sorted(rows, key=lambda row: str(row["item_id"]))[: self.n]

    @cached_property
    def _attributions(self) -> list[Row]:
        """Of these examples by all methods, but for those that failed."""
        table, items = self.run.table("attributions"), [row["item_id"] for row in self._rows]
        own = pc.is_in(table["item_id"], pa.array(items, pa.string()))
        return list(table.filter(pc.and_(own, pc.equal(table["status"], "ok"))).to_pylist())

    def _logits(self) -> Check:
        kept = {row["item_id"]: row["logits"] for row in self.run.table("predictions").to_pylist()}
        wrong = []
        for row in self._rows:
            found = np.array(self._reopened.predicted(self._reopened.explainer, [row])["logits"][0])
            own = np.array(kept[row["item_id"]])
            apart = float(np.abs(found - own).max())
            if not apart <= LOGITS[self._dtype] * max(1.0, float(np.abs(own).max())):
                wrong.append(f"{row['item_id'][:16]} is off by {apart:.2g}")
        return Check("logits", len(self._rows), tuple(wrong))

    def _scores(self, label: str, entry: Row) -> Check:
        """Within what the method's policy allows both of the two computations."""
        kept = {row["item_id"]: row for row in self._attributions if row["method"] == label}
        method = as_it_ran(entry)
        wrong, rows = [], [row for row in self._rows if row["item_id"] in kept]
        for row in rows:
            own = np.array(kept[row["item_id"]]["scores"])
            target = kept[row["item_id"]]["target"], kept[row["item_id"]]["target_end"]
            found = self._reopened.scores(self._reopened.explainer, row, target, method).double().cpu().numpy()
            allowed = 2 * METHODS[entry["method"]].precision.allowed(self._dtype, float(np.abs(own).max(initial=0.0)))
            apart = float(np.abs(found - own).max(initial=0.0))
            if not apart <= allowed:
                wrong.append(f"{row['item_id'][:16]} is off by {apart:.2g}, {allowed:.2g} is allowed")
        return Check(label, len(rows), tuple(wrong))
