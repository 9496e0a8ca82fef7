"""One run: its stages on an executor, its tables and report in a folder, its record in MLflow."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from attribution.methods.registry import METHODS
from pipeline.budget import Budget
from pipeline.complete import as_reused, complete_folder, mark_complete, signature
from pipeline.compose import config_yaml, run_key
from pipeline.config import Config
from pipeline.conservation import conservation_table
from pipeline.driver import Driver, Flow, Steps
from pipeline.estimate import saved_estimate
from pipeline.execution import (
    Executor,
    Needs,
    Outcome,
    Progress,
    Site,
    Task,
    check_cluster,
    create_executor,
    make_progress,
)
from pipeline.execution.progress import Bar, clock_time
from pipeline.experiment import Experiment
from pipeline.folder import RunFolder, claim_folder
from pipeline.manifest import manifest_of
from pipeline.means import metrics_table
from pipeline.perturbed import Perturbed
from pipeline.report import build_report
from pipeline.runs import Run
from pipeline.schedule import Ledger, StagePlan
from pipeline.schemas import RUN_TABLES
from pipeline.stages import identify_heads
from pipeline.store import Store
from pipeline.tracking import Tracker
from pipeline.users import enrol
from pipeline.values import run_values
from pipeline.worker import WorkerSettings

DONE, FAILED = 0, 1


@dataclass(frozen=True)
class RunResult:
    """Where a run's results are, and how the process should end."""

    folder: Path
    exit_code: int


def run(config: Config, overrides: Sequence[str] = (), progress: Progress | None = None) -> RunResult:
    """Run an experiment. Raises `InputError` before anything is written where it cannot work."""
    progress = progress or make_progress()
    site = require_cluster([config], progress)
    ledger = Ledger(open_store(config))
    with ExitStack() as stack:
        tracker = stack.enter_context(_tracker(config))
        pool = stack.enter_context(Pool.open(ledger.store, site))
        recorded = RecordedRun(Experiment(config, ledger, site, progress.message), list(overrides), tracker, pool)
        bars, budget = StageBars(progress), Budget(config.budget, pool)
        with bars.stack:
            Driver([recorded], ledger, bars, pool.start, budget.spend).run()
    return recorded.announced(progress.message)


def _tracker(config: Config) -> Tracker:
    return Tracker(config.tracking, root=Path(config.paths.root), run_key=run_key(config), name=config.name)


def open_store(config: Config) -> Store:
    """Where results are. Raises `InputError` where nothing can be had there."""
    return Store(config.paths.store).checked()


def require_cluster(configs: Sequence[Config], progress: Progress) -> Site:
    """Where these configurations, which share their `cluster`, compute; InputError with all that cannot be done."""
    site = check_cluster(configs[0].cluster, Needs.of(configs), progress).required()
    for note in site.notes:
        progress.message(note)
    return site


@dataclass
class Pool:
    """The executor, started for the first task: a run that finds everything at hand needs no workers."""

    store: Store
    site: Site
    stack: ExitStack
    workers: int = 0  # that were started
    gpus: float = 0.0  # that each of them takes

    @classmethod
    @contextmanager
    def open(cls, store: Store, site: Site) -> Iterator[Pool]:
        """Closed with the context, if it was started."""
        with ExitStack() as stack:
            yield cls(store, site, stack)

    def start(self) -> Executor:
        """The executor."""
        executor = self.stack.enter_context(create_executor(WorkerSettings(self.store.location), self.site))
        self.workers, self.gpus = executor.workers, executor.gpus
        return executor


@dataclass
class RecordedRun:
    """An experiment that leaves a run folder and a record."""

    experiment: Experiment
    overrides: list[str]
    tracker: Tracker
    pool: Pool
    resumes: bool = False  # whether a folder that is complete is left as it is
    result: RunResult | None = None
    done_before: bool = False

    def steps(self) -> Steps:
        """The stages in order; an interrupt leaves the store as it is, and the next run goes on from there."""
        config, facts = self.experiment.config, self.experiment.facts
        self.experiment.check()
        shown = signature(self.experiment, self.tracker)
        if self.resumes and (found := complete_folder(self.experiment, self.tracker, shown)):
            self._take_over(found)
            return
        yield from self.experiment.before_explaining()
        facts.started()
        self.tracker.start()
        folder = claim_folder(Path(config.paths.runs), config.name, run_key(config))
        enrol(self.experiment.ledger.store, Path(config.paths.runs))
        yield from self.experiment.studying_patterns()
        yield from self.experiment.mixing()
        yield from self.experiment.erring()
        yield from self.experiment.explaining(lambda: self._leave(folder, shown), folder.path)
        self.result = RunResult(folder.path, FAILED if facts.failures else DONE)

    def note(self, outcome: Outcome, task: Task) -> None:
        """Keep what became of a task."""
        self.experiment.facts.note(outcome, task)

    def announced(self, say: Callable[[str], None]) -> RunResult:
        """The result, once failures, report and address have been said."""
        assert self.result is not None, "the driver ended before the run"
        if saved := self.experiment.facts.saved:
            say(f"evaluate: {saved}")
        for failure in self.experiment.facts.failures[:5]:
            say(f"failed: {failure['stage']}: {failure['error']}")
        if planned := saved_estimate(self.experiment.config):
            taken = sum(self.experiment.facts.worker_seconds.values())
            say(f"planned {clock_time(sum(planned['seconds'].values()))} of work, took {clock_time(taken)}")
        print(f"report: {self.result.folder / 'report.html'}")
        if address := self.tracker.address():
            print(f"mlflow: {address}")
        sys.stdout.flush()
        return self.result

    def _leave(self, folder: RunFolder, shown: str) -> None:
        """Write tables, report and record."""
        report = self.experiment.config.report
        self._write(folder)
        build_report(folder.path, texts=report.texts, examples=report.examples, attention=report.attention)
        self.tracker.log(folder.path, texts=report.texts == "full")
        if not self.experiment.facts.failures:
            mark_complete(folder.path, shown)

    def _take_over(self, folder: Path) -> None:
        self.experiment.facts.reuse = as_reused(Run(folder).manifest["reuse"])
        self.result, self.done_before = RunResult(folder, DONE), True

    def _write(self, folder: RunFolder) -> None:
        started = time.perf_counter()
        done, config = self.experiment, self.experiment.config
        scoring = config.evaluation
        whole = done.texts
        examples = done.prepared.examples if whole is None else whole.examples
        attributions = done.attributions if whole is None else whole.attributions(done.attributions)
        perturbed = Perturbed(done.curves, done.removals, done.attributions)
        labels = list(done.methods)
        values = run_values(done)
        masked = {label: METHODS[method["method"]].needs_heads for label, method in done.methods.items()}
        tables = {
            "examples": examples,
            "predictions": done.predictions if whole is None else whole.predictions,
            "attributions": attributions,
            "curves": done.curves,
            "heads": RUN_TABLES["heads"].empty_table() if done.heads is None else done.heads.to_table(),
            "values": values,
            "metrics": metrics_table(values, masked, scoring),
        }
        tables |= done.studied.tables
        if done.removals.num_rows:
            tables["removals"] = done.removals
        if (conserved := conservation_table(attributions)).num_rows:
            tables["conservation"] = conserved
        tables |= done.mixed.tables(done.prepared.examples, scoring) | done.errors.tables
        if done.layer_choice is not None:
            tables["layers"] = done.layer_choice.table
        tables |= done.judged.tables() | ({} if done.counted is None else done.counted.tables_of_run())
        if whole is not None:
            tables["windows"] = whole.table()
        folder.write(tables, config_yaml(config))
        folder.write_models(done.studied.kept, done.ledger.store)
        folder.write_results(done.facts.keys)
        folder.write_shards(done.facts.shards)
        done.facts.not_finite(attributions)
        alone = (perturbed.forwards_alone, done.others.forwards_alone)
        done.facts.forwards_alone = sum(count(labels, scoring.metrics) for count in alone)
        done.facts.timings["score"] = done.facts.timings.get("score", 0.0) + time.perf_counter() - started
        done.facts.finished()
        where = (done.site.cluster.device, self.pool.workers, examples.num_rows)
        manifest = manifest_of(config, self.overrides, done.prepared, done.methods, done.facts, *where)
        about = {"run_key": run_key(config), "estimate": saved_estimate(config), "tracking": self.tracker.record()}
        chosen = {"layer_choice": dict(done.layer_choice.record)} if done.layer_choice is not None else {}
        explained = {"errors": done.errors.record} if done.errors.record else {}
        folder.write_manifest({**manifest, **about, **chosen, **explained})


@dataclass
class StageBars:
    """The progress of one run: a bar for each stage."""

    progress: Progress
    bar: Bar | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def begin(self, flow: Flow, plan: StagePlan) -> None:
        """Open a bar, or say that there is nothing to do."""
        if plan.tasks or plan.awaited:
            unit = "sentences" if plan.stage == identify_heads.STAGE else "results"
            self.bar = self.stack.enter_context(self.progress.stage(plan.stage, plan.weight, unit, plan.effort))
        elif plan.reused:
            self.progress.message(f"{plan.stage}: all {plan.reused} results reused")

    def advance(self, flow: Flow, task: Task) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.advance(task.weight, task.effort)

    def end(self, flow: Flow, plan: StagePlan) -> None:
        """Close the bar, and say what it did not have to show."""
        self.stack.close()
        if plan.tasks and plan.reused:
            self.progress.message(f"{plan.stage}: {plan.computed} results computed, {plan.reused} reused")
