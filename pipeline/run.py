"""One run: prepare, predict, find heads, attribute, evaluate, score, report, record."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from attribution.errors import InputError
from attribution.heads import HeadScores
from attribution.methods.registry import METHODS
from pipeline.collect import Results, in_order_of
from pipeline.compose import config_dict, config_yaml
from pipeline.config import Config
from pipeline.execution import Executor, Progress, check_cluster, create_executor, in_order, make_progress
from pipeline.execution.task import Outcome
from pipeline.folder import RunFolder, claim_folder
from pipeline.heads import given_heads, joined, resolved_methods
from pipeline.keys import digest
from pipeline.manifest import Facts, manifest_of
from pipeline.microbatch import plan_microbatches
from pipeline.preflight import check_prepared
from pipeline.prepare import Prepared, prepare
from pipeline.report import build_report
from pipeline.schedule import StagePlan, curve_families, plan_attribution, plan_evaluation, whole
from pipeline.schemas import RUN_TABLES
from pipeline.score import metrics_table, values_table
from pipeline.stages import evaluate, identify_heads, load_model
from pipeline.stages.setting import Setting
from pipeline.store import Store
from pipeline.targets import check_labels, describe_fit, likely_gold, targets_of
from pipeline.tracking import Tracker
from pipeline.worker import WorkerSettings

DONE, FAILED, INTERRUPTED = 0, 1, 5
NOT_RESULTS = ("paths", "tracking", "cluster", "report", "regression")  # groups that say where and how, not what


@dataclass(frozen=True)
class RunResult:
    """Where a run's results are, and how the process should end."""

    folder: Path
    exit_code: int


def run(config: Config, overrides: Sequence[str] = (), progress: Progress | None = None) -> RunResult:
    """Run an experiment. Raises `InputError` before anything is written where it cannot work."""
    if problems := check_cluster(config.cluster):
        raise InputError("\n".join(f"conf error: {problem}" for problem in problems))
    with ExitStack() as stack:
        tracker = stack.enter_context(_tracker(config))
        return _Run(config, list(overrides), progress or make_progress(), tracker, stack).execute()


def run_key(config: Config) -> str:
    """What says whether two runs are the same experiment."""
    return digest({name: value for name, value in config_dict(config).items() if name not in NOT_RESULTS})


def _tracker(config: Config) -> Tracker:
    return Tracker(config.tracking, root=Path(config.paths.root), run_key=run_key(config), name=config.name)


@dataclass
class _Run:
    config: Config
    overrides: list[str]
    progress: Progress
    tracker: Tracker
    stack: ExitStack
    facts: Facts = field(default_factory=Facts)
    workers: int = 0  # that were started

    @cached_property
    def store(self) -> Store:
        """Where results are, under an absolute path: workers have their own working directory."""
        return Store(Path(self.config.paths.store).absolute())

    @cached_property
    def results(self) -> Results:
        """What the store holds, as tables of the whole run."""
        return Results(self.store)

    @cached_property
    def executor(self) -> Executor:
        """Started for the first task: a run that finds everything at hand needs no workers."""
        executor = self.stack.enter_context(create_executor(WorkerSettings(str(self.store.root)), self.config.cluster))
        self.workers = executor.workers
        return executor

    def execute(self) -> RunResult:
        """The stages in order; an interrupt leaves the store as it is, and the next run goes on from there."""
        heads = given_heads(self.config)
        prepared = self._prepare(heads)
        setting = Setting.of(self.config, prepared)
        prepared, predictions = self._predict(prepared, setting)
        setting = Setting.of(self.config, prepared)
        self.store.put(prepared.examples_key, prepared.examples, "examples")
        batches = plan_microbatches(prepared.examples, self.config.cluster, prepared.model.max_length)
        rows = prepared.examples.to_pylist()
        targets = targets_of(self.config, prepared.is_qa, rows, predictions.to_pylist())
        heads = heads or self._heads(setting)
        methods = resolved_methods(self.config.attribution, heads, prepared.model)
        self.facts.started()
        self.tracker.start()
        folder = claim_folder(Path(self.config.paths.runs), self.config.name, run_key(self.config))
        scores = plan_attribution(self.config, setting, self.store, batches, targets, methods)
        self._do(scores)
        curves = plan_evaluation(self.config, setting, self.store, batches, targets, scores.keys)
        self._do(curves, needs=scores)
        self._write(folder, prepared, predictions, heads, methods, scores, curves)
        return self._finish(folder)

    def _prepare(self, heads: HeadScores | None) -> Prepared:
        started = time.perf_counter()
        prepared = prepare(self.config)
        check_prepared(self.config, prepared, heads)
        self.facts.timings["prepare"] = time.perf_counter() - started
        self.facts.notes = list(prepared.notes)
        for note in self.facts.notes:
            self.progress.message(note)
        return prepared

    def _predict(self, prepared: Prepared, setting: Setting) -> tuple[Prepared, pa.Table]:
        """Predictions of every example, checked against the labels, and the examples that pass the filter."""
        self.store.put(prepared.examples_key, prepared.examples, "examples")
        batches = plan_microbatches(prepared.examples, self.config.cluster, prepared.model.max_length)
        plan = whole([load_model.task_of(setting, batch) for batch in batches], load_model.STAGE, self.store)
        self._do(plan)
        self._stop_on_failure()
        predictions = in_order_of(prepared.examples, self.results.table(plan.keys[load_model.STAGE], load_model.STAGE))
        fit = check_labels(prepared, predictions)
        self.facts.fit = fit
        if fit is not None:
            self.progress.message(describe_fit(fit, prepared.model))
        kept = likely_gold(self.config, prepared.examples.to_pylist(), predictions.to_pylist())
        if len(kept) < prepared.examples.num_rows:
            self.facts.notes.append(f"{prepared.examples.num_rows - len(kept)} examples left out: gold class unlikely")
            self.progress.message(self.facts.notes[-1])
        chosen = Prepared(prepared.model, prepared.tokenizer, prepared.dataset, prepared.examples.take(kept))
        return chosen, predictions.take(kept)

    def _heads(self, setting: Setting) -> HeadScores | None:
        plan = whole(identify_heads.tasks_of(self.config, setting), identify_heads.STAGE, self.store)
        self._do(plan)
        self._stop_on_failure()
        heads = joined(self.results.tables(plan.keys.get(identify_heads.STAGE, []), identify_heads.STAGE))
        for line in heads.describe() if heads else []:
            self.progress.message(line)
        return heads

    def _stop_on_failure(self) -> None:
        """Nothing can be explained without predictions and heads. What was wrong with the input is said in one line."""
        if not self.facts.failures:
            return
        failure = self.facts.failures[0]
        kind, _, message = failure["error"].partition(": ")
        if kind == InputError.__name__:
            raise InputError(message)
        raise RuntimeError(failure["error"] + "\n" + (failure["traceback"] or ""))

    def _do(self, plan: StagePlan, needs: StagePlan | None = None) -> None:
        """Run a stage's tasks; what fails is noted, and what depended on it is left out."""
        started = time.perf_counter()
        tasks = [task for task in plan.tasks if needs is None or not self.facts.lacks(task)]
        total = sum(task.weight for task in plan.tasks)
        self.facts.reuse[plan.stage] = {"computed": plan.computed, "reused": plan.reused}
        if not plan.tasks:
            if plan.reused:
                self.progress.message(f"{plan.stage}: all {plan.reused} results reused")
            return
        by_id = {task.id: task for task in tasks}
        unit = "searches" if plan.stage == identify_heads.STAGE else "results"
        with self.progress.stage(plan.stage, total, unit) as bar:

            def note(outcome: Outcome) -> None:
                self.facts.note(outcome, by_id[outcome.task_id])
                bar.advance(by_id[outcome.task_id].weight)

            self.executor.run(in_order(tasks), note)
        self.facts.timings[plan.stage] = time.perf_counter() - started
        if plan.reused:
            self.progress.message(f"{plan.stage}: {plan.computed} results computed, {plan.reused} reused")

    def _write(
        self,
        folder: RunFolder,
        prepared: Prepared,
        predictions: pa.Table,
        heads: HeadScores | None,
        methods: dict[str, dict[str, Any]],
        scores: StagePlan,
        curves: StagePlan,
    ) -> None:
        started = time.perf_counter()
        items = prepared.examples["item_id"].to_pylist()
        attributions = self.results.by_method("attributions", list(scores.keys.items()), scores.stage, items)
        by_curve = [(label, curves.keys[label, family]) for label in methods for family in curve_families(self.config)]
        drawn = self.results.by_method("curves", by_curve, evaluate.STAGE, items)
        values = values_table(list(methods), prepared.examples, attributions, drawn, self.config.evaluation)
        masked = {label: METHODS[method["method"]].needs_heads for label, method in methods.items()}
        tables = {
            "examples": prepared.examples,
            "predictions": predictions,
            "attributions": attributions,
            "curves": drawn,
            "heads": RUN_TABLES["heads"].empty_table() if heads is None else heads.to_table(),
            "values": values,
            "metrics": metrics_table(values, masked, self.config.evaluation),
        }
        folder.write(tables, config_yaml(self.config))
        self.facts.not_finite(attributions)
        self.facts.timings["score"] = time.perf_counter() - started
        self.facts.finished()
        manifest = manifest_of(self.config, self.overrides, prepared, methods, self.facts, self.workers)
        folder.write_manifest({**manifest, "run_key": run_key(self.config), "tracking": self.tracker.record()})

    def _finish(self, folder: RunFolder) -> RunResult:
        report = build_report(folder.path, texts=self.config.report.texts, examples=self.config.report.examples)
        self.tracker.log(folder.path, texts=self.config.report.texts == "full")
        for failure in self.facts.failures[:5]:
            self.progress.message(f"failed: {failure['stage']}: {failure['error']}")
        print(f"report: {report}")
        if address := self.tracker.address():
            print(f"mlflow: {address}")
        sys.stdout.flush()
        return RunResult(folder.path, FAILED if self.facts.failures else DONE)
