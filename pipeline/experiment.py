"""One experiment on its way through the stages: what is prepared, predicted and found, and what is left to compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from attribution.errors import HeadlightError, InputError
from attribution.heads import HeadScores, merge
from pipeline.collect import Results, in_order_of
from pipeline.config import Config
from pipeline.driver import Aside
from pipeline.error_steps import ExplainedErrors, error_steps
from pipeline.execution import Site
from pipeline.explained_again import again_values, plan_again
from pipeline.head_domain import given_domain, head_domain
from pipeline.head_importance import found_on, head_texts, pruning, weighing
from pipeline.head_search import Counted
from pipeline.head_worth import Judged
from pipeline.heads import given_heads, resolved_methods
from pipeline.layer_choice import LayerChoice, choosing
from pipeline.layer_texts import AUTO, layer_texts
from pipeline.looks import Looks, look
from pipeline.manifest import Facts
from pipeline.microbatch import MicroBatch, plan_microbatches, without
from pipeline.mixing import Mixed
from pipeline.mixing_steps import mixing_steps
from pipeline.other_operators import OtherOperators, portions
from pipeline.other_texts import OtherTexts
from pipeline.preflight import ask_nodes, check_prepared
from pipeline.prepare import Prepared, prepare
from pipeline.rounds import Draw
from pipeline.schedule import (
    Ledger,
    StagePlan,
    curve_families,
    fitted,
    plan_attribution,
    plan_evaluation,
    plan_memory,
    plan_portions,
    plan_whole,
    removed_sets,
)
from pipeline.schemas import REMOVALS
from pipeline.stages import attribute, compare_operators, evaluate, identify_heads, load_model
from pipeline.stages.setting import Setting
from pipeline.study_patterns import Asked, Studied, asked_of, studying
from pipeline.targets import check_labels, describe_fit, likely_gold, targets_of
from pipeline.windows import WholeTexts

SAID = 24  # lines about heads
REPAIRS = 3  # times that results are computed again which were found damaged


@dataclass
class Experiment:
    """Model, data, predictions, heads and methods of one configuration, each there once its stage is done."""

    config: Config
    ledger: Ledger
    site: Site
    say: Callable[[str], None]
    prepare: Callable[[Config], Prepared] = prepare
    facts: Facts = field(default_factory=Facts)
    patterns: Asked | None = None  # where the run has any
    studied: Studied = field(default_factory=Studied)
    heads: HeadScores | None = None
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    prepared: Prepared = field(init=False)
    batches: list[MicroBatch] = field(init=False)  # of the prepared examples
    setting: Setting = field(init=False)  # what every key depends on
    predictions: pa.Table = field(init=False)
    targets: list[Any] = field(init=False)  # by example
    counts: list[identify_heads.Count] = field(init=False)  # that heads are found by
    counted: Counted | None = None
    head_texts: OtherTexts | None = None  # that importance is found on, where it is
    judged: Judged = field(default_factory=Judged)
    draw: Draw | None = None  # the order in which examples are explained, where that ends with a verdict or a budget
    rounds: list[list[MicroBatch]] = field(init=False)  # of what is explained, one after another
    mixed: Mixed = field(default_factory=Mixed)
    errors: ExplainedErrors = field(default_factory=ExplainedErrors)
    layer_texts: OtherTexts | None = None  # that the layer to decode is chosen on, where it is
    layer_choice: LayerChoice | None = None
    attributions: pa.Table = field(init=False)
    curves: pa.Table = field(init=False)
    removals: pa.Table = field(init=False)
    others: OtherOperators = field(init=False)  # what the first examples are worth under them
    again: pa.Table = field(init=False)  # values of the first examples that were explained again

    @property
    def results(self) -> Results:
        """What the store holds, as tables of the whole run."""
        return Results(self.ledger.store)

    def check(self) -> None:
        """Find model and data, and all that is wrong with them. Writes nothing; raises `InputError`."""
        started = time.perf_counter()
        self.heads = given_heads(self.config)
        self._adopt(self.prepare(self.config))
        check_prepared(self.config, self.prepared, self.heads)
        self.patterns = asked_of(self.config, self.prepared, self.site.cluster.device)
        for note in ask_nodes(self.config, self.prepared, self.site):
            self.say(note)
        self.layer_texts = layer_texts(self.config, self.prepared, self.site.cluster.device)
        self.head_texts = head_texts(self.config, self.prepared, self.site.cluster.device)
        self.counts = identify_heads.counts_of(self.config.heads, partial(self.setting.key, identify_heads.STAGE))
        self.facts.timings["prepare"] = time.perf_counter() - started
        for note in (*self.prepared.notes, *filter(None, [given_domain(self.config)])):
            self.note_down(note)

    def before_explaining(self) -> Iterator[StagePlan]:
        """Predictions, heads and a layer, without which nothing can be explained. Each plan is done before the next."""
        self._take_predictions((yield from self.whole(self.predicting)))
        self._take_heads((yield from self.whole(self.finding)), (yield from self._judging()))
        self._draw()
        if self.layer_texts is not None:
            self.layer_choice = yield from choosing(self, self.layer_texts)
            self.methods = self.layer_choice.applied(self.methods)
            self.say(f"layer {self.layer_choice.layer} is decoded where layer={AUTO}")

    def _judging(self) -> Generator[StagePlan, None, Judged]:
        """Importances, and what their rankings are worth, where they are asked for."""
        if self.head_texts is None:
            return Judged()
        self.note_down(found_on(self.head_texts))
        importances = yield from weighing(self, self.head_texts)
        return Judged(importances, (yield from pruning(self, importances)))

    def explaining(self, finish: Callable[[], None], folder: Path) -> Iterator[StagePlan | Aside]:
        """Attributions and curves, then `finish`, when their tables are there.

        With a budget round after round, of which `folder` keeps the times, until a look at them says that it is enough.
        """
        budget = self.config.evaluation.budget
        looks = None if self.draw is None or budget is None else Looks(self.draw, budget, folder)
        self.batches = []
        for added in self.rounds:
            self.batches = [*self.batches, *added]
            yield from self._explained(finish if looks is None else partial(look, self, looks, finish))
            if looks is not None and looks.stopped:
                return

    def _explained(self, finish: Callable[[], None]) -> Iterator[StagePlan | Aside]:
        """Explain what is in the batches, and `finish`; again for what turns out damaged on being read, or without a
        poison example.
        """
        repairs = 0
        while repairs < REPAIRS:
            self._store_examples()
            scores = self.attributing()
            if (yield from self._measured(scores)):
                scores = self.attributing()  # another run may have claimed results meanwhile
            yield from self._timed(fitted(self._possible(scores), self.config.cluster, self.bytes_per_token))
            if self._leave_out_poison():
                continue
            curves = self.evaluating(scores)
            yield from self._timed(self._possible(curves))
            others = yield from self._where_asked(self.comparing_operators(scores))
            again = yield from self._where_asked(self.explaining_again(scores))
            if self._leave_out_poison():
                continue
            absent: list[str] = []
            yield Aside(partial(self._end, (scores, curves, others, again), absent, finish))
            if not absent:
                return
            repairs += 1
        raise self._damaged()

    def _draw(self) -> None:
        """Put what is to be explained into rounds; one, where nothing limits it."""
        self.rounds = [self.batches]
        if self.config.evaluation.budget is not None:
            examples, limit = self.prepared.examples, self.prepared.model.max_length
            self.draw = Draw.of(examples, self.config.evaluation.seed)
            self.rounds = [plan_microbatches(examples, self.config.cluster, limit, rows) for rows in self.draw.rounds()]
        self.batches = [batch for added in self.rounds for batch in added]

    @property
    def in_order(self) -> pa.Table:
        """The examples in the order in which they are explained."""
        return self.prepared.examples if self.draw is None else self.prepared.examples.take(self.draw.order)

    def mixing(self) -> Iterator[StagePlan]:
        """What token-to-token methods and probes find of masked words, where it is asked for."""
        if self.config.mixing.layers or self.config.mixing.probes:
            self._store_examples()  # predictions that are at hand leave them where an earlier run had them
            self.mixed = yield from mixing_steps(self)

    def erring(self) -> Iterator[StagePlan]:
        """Explain what is misclassified, where it is asked for."""
        self.errors = yield from error_steps(self)

    def measuring(self) -> StagePlan:
        """The plan of the measurement of what memory a pass takes."""
        return plan_memory(self.config, self.setting, self.ledger, self.batches, self.targets, self.methods)

    def _measured(self, scores: StagePlan) -> Generator[StagePlan, None, bool]:
        """Measure what memory a pass takes, where something has to be computed; whether that had to be waited for."""
        if not scores.tasks or self.facts.memory is not None:
            return False
        plan = self.measuring()
        if not plan.keys:
            return False
        yield from self._timed(plan)
        tables = self.results.tables(plan.keys[plan.stage], plan.stage)
        for table in tables.values():
            (self.facts.memory,) = table.to_pylist()
        if self.facts.memory is None or self.facts.memory["problem"]:
            reason = "its worker failed" if self.facts.memory is None else self.facts.memory["problem"]
            self.note_down(f"what memory a pass takes could not be measured ({reason}); microbatches are tried whole")
        return bool(plan.tasks or plan.awaited)

    @property
    def bytes_per_token(self) -> float | None:
        """Memory that a token of a pass takes, as far as it was measured."""
        return None if self.facts.memory is None else self.facts.memory["bytes_per_token"]

    def predicting(self) -> StagePlan:
        """The plan of the predictions."""
        tasks = (load_model.task_of(self.setting, batch) for batch in self.batches)
        return plan_whole(self.ledger, load_model.STAGE, tasks)

    def finding(self) -> StagePlan:
        """The plan of the search for heads."""
        tasks = identify_heads.tasks_of(self.counts, self.setting)
        return plan_whole(self.ledger, identify_heads.STAGE, tasks)

    def attributing(self) -> StagePlan:
        """The plan of the attributions."""
        return plan_attribution(self.config, self.setting, self.ledger, self.batches, self.targets, self.methods)

    def evaluating(self, scores: StagePlan) -> StagePlan:
        """The plan of the curves of these attributions."""
        return plan_evaluation(self.config, self.setting, self.ledger, self.batches, self.targets, scores.keys)

    def comparing_operators(self, scores: StagePlan) -> StagePlan:
        """The plan of the curves of the first examples under other operators."""
        parts = portions(self.config, self.in_order, self.batches)
        stage = compare_operators.STAGE
        return plan_portions(self.config, self.setting, self.ledger, stage, parts, self.targets, scores.keys)

    def explaining_again(self, scores: StagePlan) -> StagePlan:
        """The plan of what the first examples tell when they are explained again."""
        batches, examples = self.batches, self.in_order
        return plan_again(
            self.config, self.setting, self.ledger, examples, batches, self.targets, self.methods, scores.keys
        )

    def studying_patterns(self) -> Iterator[StagePlan]:
        """What heads have of patterns, and models that follow them, where patterns are given."""
        if self.patterns is not None:
            self.studied = yield from studying(self, self.patterns)
            for line in self.studied.lines:
                self.say(line)

    def _where_asked(self, plan: StagePlan) -> Generator[StagePlan, None, StagePlan]:
        """Do a stage that only some runs have."""
        if plan.keys:
            yield from self._timed(self._possible(plan))
        return plan

    def whole(
        self, make: Callable[[], StagePlan], *, every: bool = False
    ) -> Generator[StagePlan, None, dict[str, pa.Table]]:
        """Do a stage that must not fail; returns {key: table}, computed again where they are damaged on being read.

        Read are the results of a stage whose tasks have one each; those of others where `every` one is wanted.
        """
        repairs = 0
        while repairs < REPAIRS:
            plan = make()
            yield from self._timed(plan)
            self._stop_on_failure()
            if self._leave_out_poison():
                continue
            self._stop_on_poison(plan)
            results, own = self.results, [plan.stage] if plan.stage in plan.keys else []
            named = [key for label in (plan.keys if every else own) for key in plan.keys[label]]
            tables = results.tables(list(dict.fromkeys(named)), plan.stage)
            if not results.absent:
                return tables
            repairs += 1
        raise self._damaged()

    def _leave_out_poison(self) -> bool:
        """Take examples that cannot be computed out of what is to be done; whether there were any."""
        here = {item for batch in self.batches for item in batch.items if item in self.facts.poison}
        if not here:
            return False
        here = self._with_windows(here)
        for row in self.prepared.examples.select(["row_index", "item_id"]).to_pylist():
            if row["item_id"] in here & self.facts.poison.keys():
                self.say(f"row {row['row_index'] + 1} is left out: {self.facts.poison[row['item_id']]}")
        self.batches = [rest for batch in self.batches if (rest := without(batch, here)) is not None]
        if not self.batches:
            raise HeadlightError(f"no example can be computed: {next(iter(self.facts.poison.values()))}")
        return True

    def _stop_on_poison(self, plan: StagePlan) -> None:
        """Texts beside those that are explained are not left out: what is found on them would be of other texts."""
        for item in (item for task in (*plan.tasks, *plan.awaited) for item in task.items):
            if item in self.facts.poison:
                raise HeadlightError(f"{plan.stage}: text {item[:16]} cannot be computed: {self.facts.poison[item]}")

    def _with_windows(self, items: set[str]) -> set[str]:
        """These rows, and the other windows of their texts: a text that lacks a part is no text."""
        rows = self.prepared.examples.select(["item_id", "text_id"]).to_pylist()
        texts = {row["text_id"] for row in rows if row["item_id"] in items} - {None}
        return items | {row["item_id"] for row in rows if row["text_id"] in texts}

    def _damaged(self) -> HeadlightError:
        return HeadlightError(
            f"results in {self.ledger.store.location} were damaged {REPAIRS} times after being written"
        )

    def _possible(self, plan: StagePlan) -> StagePlan:
        """The plan without tasks that failed before, or that read what could not be made."""
        impossible = [task for task in plan.tasks if self.facts.lacks(task)]
        self.facts.lost.update(key for task in impossible for key in task.results)
        plan.tasks = [task for task in plan.tasks if not self.facts.lost.issuperset(task.results)]
        return plan

    def _timed(self, plan: StagePlan) -> Iterator[StagePlan]:
        asked = {key for keys in plan.keys.values() for key in keys}
        fresh = len(asked - self.facts.keys.get(plan.stage, set()))
        self.facts.refers_to(plan.stage, asked)
        counts = self.facts.reuse.setdefault(plan.stage, {"computed": 0, "reused": 0})
        plan.reused = max(0, fresh - plan.computed)  # what the run itself made before is none of it
        counts["computed"] += plan.computed
        counts["reused"] += plan.reused
        if plan.stage == load_model.STAGE and plan.tasks:
            self._store_examples()
        started = time.perf_counter()
        yield plan
        if plan.tasks or plan.awaited:
            before = self.facts.timings.get(plan.stage, 0.0)
            self.facts.timings[plan.stage] = before + time.perf_counter() - started

    def _adopt(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.batches = plan_microbatches(prepared.examples, self.config.cluster, prepared.model.max_length)
        self.setting = Setting.of(self.config, prepared, self.site.cluster.device)

    def _store_examples(self) -> None:
        self.store_texts(self.prepared)

    def store_texts(self, prepared: Prepared) -> None:
        """Put texts where workers find them."""
        self.keep(prepared.examples_key, prepared.examples, "examples")

    def keep(self, key: str, table: pa.Table, stage: str) -> None:
        """Put what tasks read where workers find it."""
        self.facts.refers_to(stage, [key])
        self.ledger.store.put(key, table, stage)

    def _take_predictions(self, tables: dict[str, pa.Table]) -> None:
        """Check predictions against the labels, and keep the examples that pass the filter."""
        if self.facts.poison:
            ill = self._with_windows(set(self.facts.poison))
            healthy = [item not in ill for item in self.prepared.examples["item_id"].to_pylist()]
            self._adopt(self.prepared.only(healthy))
        examples = self.prepared.examples
        predictions = in_order_of(examples, pa.concat_tables(tables.values()))
        texts = self._texts(predictions)
        self.facts.fit = check_labels(self.prepared, *((examples, predictions) if texts is None else texts.labelled))
        if self.facts.fit is not None:
            self.say(describe_fit(self.facts.fit, self.prepared.model))
        explained = predictions.to_pylist() if texts is None else texts.explained
        kept = likely_gold(self.config, examples.to_pylist(), explained)
        self.predictions = predictions.take(kept)
        if len(kept) < examples.num_rows:
            self.note_down(f"{examples.num_rows - len(kept)} examples left out: gold class unlikely")
            chosen = set(kept)
            self._adopt(self.prepared.only([row in chosen for row in range(examples.num_rows)]))
        rows = self.prepared.examples.to_pylist()
        self.targets = targets_of(self.config, self.prepared.is_qa, rows, [explained[row] for row in kept])

    def _texts(self, predictions: pa.Table) -> WholeTexts | None:
        """Texts of which some are cut into windows; None where each row is a text."""
        return None if self.prepared.texts is None else WholeTexts(self.prepared, predictions)

    @property
    def texts(self) -> WholeTexts | None:
        """The same, once they are predicted."""
        return self._texts(self.predictions)

    def _take_heads(self, tables: dict[str, pa.Table], judged: Judged) -> None:
        """Add up what was counted, and give every method its heads."""
        self.judged = judged
        if self.counts:
            shape = self.prepared.model.n_layers, self.prepared.model.n_heads
            self.counted = Counted(self.config.heads, self.counts, tables, shape)
            self.heads = self.counted.scores()
            self._tell(self.heads.describe(selected=len(self.heads.scores) > SAID))
            self.note_down(head_domain(self.config, self.prepared))
        if judged.scores is not None:
            self.heads = judged.scores if self.heads is None else merge(self.heads, judged.scores)
        self.methods = resolved_methods(self.config.attribution, self.heads, self.prepared.model)

    def _tell(self, roles: Sequence[str]) -> None:
        for line in roles[:SAID]:
            self.say(line)
        if len(roles) > SAID:
            self.say(f"and {len(roles) - SAID} more, in the report")

    def _end(self, plans: Sequence[StagePlan], absent: list[str], finish: Callable[[], None]) -> None:
        """Read the tables, finish and let go of them; what is missing is noted in `absent` instead."""
        absent += self._collect(*plans)
        if not absent:
            finish()
        del self.attributions, self.curves, self.removals, self.others, self.again

    def _collect(self, scores: StagePlan, curves: StagePlan, others: StagePlan, again: StagePlan) -> list[str]:
        """Read the tables of the run; returns the keys of results that should be there and are not."""
        items, results = self.prepared.examples["item_id"].to_pylist(), self.results
        self.attributions = results.by_method("attributions", list(scores.keys.items()), attribute.STAGE, items)
        drawn = [
            (label, curves.keys[label, family]) for label in self.methods for family in curve_families(self.config)
        ]
        self.curves = results.by_method("curves", drawn, evaluate.STAGE, items)
        removed = [
            table
            for sets in removed_sets(self.config)
            for table in results.joined(curves.keys[None, sets], evaluate.STAGE, items)
        ]
        self.removals = pa.concat_tables(removed) if removed else REMOVALS.empty_table()
        self.others = OtherOperators.read(self.config, others, results, items, self.attributions)
        self.again = again_values(again, results)
        return [key for key in results.absent if key not in self.facts.lost]

    def note_down(self, note: str) -> None:
        """Say something, and keep it in the manifest."""
        self.facts.notes.append(note)
        self.say(note)

    def _stop_on_failure(self) -> None:
        """Nothing can be explained without predictions and heads. What was wrong with the input is said in one line."""
        failure = next((failure for failure in self.facts.failures if "item_id" not in failure), None)
        if failure is None:
            return
        kind, _, message = failure["error"].partition(": ")
        if kind == InputError.__name__:
            raise InputError(message)
        raise RuntimeError(failure["error"] + "\n" + (failure["traceback"] or ""))
