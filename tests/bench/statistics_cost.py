"""What all statistics of 10,000 examples, 30 methods and 20 metrics take on one core, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from timing import verdict as within

from evaluation import statistics
from evaluation.statistics import ExampleFacts
from evaluation.verdict import Rule, verdict

N, METHODS, METRICS = 10_000, 30, 20
SECONDS, GIBIBYTES = 60.0, 2.0
UNDEFINED = {  # share of the values that are undefined, half of them of all methods at once, of one metric in so many
    "every value defined": (0.0, 1),
    "0.1 % undefined": (0.001, 1),
    "20 % undefined, of every other metric": (0.2, 2),
}
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def costs() -> Iterator[str]:
    """CPU seconds of each step and the most memory, without undefined values, with few and with many."""
    for name, (share, every) in UNDEFINED.items():
        yield f"statistics of {N} examples, {METHODS} methods, {METRICS} metrics; {name}"
        command = [sys.executable, __file__, str(share), str(every)]
        alone = {**os.environ, **THREADS, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
        yield done.stdout.rstrip()


def measure(share: float, every: int) -> None:
    """Run every step once and print what it took."""
    higher = {f"metric{k:02d}": k % 3 > 0 for k in range(METRICS)}
    given = [rows(share, every)]  # taken out when read: what a run has read from disk is no part of the statistics
    total = 0.0

    def step(name: str, work: Callable[[], object]) -> object:
        nonlocal total
        started = time.process_time()
        result = work()
        total += (seconds := time.process_time() - started)
        print(f"  {name:42s} {seconds:6.2f} s", flush=True)
        return result

    table = step("table from rows", lambda: statistics.ValueTable.from_arrow(given.pop(), higher))
    assert isinstance(table, statistics.ValueTable)
    compared = step("paired differences, BCa, Holm", lambda: statistics.compare_methods(table))
    assert isinstance(compared, statistics.Comparisons)
    controls, prices = table.methods[-3:], {name: float(1 + i % 7) for i, name in enumerate(table.methods)}
    slices = statistics.standard_slices(facts(table.items))
    found = step("slices of every method and metric", lambda: statistics.slice_findings(table, slices))
    step("means, BCa", lambda: statistics.mean_intervals(table))
    step("anytime-valid differences", lambda: statistics.compare_methods(table, anytime=True))
    step("rank intervals", lambda: statistics.rank_intervals(compared))
    step("win matrices", lambda: [statistics.win_matrix(table, name) for name in higher])
    step("critical differences", lambda: [statistics.critical_difference_within(table, name) for name in higher])
    step("lifts over three controls", lambda: statistics.lifts(compared, controls))
    step("Pareto fronts", lambda: statistics.cost_points(table, prices))
    tables, both = {"mask": table, "delete": table}, {"mask": compared, "delete": compared}
    step("two operators", lambda: statistics.operator_agreement(tables, both))
    rules = [Rule(name, controls, prices) for name in higher]
    step("verdicts", lambda: [verdict(table, rule, compared=compared, slices=found) for rule in rules])
    print(f"  {'together':42s} {total:6.2f} s{within(total, SECONDS)}")
    print(f"  {'most memory':42s} {(peak := peak_gibibytes()):6.2f} GiB{within(peak, GIBIBYTES)}")


def rows(share: float, every: int) -> pa.Table:
    """The rows of a run's `values`, drawn: methods differ, and examples are hard or easy for all of them."""
    rng = np.random.default_rng(0)
    drawn = rng.gamma(1.0, size=(METRICS, METHODS, N)) + rng.normal(size=(METRICS, 1, N))
    drawn += rng.normal(0, 0.05, (METRICS, METHODS, 1))
    for some in (drawn[::every], drawn[::every, :1]):  # a method cannot tell, or a text is too short for the metric
        gaps = np.broadcast_to(rng.uniform(size=some.shape) < share / 2, drawn[::every].shape)
        drawn[::every][gaps] = np.nan
    places = np.indices(drawn.shape, dtype=np.int32).reshape(3, -1)
    lists = ([f"{kind}{i:0{width}d}" for i in range(count)] for kind, width, count in KINDS)
    columns = [pa.DictionaryArray.from_arrays(place, each) for place, each in zip(places, lists, strict=True)]
    return pa.table(
        [*columns, drawn.ravel(), np.ones(drawn.size)], names=["metric", "method", "item_id", "value", "weight"]
    )


KINDS = (("metric", 2, METRICS), ("method", 2, METHODS), ("item", 5, N))


def facts(items: tuple[str, ...]) -> dict[str, ExampleFacts]:
    """What examples are sliced by."""
    rng = np.random.default_rng(1)
    return {
        item: ExampleFacts(
            text="it is not so" if rng.uniform() < 0.3 else "it is so",
            length=int(rng.integers(5, 128)),
            confidence=float(rng.uniform(0.5, 1)),
            predicted=str(rng.integers(3)),
            label=str(rng.integers(3)),
            truncated=bool(rng.uniform() < 0.1),
        )
        for item in items
    }


def peak_gibibytes() -> float:
    """The most this process held; what Linux tells of it alone, not of the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 2**20


if __name__ == "__main__":
    measure(float(sys.argv[1]), int(sys.argv[2]))
