"""Looks at a run while examples are added: is the verdict decided, or the time for it spent?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evaluation.statistics import reason_to_stop
from evaluation.statistics.sequential import EXHAUSTED, FIRST_LOOK, SPENT
from evaluation.verdict import Verdict
from pipeline.duration import seconds
from pipeline.execution.progress import clock_time
from pipeline.files import reported
from pipeline.folder import write_json
from pipeline.manifest import described
from pipeline.recommendation import sentence, verdict_so_far
from pipeline.rounds import Draw
from pipeline.standing import leading_metric
from pipeline.values import run_values

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

RECORD = "rounds.json"
SHOWN = 4  # methods that a line names


@dataclass
class Looks:
    """What has passed after each round, kept in a folder: a run that goes on or is repeated stops where it would have.

    Time is that of the clock on the wall. The time of a round that was cut off is not counted; its results are kept.
    """

    draw: Draw
    budget: str
    folder: Path
    passed: list[float] = field(default_factory=list)  # seconds after each round that is done
    stopped: str | None = None

    def __post_init__(self) -> None:
        self._limit = seconds(self.budget)
        self._known, self._since = self._recorded(), time.monotonic()

    @property
    def judges(self) -> bool:
        """Whether the round under way ends with a verdict: earlier, no mean is near normal."""
        size = self.draw.sizes[len(self.passed)]
        return size >= FIRST_LOOK or size == self.draw.sizes[-1]

    def end_round(self, found: Verdict | None) -> str:
        """Count a round; sets `stopped` where it is the last, and returns what there is to say."""
        self._count()
        decided = found is not None and found.decided
        self.stopped = reason_to_stop(decided, self.draw.sizes, self.passed, self._limit)
        return f"{self._progress()}: {self._judged(found)}{self._outlook()}"

    def record(self) -> dict[str, Any]:
        """What the manifest says of it."""
        about = {"budget": self.budget, "stopped": self.stopped, "of": self.draw.sizes[-1]}
        return {**about, "examples": self._size, "seconds": self.passed[-1], "rounds": self._rounds()}

    @property
    def _size(self) -> int:
        return self.draw.sizes[len(self.passed) - 1]

    def _count(self) -> None:
        """A round that was done before takes what it took then."""
        done, now = len(self.passed), time.monotonic()
        before = self.passed[-1] if self.passed else 0.0
        again = done < len(self._known)
        self.passed.append(self._known[done] if again else round(before + now - self._since, 3))
        self._since = now
        if not again:
            with reported(f"paths.runs={self.folder.parent}", f"{self.folder.name}/{RECORD}", "written"):
                write_json(self.folder / RECORD, {"order": self.draw.key, "rounds": self._rounds()})

    def _rounds(self) -> list[dict[str, float]]:
        pairs = zip(self.draw.sizes, self.passed, strict=False)
        return [{"examples": size, "seconds": taken} for size, taken in pairs]

    def _recorded(self) -> list[float]:
        """Seconds after each round of the same examples that the folder knows of."""
        try:
            known = json.loads((self.folder / RECORD).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return []
        rounds = known["rounds"] if known.get("order") == self.draw.key else []
        return [float(each["seconds"]) for each in rounds]

    def _progress(self) -> str:
        taken = f"{clock_time(self.passed[-1])} of {clock_time(self._limit)}"
        return f"{self._size:,} of {self.draw.sizes[-1]:,} examples, {taken}"

    def _judged(self, found: Verdict | None) -> str:
        if found is not None:
            return sentence(found, most=SHOWN)
        return f"too few to judge, which takes {FIRST_LOOK}." if self._size < FIRST_LOOK else "nothing to judge by."

    def _outlook(self) -> str:
        if self.stopped == EXHAUSTED:
            return " There are no more examples."
        if self.stopped != SPENT:
            return ""
        more = self.draw.sizes[len(self.passed)] - self._size
        return f" The budget is spent: {more} more examples, the next round, would not fit into it."


def look(experiment: Experiment, looks: Looks, finish: Callable[[], None]) -> None:
    """Judge by the examples explained so far, and finish with these where that is enough."""
    started, facts = time.perf_counter(), experiment.facts
    with _only(experiment, looks.draw.reached(len(looks.passed) + 1)):
        line = looks.end_round(_judged(experiment) if looks.judges else None)
        facts.timings["score"] = facts.timings.get("score", 0.0) + time.perf_counter() - started
        if not looks.stopped:
            experiment.say(line)
            return
        experiment.note_down(line)
        facts.budget = looks.record()
        finish()


def _judged(experiment: Experiment) -> Verdict | None:
    """The verdict so far, by the metric that ranks the methods."""
    metric = leading_metric(experiment.config.evaluation.metrics)
    about = {"methods": described(experiment.config, experiment.methods)}
    return None if metric is None else verdict_so_far(run_values(experiment, metric), about)


@contextmanager
def _only(experiment: Experiment, rows: Sequence[int]) -> Iterator[None]:
    """The experiment with these examples, as if there were no others."""
    prepared, predictions, kept = experiment.prepared, experiment.predictions, set(rows)
    mask = [row in kept for row in range(prepared.examples.num_rows)]
    experiment.prepared, experiment.predictions = prepared.only(mask), predictions.filter(pa.array(mask))
    try:
        yield
    finally:
        experiment.prepared, experiment.predictions = prepared, predictions
