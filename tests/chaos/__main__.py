"""`make chaos`: kill workers, nodes and the driver of a sweep at random moments; its tables must not differ by a byte.

    python tests/chaos [--moments 50] [--seed 0] [--nodes 2] [--faults worker,node,...] [ARGUMENT OF headlight run ...]

It is done once in peace and then, in a fresh folder, under attack: as often as it takes to spend all the moments.
Without arguments it is a sweep over SST-2 where HEADLIGHT_MODELS and HEADLIGHT_DATA are set, else a run of a tiny
model. Needs root and iproute2: the nodes are real ones, in network namespaces. A gap is the time without a new result
in the store.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))  # before the tests, whose folders have the packages' names

from driver import DriverProcess
from faults import FAULTS, LONGEST_GAP_S, Disturber
from network_cluster import NetworkCluster, missing_requirement
from tiny_models import save_tiny

PER_RUN = 10  # moments spent on one run at most, so that the run gets on
TICK_S = 0.1
REAL = [
    "-m", "experiment=sst2", "attribution=mask_lrp,nine", "dataset.limit=96", "tracking=none",
    "cluster.max_batch=4",  # a worker is lost with what it is doing, so short tasks lose little
]  # fmt: skip


@dataclass(frozen=True)
class Hit:
    """A fault, when it was done and what it hit."""

    fault: str
    at: float
    what: str


@dataclass(frozen=True)
class Peace:
    """The run as it should be."""

    tables: dict[str, str]
    results: int
    seconds: float
    longest_gap: float


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if all tables are the same and no gap is too long, else 1."""
    arguments = _parser().parse_args(argv)
    if reason := missing_requirement():
        sys.exit(f"chaos cannot be had here: {reason}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the cluster does not outlive its program
    with _folder(arguments.keep) as folder, NetworkCluster(arguments.nodes) as cluster:
        run = arguments.run or _default_run(folder)
        worst = measured(cluster, run, folder, _faults(arguments), random.Random(arguments.seed))
    return 0 if verdict(worst) or arguments.any_gap else 1


def measured(
    cluster: NetworkCluster, run: list[str], folder: Path, faults: Sequence[str], chance: random.Random
) -> dict[str, float]:
    """The longest gap of each kind of fault, once all faults have been done and every run was as it should be."""
    peace = in_peace(DriverProcess(cluster, run, folder / "peace"))
    say(f"in peace: {peace.results} results, {peace.seconds:.0f} s, longest gap {peace.longest_gap:.1f} s")
    left, worst = list(faults), dict.fromkeys(faults, 0.0)
    for number in itertools.count(1):
        if not left:
            break
        driver = DriverProcess(cluster, run, folder / f"run{number}")
        hits = under_attack(driver, Disturber(cluster, driver, chance), left[:PER_RUN], peace.results)
        left = left[len(hits) :]
        check(driver, peace)
        for hit, gap in gaps(hits, driver.result_times()):
            say(f"run {number}: {hit.what} lost, longest gap {gap:.1f} s")
            worst[hit.fault] = max(gap, worst[hit.fault])
    return worst


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def in_peace(driver: DriverProcess) -> Peace:
    """Do the run undisturbed."""
    started = time.time()
    driver.start()
    driver.wait()
    times = driver.result_times()
    between = max(after - before for before, after in itertools.pairwise(times))
    return Peace(driver.tables(), len(times), time.time() - started, between)


def under_attack(driver: DriverProcess, disturber: Disturber, faults: Sequence[str], results: int) -> list[Hit]:
    """Do the run with these faults, each at a random number of results; returns those there was time for."""
    moments = sorted(disturber.random.sample(range(1, results), len(faults)))
    hits: list[Hit] = []
    driver.start()
    while not driver.is_done():
        if len(hits) < len(faults) and moments[len(hits)] <= len(driver.result_times()):
            disturber.wait_until_whole()
            if len(driver.result_times()) == results:
                break  # there is nothing left to disturb
            at, fault = time.time(), faults[len(hits)]
            hits += [Hit(fault, at, what)] if (what := disturber.do(fault)) else []
        time.sleep(TICK_S)
    driver.wait()
    disturber.wait_until_whole()
    return hits


def check(driver: DriverProcess, peace: Peace) -> None:
    """Raise AssertionError unless the run has the tables it should have, every result once."""
    assert driver.tables() == peace.tables, f"other tables: {driver.tables()} instead of {peace.tables}"
    for run, manifest in driver.manifests().items():
        assert manifest["status"] == "done", f"{run}: {manifest['failures']}"
    for run, results in driver.results().items():
        assert len(results) == len(set(results)), f"{run} counts a result twice"
    assert len(driver.result_times()) == peace.results
    assert "with other bytes" not in driver.log.read_text()


def gaps(hits: Sequence[Hit], times: Sequence[float]) -> list[tuple[Hit, float]]:
    """The longest time without a result between each fault and the next; what is left of it is the next one's."""
    ends = [*(hit.at for hit in hits[1:]), float("inf")]
    pairs = list(itertools.pairwise(times))
    return [
        (hit, max((min(b, end) - max(a, hit.at) for a, b in pairs if b > hit.at and a < end), default=0.0))
        for hit, end in zip(hits, ends, strict=True)
    ]


def verdict(worst: dict[str, float]) -> bool:
    """Print the longest gap of each kind of fault; whether none is too long."""
    for fault, gap in worst.items():
        print(f"{fault}: longest gap {gap:.1f} s, {LONGEST_GAP_S[fault]:.0f} s allowed")
    print("all tables equal those of the run in peace, byte for byte")
    return all(gap <= LONGEST_GAP_S[fault] for fault, gap in worst.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=int(os.environ.get("HEADLIGHT_CHAOS_MOMENTS", "50")))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--faults", default=",".join(FAULTS), help="default: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the runs and their logs there")
    parser.add_argument("--any-gap", action="store_true", help="measure the gaps, but only the tables count")
    parser.add_argument("run", nargs="*", metavar="ARGUMENT", help="of `headlight run`")
    return parser


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Where the runs are; gone afterwards unless they are to be kept."""
    if kept is not None:
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        yield Path(folder)


def _faults(arguments: argparse.Namespace) -> list[str]:
    """As many of each kind as of any other, in random order."""
    kinds = arguments.faults.split(",")
    faults = list(itertools.islice(itertools.cycle(kinds), arguments.moments))
    random.Random(arguments.seed).shuffle(faults)
    return faults


def _default_run(folder: Path) -> list[str]:
    if {"HEADLIGHT_MODELS", "HEADLIGHT_DATA"} <= os.environ.keys():
        return REAL
    model, data = save_tiny("bert", folder / "model"), folder / "data.tsv"
    words = ("good", "bad", "great", "awful", "bright", "dull")
    texts = [
        f"the {noun} was {one} and not {two} ."
        for noun in ("film", "meal", "book", "hotel")
        for one in words
        for two in words
    ]
    data.write_text("sentence\tlabel\n" + "".join(f"{text}\tpositive\n" for text in texts))
    return [
        "model=local", f"model.path={model}", "dataset=local", f"dataset.path={data}", "heads.sentences=150",
        "attribution=none", "attribution.m.method=mask_lrp", "attribution.m.head_mask=both", "tracking=none",
        "attribution.random.method=random", "++model.label_map.positive=0", "++model.label_map.negative=1",
        "cluster.max_batch=1",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
