"""What a run would do: examples, passes and results at hand, counted before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attribution.methods.registry import METHODS
from evaluation import CURVES
from evaluation.levels import TENTHS
from evaluation.removals import REMOVALS, RemovalRequest, each_unit
from pipeline.config import Config
from pipeline.data import load_dataset
from pipeline.error_choice import explaining_label
from pipeline.error_steps import error_plans
from pipeline.estimate import Estimate, estimate, machine_bytes, remaining, save_estimate
from pipeline.execution import make_progress
from pipeline.execution.memory import Fits
from pipeline.execution.progress import clock_time
from pipeline.experiment import Experiment
from pipeline.head_importance import plan_weighing
from pipeline.layer_choice import plan_coherence
from pipeline.microbatch import MicroBatch
from pipeline.mixing_steps import mixing_plans
from pipeline.models.minilm import CORPORA, minilm_folder
from pipeline.models.resolve import untrained_head
from pipeline.other_operators import portions
from pipeline.plan_heads import head_costs, pruning_ahead
from pipeline.prepare import Prepared
from pipeline.rounds import round_sizes
from pipeline.run import require_cluster
from pipeline.schedule import Ledger, StagePlan, curve_families, removed_sets
from pipeline.stages import STAGES, explain_again, inject_patterns, measure_costs
from pipeline.store import Store
from pipeline.study_patterns import study_plans

PAPER_LEVELS = 9
SIZES = 8  # rounds that are listed


def describe_plan(config: Config, probe: bool = False) -> str:
    """The plan of a run in lines of text. Reads model, data and store, and writes nothing.

    With `probe` a few microbatches are computed, to tell how long the run would take; the run compares.
    """
    if (first := _trained_first(config)) is not None:
        return first
    site = require_cluster([config], make_progress(silent=True))
    experiment = Experiment(config, Ledger(Store(config.paths.store).checked()), site, say=lambda text: None)
    experiment.check()
    prepared, batches = experiment.prepared, experiment.batches
    plans = stage_plans(experiment)
    costs = [*_cost(config, prepared, batches), *head_costs(experiment)]
    ahead = pruning_ahead(experiment, plans)
    lines = [*_facts(prepared, batches), *costs, *map(_line, plans), *ahead, *_rounds(experiment)]
    if STAGES[-1] in {plan.stage for plan in plans}:
        lines += map(_line, [*mixing_plans(experiment), *error_plans(experiment)])
    else:
        results = len(batches) * len(config.attribution)
        known = "heads are found" if experiment.layer_texts is None else "heads are found and a layer is chosen"
        lines.append(f"attribute: up to {results} results; known once {known}")
    return "\n".join([*lines, *(_time(experiment, plans) if probe else ())])


def _trained_first(config: Config) -> str | None:
    """The plan where a model is trained before anything can be counted; None where none is."""
    models, source = Path(config.paths.models), config.model.source
    if source in CORPORA and not minilm_folder(source, models).is_dir():
        trained = f"model {source}: fine-tuned first, in about a minute"
    elif (texts := untrained_head(config.model, models)) is not None:
        trained = f"model.lm_head=train: a language-model head is trained first, once, on {texts} texts"
    else:
        return None
    dataset = load_dataset(config.dataset)
    return (
        f"{trained}; the plan counts tokens and passes after that\n"
        f"examples: {len(dataset.examples)} of {dataset.name}, {len(config.attribution)} methods"
    )


def stage_plans(experiment: Experiment) -> list[StagePlan]:
    """The plan of each stage, as far as the keys are known: those of the last two need what comes before."""
    texts = experiment.layer_texts
    first = [experiment.predicting(), experiment.finding()]
    if experiment.head_texts is not None:
        first.append(plan_weighing(experiment.config, experiment.ledger, experiment.head_texts))
    first += [] if texts is None else [plan_coherence(experiment, texts)]
    if any(plan.tasks for plan in first):
        return [*first, *study_plans(experiment)]
    done = []
    for plan in experiment.before_explaining():  # nothing to compute: what is at hand is read
        done.append(plan)
        if plan.tasks:  # the maps of layers, known once these are measured
            return done
    scores = experiment.attributing()
    dear = (experiment.comparing_operators(scores), experiment.explaining_again(scores))
    asked = [plan for plan in dear if plan.keys]
    return [*done, *study_plans(experiment), scores, experiment.evaluating(scores), *asked]


def _rounds(experiment: Experiment) -> Iterator[str]:
    """That a run need not come to all of this."""
    budget = experiment.config.evaluation.budget
    if budget is not None:
        sizes = round_sizes(experiment.prepared.whole.num_rows)
        shown = ", ".join(map(str, sizes[:SIZES])) + (", ..." if len(sizes) > SIZES else "")
        yield f"evaluation.budget={budget}: at most all of this, in rounds that end at {shown} examples"


def _time(experiment: Experiment, plans: Sequence[StagePlan]) -> Iterator[str]:
    """How long what is left would take."""
    measured = estimate(experiment, make_progress())
    left = remaining(measured, plans)
    save_estimate(experiment.config, left)
    wall = clock_time(left.total / left.workers)
    stages = ", ".join(f"{stage} {clock_time(seconds)}" for stage, seconds in left.seconds.items() if seconds)
    workers = _counted(left.workers, "worker")
    yield f"time: about {wall} on {workers}, {clock_time(left.total)} of work ({stages or 'nothing left'})"
    if untimed := _untimed(experiment):
        yield f"not in that time: {', '.join(untimed)}"
    price = experiment.config.budget.gpu_hour_price
    if left.gpus:
        cost = f", {left.gpu_hours * price:.2f} at {price:g} an hour" if price is not None else ""
        yield f"gpu: {left.gpu_hours:.2f} GPU-hours{cost}"
    reach = "at most" if left.rows is None else f"for {left.rows} texts at a time"
    yield f"memory: {left.peak_bytes / 2**30:.1f} GiB in a worker {reach}, of {machine_bytes() / 2**30:.1f} GiB"
    yield from _passes(experiment, left)
    yield from misfits(experiment.config, left)


def _untimed(experiment: Experiment) -> list[str]:
    """What the run does and no probe times: a stage, or what groups of the configuration ask for."""
    config = experiment.config
    asked = {
        explain_again.STAGE: any(metric in explain_again.AGAIN for metric in config.evaluation.metrics),
        "mixing": config.mixing.layers or config.mixing.probes,
        "errors": explaining_label(config, experiment.prepared) is not None,
        inject_patterns.STAGE: config.patterns.in_place,
        measure_costs.STAGE: config.patterns.in_place or config.students.train or config.students.texts,
    }
    return [name for name, wanted in asked.items() if wanted]


def _passes(experiment: Experiment, left: Estimate) -> Iterator[str]:
    """How many tokens go in a pass, and what that makes of the microbatches."""
    configured, memory = experiment.config.cluster.pass_tokens, left.memory
    tokens = configured or (memory and memory["tokens"])
    if not tokens:
        yield f"pass: microbatches are tried whole ({memory['problem'] if memory else 'each has one row'})"
        return
    cut = sum(bool(Fits(batch.length, tokens).parts(len(batch.rows), "")) for batch in experiment.batches)
    how = "cluster.pass_tokens" if memory is None else f"{memory['bytes_per_token'] / 2**10:.0f} KiB a token"
    parts = f"{cut} of {len(experiment.batches)} microbatches in parts"
    yield f"pass: up to {tokens:,} tokens of all methods together ({how}); {parts}"


def misfits(config: Config, left: Estimate) -> Iterator[str]:
    """What the run cannot have."""
    together = left.peak_bytes * (1 if left.gpus else left.workers)
    if config.cluster.address is None and together > machine_bytes():
        yield (
            f"does not fit: {_counted(left.workers, 'worker')} would need {together / 2**30:.1f} GiB; "
            "lower cluster.workers or cluster.batch_tokens"
        )
    for key, limit, hours in (
        ("budget.gpu_hours", config.budget.gpu_hours, left.gpu_hours),
        ("budget.worker_hours", config.budget.worker_hours, left.total / 3600),
    ):
        if limit is not None and hours > limit:
            yield f"does not fit: about {hours:.3g} hours, but {key}={limit:g}; it would stop there and could go on"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _facts(prepared: Prepared, batches: Sequence[MicroBatch]) -> Iterator[str]:
    lengths = [len(ids) for ids in prepared.examples["input_ids"].to_pylist()]
    shape = sum(batch.length * len(batch.rows) for batch in batches)
    yield f"model {prepared.model.name} ({prepared.model.architecture}), data set {prepared.dataset.name}"
    yield (
        f"examples: {len(lengths)} with {sum(lengths)} tokens (longest {max(lengths)}), in {len(batches)} microbatches "
        f"with {1 - sum(lengths) / shape:.1%} padding"
    )
    yield from prepared.notes


def _cost(config: Config, prepared: Prepared, batches: Sequence[MicroBatch]) -> Iterator[str]:
    needs = [METHODS[entry["method"]] for entry in config.attribution.values()]
    masks = sum(method.needs_heads for method in needs)
    tables = len({method.table.name for method in needs if method.table is not None})
    shared = max((method.backwards for method in needs if method.table is None), default=0) + tables
    per_example = sum(
        PAPER_LEVELS
        if config.evaluation.levels == "paper" and CURVES[family].levels is None
        else len(CURVES[family].levels or TENTHS)
        for family in curve_families(config)
    )
    yield (
        f"passes: {len(batches)} captures of {len(needs)} methods (1 forward each, up to {shared + masks} backwards, "
        f"{masks} of them with a head mask)"
    )
    yield from _asks(config)
    others = (row for portion in portions(config, prepared.examples, batches) for row in portion.batch.rows)
    rows, lengths = [*range(prepared.examples.num_rows), *others], _lengths(prepared)
    removed = sum(_copies(REMOVALS[sets], lengths[row]) for sets in removed_sets(config) for row in rows)
    yield f"perturbed inputs: at most {len(rows) * per_example * len(needs) + removed}, equal ones run once"


def _lengths(prepared: Prepared) -> list[int]:
    """Tokens of each example that may be taken away."""
    return [row.count(False) for row in prepared.examples["special_tokens"].to_pylist()]


def _copies(request: RemovalRequest, length: int) -> int:
    """Sets of a text of this many tokens, which serve all methods."""
    return length if request.sets is each_unit else request.number * len(request.sizes)


def _asks(config: Config) -> Iterator[str]:
    """What methods that ask the model again need for a text of N tokens, words or sentences."""
    for label, entry in config.attribution.items():
        method = METHODS[entry["method"]]
        if method.asks:
            values = {**method.parameters, **entry}
            named = [
                f"{name}={values[name]}" for name in method.parameters if any(name in text for text in method.cost)
            ]
            forwards, backwards = method.cost
            yield f"{label}: up to {forwards} forwards and {backwards} backwards more for a text ({', '.join(named)})"


def _line(plan: StagePlan) -> str:
    return f"{plan.stage}: {plan.computed} results to compute in {len(plan.tasks)} tasks, {plan.reused} at hand"
