"""A few microbatches that are really computed, and what they took extended to all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.execution import Executor, Outcome, Task, in_order
from pipeline.microbatch import MicroBatch
from pipeline.schedule import StagePlan
from pipeline.stages import measure_memory

PROBED_ROWS = 8  # of each microbatch but the largest, which tells the memory
MANY_METHODS, FEW_ROWS = 12, 2  # of more methods than that so many rows tell enough, and take long enough
QUANTILES = (0.0, 0.0, 0.5, 1.0)  # of the microbatches by size; the first warms up


@dataclass(frozen=True)
class Sample:
    """What one microbatch took."""

    stage: str
    length: int
    seconds_per_row: float


def chosen(batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    """The beginnings of a few microbatches and the whole largest, no two the same where there are enough."""
    by_size = sorted(range(len(batches)), key=lambda index: batches[index].length * len(batches[index].rows))
    places = [round(quantile * (len(by_size) - 1)) for quantile in QUANTILES]
    places[1] = min(1, len(by_size) - 1)
    *smaller, largest = (batches[by_size[place]] for place in dict.fromkeys(places))
    found, measured = [*map(_beginning, smaller), largest], measure_memory.largest(batches)
    if measured is None or measured == largest or _beginning(measured) in found:
        return found
    return [*found, _beginning(measured)]


def beginnings(batches: Sequence[MicroBatch], rows: int = PROBED_ROWS) -> list[MicroBatch]:
    """The same, but of the largest the beginning as well."""
    return [_beginning(batch, rows) for batch in chosen(batches)]


def _beginning(batch: MicroBatch, rows: int = PROBED_ROWS) -> MicroBatch:
    return replace(batch, rows=batch.rows[:rows], items=batch.items[:rows])


def done(plan: StagePlan, executor: Executor) -> list[tuple[Task, Outcome]]:
    """Do the tasks one after the other on one worker, so that none waits for another."""
    return list(each_done(plan, executor))


def each_done(plan: StagePlan, executor: Executor) -> Iterator[tuple[Task, Outcome]]:
    """The same, each as soon as it is done."""
    for task in plan.tasks:
        outcomes: list[Outcome] = []
        executor.run(in_order([task]), outcomes.append)
        for outcome in outcomes:
            if not outcome.ok:
                raise RuntimeError(f"the probe of {plan.stage} failed: {outcome.error}")
            yield task, outcome


def samples_of(
    outcomes: Sequence[tuple[Task, Outcome]], batches: Sequence[MicroBatch], stages: Sequence[str]
) -> list[Sample]:
    """What each of these microbatches took in each stage; the first warms up."""
    samples = []
    for stage in stages:
        taken = [outcome for task, outcome in outcomes if task.stage == stage]
        pairs = list(zip(batches, taken, strict=True)) if taken else []  # of some runs nothing is perturbed
        for batch, outcome in pairs[1:] or pairs:
            samples.append(Sample(stage, batch.length, outcome.seconds / len(batch.rows)))
    return samples


def extended(samples: Sequence[Sample], stage: str, batches: Sequence[MicroBatch]) -> float:
    """Seconds of all microbatches: per row, between the probed lengths on a straight line."""
    own = sorted((sample.length, sample.seconds_per_row) for sample in samples if sample.stage == stage)
    if not own:
        return 0.0
    lengths = np.array([batch.length for batch in batches])
    rows = np.array([len(batch.rows) for batch in batches])
    return float(np.interp(lengths, [length for length, _ in own], [seconds for _, seconds in own]) @ rows)
