"""What may be deleted: runs that are old and not to be kept, and results that no remaining run refers to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attribution.errors import InputError
from pipeline.backends import Listed
from pipeline.folder import MARKER, RESULTS
from pipeline.runs import MANIFEST, read_manifest, resolve_run
from pipeline.store import Store
from pipeline.sweep.record import find_sweep
from pipeline.users import STAGE, ids_of, users_of

FLOOR = timedelta(days=1)  # what is younger may belong to a run in progress
SLACK = timedelta(minutes=5)  # by which the clocks of machines may differ
RESULT = re.compile(r"\w+/(?P<folder>[0-9a-f]{2})/(?P<key>(?P=folder)[0-9a-f]{62})\.parquet")
UNFINISHED = re.compile(r"\w+/[0-9a-f]{2}/\.[0-9a-f]{64}\.\w+\.[0-9a-f]{32}\.tmp")  # what a crash left
AT_ONCE = 1000  # results deleted by one request


@dataclass(frozen=True)
class OldRun:
    """A run folder, and when it was last worked on."""

    folder: Path
    last: datetime
    size: int


@dataclass(frozen=True)
class Garbage:
    """What a collection deletes, and what it leaves."""

    store: Store
    runs: list[OldRun]
    results: list[Listed]
    n_runs: int
    n_results: int
    foreign: int  # files in the store that are not its own; they stay
    elsewhere: list[str]  # folders whose runs may refer to the results, and which cannot be looked at from here

    @property
    def size(self) -> int:
        """Bytes that are freed."""
        return sum(run.size for run in self.runs) + sum(result.size for result in self.results)

    def delete(self) -> None:
        """Runs first: results without a run are found again by the next collection."""
        for run in self.runs:
            shutil.rmtree(run.folder)
        names = [result.name for result in self.results]
        for start in range(0, len(names), AT_ONCE):
            self.store.backend.delete(*names[start : start + AT_ONCE])


def find_garbage(runs_dir: Path, location: str, keep: Sequence[str] = (), older: timedelta | None = None) -> Garbage:
    """What to delete of a folder of runs and of their store.

    Runs go only if `older` is given: those older than it, but for the runs that `keep` names. Results go if no run
    that stays refers to them and they are older than `older`, or than a day. Runs of other folders that use the store,
    and that this machine sees, all stay.
    """
    kept = {folder.resolve() for ref in keep for folder in _named(ref, runs_dir)}
    store = Store(location).checked()
    now = datetime.now(UTC)
    runs = list(_runs(runs_dir))
    old = [run for run in runs if older is not None and _is_old(run, now, older) and run.folder.resolve() not in kept]
    staying = {run.folder.resolve() for run in runs} - {run.folder.resolve() for run in old} | kept
    users = [user for user in users_of(store) if user.id not in ids_of(runs_dir)]
    staying |= {run.folder.resolve() for user in users if user.is_here() for run in _runs(Path(user.folder))}
    elsewhere = [str(user) for user in users if not user.is_here()]
    listed = [each for each in store.backend.list() if not each.name.startswith(f"{STAGE}/")]
    own = [each for each in listed if RESULT.fullmatch(each.name) or UNFINISHED.fullmatch(each.name)]
    if listed and not own:
        raise InputError(f"error: {store.location} is not a store of Headlight's: nothing in it has a name of its own.")
    aged = [each for each in own if now - _moment(each.modified) >= (FLOOR if older is None else older)]
    counts = (len(runs), len(own), len(listed) - len(own))
    return Garbage(store, old, list(_unreferenced(aged, staying)), *counts, elsewhere)


def _named(ref: str, runs_dir: Path) -> list[Path]:
    """The folder of a run, or those of the runs of a sweep."""
    sweep = None if ref == "last" else find_sweep(ref, runs_dir.parent / "sweeps")
    if sweep is None:
        return [resolve_run(ref, runs_dir)]
    return [run.folder for job in sweep.jobs if (run := sweep.run_of(job))]


def _runs(runs_dir: Path) -> Iterator[OldRun]:
    """Folders that a run has marked as its own."""
    for folder in sorted(runs_dir.iterdir()) if runs_dir.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink() and (folder / MARKER).is_file():
            states = [path.stat() for path in (folder, *folder.rglob("*"))]
            last = max(state.st_mtime for state in states)
            yield OldRun(folder, _moment(last), sum(state.st_size for state in states))


def _is_old(run: OldRun, now: datetime, older: timedelta) -> bool:
    """A run without a manifest may be in progress, and writes nothing to its folder until its end."""
    return now - run.last > (older if (run.folder / MANIFEST).is_file() else max(older, FLOOR))


def _unreferenced(results: Iterable[Listed], runs: Iterable[Path]) -> Iterator[Listed]:
    names: set[str] = set()
    times: list[tuple[datetime, datetime]] = []  # of runs that did not note what they refer to
    for run in runs:
        if (run / RESULTS).is_file():
            names.update((run / RESULTS).read_text().splitlines())
        elif (run / MANIFEST).is_file():
            times.append(_time_of(run))
    for result in results:
        made = _moment(result.modified)
        if result.name not in names and not any(start - SLACK <= made <= end + SLACK for start, end in times):
            yield result


def _time_of(run: Path) -> tuple[datetime, datetime]:
    """From when to when a run was at work, at most: what was made then counts as its own."""
    manifest = read_manifest(run)
    created = datetime.fromisoformat(manifest["created"])  # predictions and heads were there by then
    worked = timedelta(seconds=sum(manifest.get("timings", {}).values()))
    return created - worked, datetime.fromisoformat(manifest.get("finished") or manifest["created"])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
