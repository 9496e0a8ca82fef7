"""Microbatches that do not go as a whole: too little memory for all rows, and examples that fail on their own."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import save_tiny
from transformers import BertModel

from pipeline.execution import make_progress
from pipeline.execution.task import MAX_POISON, Task, WorkerSlot
from pipeline.microbatch import MicroBatch, without
from pipeline.parts import PoisonError, compute_in_parts, lacks_memory
from pipeline.run import run
from pipeline.schemas import OF_LEVELS
from pipeline.stages import measure_memory
from pipeline.validate import load_config
from pipeline.worker import StageWorker

ITEMS = tuple("abcdefgh")
NUMBERS = {
    "predictions": ["logits", "probabilities"],
    "attributions": ["scores"],
    "curves": ["probabilities", "logits", "intact_logit", "intact_probability", *OF_LEVELS],
}
TEXTS = [f"{noun} was {word} ." for noun in ("film", "meal", "book", "hotel") for word in ("good", "bad")]


def device_memory(rows):
    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {rows} GiB.")


def processor_memory(rows):
    torch.empty(10**15)


def squares(limit=8, poison=(), calls=None):
    """Squares of the row numbers; no more than `limit` rows at once, and none of `poison`."""

    def compute(rows):
        numbers = list(range(8))[rows]
        if calls is not None:
            calls.append(len(numbers))
        if len(numbers) > limit:
            device_memory(len(numbers))
        if bad := set(numbers) & set(poison):
            raise ValueError(f"no square of {min(bad)}")
        return {"key": pa.table({"square": [number**2 for number in numbers]})}

    return compute


def test_what_goes_as_a_whole_is_computed_once():
    calls = []
    tables, parts = compute_in_parts(squares(calls=calls), ITEMS)
    assert (calls, parts) == ([8], 1)
    assert tables["key"]["square"].to_pylist() == [number**2 for number in range(8)]


@pytest.mark.parametrize(("limit", "parts"), [(7, 2), (4, 2), (3, 4), (1, 8)])
def test_too_many_rows_are_halved_and_joined_in_order(limit, parts):
    computed = compute_in_parts(squares(limit), ITEMS)
    assert computed.parts == parts
    assert computed.tables["key"].combine_chunks().equals(compute_in_parts(squares(), ITEMS).tables["key"])


def test_parts_that_are_known_to_go_are_tried_first():
    calls = []
    assert compute_in_parts(squares(4, calls=calls), ITEMS, ((0, 4), (4, 8))).parts == 2
    assert calls == [4, 4]


@pytest.mark.parametrize("allocate", [device_memory, processor_memory])
def test_memory_is_told_from_other_failures(allocate):
    with pytest.raises(RuntimeError) as error:
        allocate(1)
    assert lacks_memory(error.value)
    assert lacks_memory(MemoryError())
    assert not lacks_memory(RuntimeError("shapes do not fit"))
    assert not lacks_memory(ValueError("out of memory"))


def test_memory_held_by_the_failed_attempt_is_given_back():
    held = []

    def compute(rows):
        if rows.stop - rows.start > 1:
            tensor = torch.zeros(10)
            assert all(reference() is None for reference in held)
            held.append(weakref.ref(tensor))
            device_memory(8)
        return {"key": pa.table({"row": [rows.start]})}

    assert compute_in_parts(compute, ITEMS).parts == 8
    assert len(held) == 7


@pytest.mark.parametrize("poison", [(0,), (7,), (2, 3), (1, 4, 6)])
def test_examples_that_fail_alone_are_named(poison):
    with pytest.raises(PoisonError) as error:
        compute_in_parts(squares(poison=poison), ITEMS)
    assert error.value.poison == tuple((ITEMS[row], f"ValueError: no square of {row}") for row in poison)
    assert str(error.value).startswith(f"{len(poison)} of 8 examples cannot be computed: {ITEMS[poison[0]]}: ValueErr")


def test_an_example_too_large_for_the_memory_is_named():
    def compute(rows):
        if 5 in range(rows.start, rows.stop):
            processor_memory(1)
        return squares()(rows)

    with pytest.raises(PoisonError) as error:
        compute_in_parts(compute, ITEMS)
    ((item, reason),) = error.value.poison
    assert (item, "can't allocate memory" in reason) == ("f", True)


@pytest.mark.parametrize("poison", [range(8), range(MAX_POISON), range(8 - MAX_POISON, 8)])
def test_where_too_many_fail_no_example_is_to_blame(poison):
    calls = []
    with pytest.raises(ValueError, match=f"no square of {min(poison)}"):
        compute_in_parts(squares(poison=poison, calls=calls), ITEMS)
    assert len(calls) <= 15


def test_an_example_that_is_alone_is_named():
    with pytest.raises(PoisonError, match=r"1 of 1 examples cannot be computed: a: ValueError: no square of 0"):
        compute_in_parts(squares(poison=[0]), ITEMS[:1])


def test_a_failure_of_the_whole_alone_is_not_hidden():
    def compute(rows):
        if rows.stop - rows.start == 8:
            raise ValueError("eight rows do not fit together")
        return squares()(rows)

    with pytest.raises(ValueError, match="eight rows"):
        compute_in_parts(compute, ITEMS)


def test_a_worker_s_outcome_names_the_poison():
    class Squarer:
        def process(self, task):
            return compute_in_parts(squares(poison=[3]), task.items, task.parts).parts

    outcome = WorkerSlot(Squarer, "here").run(Task("t", "square", {}, items=ITEMS))
    assert (outcome.ok, outcome.poison) == (False, (("d", "ValueError: no square of 3"),))
    assert "in compute" in outcome.traceback  # where it failed, not only where it was found


def test_a_microbatch_without_some_examples():
    batch = MicroBatch((4, 7, 9), ("a", "b", "c"), 16)
    assert without(batch, ["b", "elsewhere"]) == MicroBatch((4, 9), ("a", "c"), 16)
    assert without(batch, ["a", "b", "c"]) is None


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = save_tiny("bert", tmp_path / "tiny")
    data = tmp_path / "data.tsv"
    data.write_text("sentence\tlabel\n" + "".join(f"{text}\tpositive\n" for text in TEXTS))
    return [
        "model=local", f"model.path={model}", "dataset=local", f"dataset.path={data}", "heads=all", "tracking=none",
        "attribution=none", "attribution.m.method=gradcam", "attribution.f.method=full_lrp", "evaluation.controls=[]",
        "++model.label_map.positive=1", "++model.label_map.negative=0", "cluster.max_batch=8",
    ]  # fmt: skip


@pytest.fixture
def answers(monkeypatch):
    """What workers returned, by stage; None where they raised. Not what they measured."""
    found: list[tuple[str, dict | None]] = []
    original = StageWorker.process

    def process(worker, task):
        if task.stage == measure_memory.STAGE:
            return original(worker, task)
        found.append((task.stage, None))
        found[-1] = (task.stage, original(worker, task))
        return found[-1][1]

    monkeypatch.setattr(StageWorker, "process", process)
    return found


def before_every_pass(monkeypatch, check):
    """`check(input_ids)` before every pass of a BERT."""
    original = BertModel.forward

    def forward(self, input_ids=None, **rest):
        check(input_ids)
        return original(self, input_ids, **rest)

    monkeypatch.setattr(BertModel, "forward", forward)


def go(overrides):
    folder = run(load_config(overrides), overrides, make_progress(silent=True)).folder
    return folder, json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("allocate", [device_memory, processor_memory])
def test_a_run_with_little_memory_has_the_same_results(base, monkeypatch, answers, allocate):
    base = [*base, "errors.method=null"]
    whole, _ = go([*base, "paths.root=whole"])
    assert [answer["parts"] for _, answer in answers] == [1, 1, 1]
    answers.clear()
    before_every_pass(monkeypatch, lambda ids: allocate(len(ids)) if len(ids) > 2 else None)
    divided, manifest = go([*base, "paths.root=divided"])
    assert {stage: answer["parts"] for stage, answer in answers} == {"load_model": 4, "attribute": 4, "evaluate": 8}
    assert manifest["status"] == "done"
    for name, column in (("predictions", "logits"), ("attributions", "scores"), ("curves", "probabilities")):
        one, other = (pq.read_table(folder / f"{name}.parquet") for folder in (whole, divided))
        assert one.drop_columns(NUMBERS[name]).equals(other.drop_columns(NUMBERS[name]))
        a, b = (table[column].combine_chunks().flatten().to_numpy() for table in (one, other))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)  # the last digit follows the number of rows in a pass


def test_poison_examples_of_a_run_are_named(base, monkeypatch):
    folder, _ = go([*base, "paths.root=whole"])
    examples = pq.read_table(folder / "examples.parquet")
    meal = examples["input_ids"][2][1].as_py()

    def check(ids):
        if torch.is_grad_enabled() and bool((ids[:, 1] == meal).any()):
            raise ValueError("no explanation for meals")

    before_every_pass(monkeypatch, check)
    outcomes = []
    original = WorkerSlot.run

    def keep(slot, task):
        outcomes.append(original(slot, task))
        return outcomes[-1]

    monkeypatch.setattr(WorkerSlot, "run", keep)
    go([*base, "paths.root=poisoned"])
    outcome = next(outcome for outcome in outcomes if not outcome.ok)
    assert outcome.poison == tuple(
        (item, "ValueError: no explanation for meals") for item in examples["item_id"].to_pylist()[2:4]
    )
