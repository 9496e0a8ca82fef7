"""`headlight run -m`: all cells of a sweep on one driver, with one report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.budget import Budget
from pipeline.compose import config_dict, run_key
from pipeline.config import Config
from pipeline.driver import Driver
from pipeline.execution import Site, make_progress
from pipeline.experiment import Experiment
from pipeline.folder import claim_folder
from pipeline.keys import digest
from pipeline.prepare import Prepared, prepare
from pipeline.run import DONE, FAILED, Pool, RecordedRun, open_store, require_cluster
from pipeline.schedule import Ledger
from pipeline.sweep.expand import Cell, expand, idle_exclusions
from pipeline.sweep.job import Job, Status
from pipeline.sweep.page import write_page
from pipeline.sweep.record import SweepFolder, find_sweep, write_record
from pipeline.sweep.table import sweep_rows
from pipeline.sweep.watch import SweepWatch, summary, watching
from pipeline.tracking import SweepTracker
from pipeline.worker import Recent

NAME = "sweep"  # of a sweep whose configuration has the default name
LISTED = 5  # cells skipped for one reason that are listed one by one
KEPT = 4  # prepared data sets that are kept for the next runs


@dataclass(frozen=True)
class SweepResult:
    """Where a sweep's record is, and how the process should end."""

    folder: Path
    exit_code: int


def run_sweep(
    overrides: Sequence[str], config_dir: str | Path | None = None, max_parallel: int | None = None
) -> SweepResult:
    """Run every cell that can be. Raises `InputError` before anything is written where one of them is wrong."""
    cells = expand(overrides, config_dir)
    configs = [cell.config for cell in cells if not cell.skipped]
    if not configs:
        lines = ["every cell is skipped.", *_skipped(cells)]
        raise InputError("\n".join(f"conf error: sweep: {line}" for line in lines))
    site = require_cluster(configs, make_progress())
    for line in [*_skipped(cells), *(f"{entry} matches no cell" for entry in idle_exclusions(cells))]:
        print(line, file=sys.stderr)
    return _Sweep(cells, configs[0], list(overrides), site).execute(max_parallel)


def _skipped(cells: Sequence[Cell]) -> list[str]:
    """A line for each cell that is not run, or for each reason where it has many cells."""
    labels: dict[str, list[str]] = {}
    for cell in cells:
        if cell.skipped:
            labels.setdefault(cell.skipped, []).append(cell.label)
    return [
        f"skipped: {label}: {reason}"
        for reason, those in labels.items()
        for label in (those if len(those) <= LISTED else [f"{len(those)} cells"])
    ]


class _Sweep:
    def __init__(self, cells: Sequence[Cell], config: Config, overrides: list[str], site: Site) -> None:
        self.cells, self.config, self.overrides, self.site = cells, config, overrides, site
        self.key = digest([run_key(cell.config) for cell in cells])
        self.root = Path(config.paths.root)
        self.name = common_name(cells)
        self.created = _now()

    def execute(self, max_parallel: int | None) -> SweepResult:
        """Drive the jobs, and write down what became of them."""
        ledger = Ledger(open_store(self.config))
        tracking = SweepTracker(self.config.tracking, root=self.root, sweep_id=self.key, name=self.name)
        with ExitStack() as stack:
            tracker = stack.enter_context(tracking)
            pool = stack.enter_context(Pool.open(ledger.store, self.site))
            tracker.start()
            folder = claim_folder(self.root / "sweeps", self.name, self.key).path
            jobs: list[Job] = []
            budget = Budget(self.config.budget, pool)
            try:
                with watching(jobs) as watch:
                    jobs += self._jobs(ledger, tracker, pool, watch)
                    flows = (job for job in jobs if job.run)
                    Driver(flows, ledger, watch, pool.start, budget.spend, max_parallel).run()
            finally:
                write_record(folder, self._about(), jobs)
            return self._finish(folder, jobs, tracker)

    def _jobs(self, ledger: Ledger, tracker: SweepTracker, pool: Pool, watch: SweepWatch) -> list[Job]:
        prepared = shared_preparation()
        return [
            Job(cell, None if cell.skipped else self._run(cell, ledger, tracker, pool, watch.say, prepared))
            for cell in self.cells
        ]

    def _run(
        self,
        cell: Cell,
        ledger: Ledger,
        tracker: SweepTracker,
        pool: Pool,
        say: Callable[[str], None],
        prepared: Callable[[Config], Prepared],
    ) -> RecordedRun:
        experiment = Experiment(cell.config, ledger, self.site, say, prepared)
        record = tracker.job(run_key=run_key(cell.config), name=cell.config.name)
        return RecordedRun(experiment, list(cell.overrides), record, pool, resumes=True)

    def _about(self) -> dict[str, Any]:
        about = {"name": self.name, "sweep_id": self.key, "overrides": self.overrides}
        return about | {"created": self.created, "finished": _now()}

    def _finish(self, folder: Path, jobs: Sequence[Job], tracker: SweepTracker) -> SweepResult:
        written = find_sweep(str(folder), folder.parent)
        assert written is not None
        page = write_page(written)
        failed = [job for job in jobs if job.status is Status.FAILED]
        self._log(written, tracker, jobs)
        print(summary(jobs), file=sys.stderr)
        print(f"report: {page}")
        if address := tracker.address():
            print(f"mlflow: {address}")
        for job in failed:
            print(f"failed: {job.cell.label}: {job.error}", file=sys.stderr)
        return SweepResult(folder, FAILED if failed else DONE)

    def _log(self, written: SweepFolder, tracker: SweepTracker, jobs: Sequence[Job]) -> None:
        swept = {key: None for job in jobs for key in job.cell.choices}
        params = {key: ",".join(dict.fromkeys(job.cell.choices.get(key, "") for job in jobs)) for key in swept}
        numbers = {f"jobs_{status.name.lower()}": float(sum(job.status is status for job in jobs)) for status in Status}
        failed = any(job.status is Status.FAILED for job in jobs)
        tracker.log(written.folder, params=params, numbers=numbers, table=sweep_rows(written), failed=failed)


def common_name(cells: Sequence[Cell]) -> str:
    """What the cells' experiments are called without their choices."""
    names = {cell.config.name.removesuffix(f".{cell.slug}") for cell in cells}
    return names.pop() if len(names) == 1 else NAME


def shared_preparation() -> Callable[[Config], Prepared]:
    """`prepare`, once for runs of one model and data set."""
    recent: Recent[Prepared] = Recent(KEPT)

    def prepared(config: Config) -> Prepared:
        chosen = config_dict(config)
        key = digest([chosen["model"], chosen["dataset"], config.paths.models])
        return recent.get(key, lambda: prepare(config))

    return prepared


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
