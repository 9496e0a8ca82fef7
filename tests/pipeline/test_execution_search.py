"""The search for examples that end their worker, with a worker that is only described."""

from __future__ import annotations

import pytest

from pipeline.execution.backlog import Job
from pipeline.execution.task import MAX_POISON, Outcome, Task

ITEMS = tuple(f"item-{row:02}" for row in range(32))


def rows_of(task):
    parts = task.parts or ((0, len(task.items)),)
    return [row for start, stop in parts for row in range(start, stop)]


def supervise(deadly, items=ITEMS, attempts=3, largest=None, raising=(), unlucky=()):
    """What becomes of a task and the number of attempts; `unlucky` attempts end whatever they do."""
    job, tried = Job(Task("t", "square", {}, items=items)), []
    while True:
        task = job.attempt()
        tried.append(task.parts)
        rows = rows_of(task)
        size = max(stop - start for start, stop in task.parts or ((0, len(items)),))
        if set(rows) & set(deadly) or size > (largest or 32) or len(tried) in unlucky:
            job.died("it is gone", 1.0)
            if not job.goes_on(attempts, divide=True):
                return job.given_up("here"), tried
        else:
            poison = tuple((items[row], "ValueError: no") for row in rows if row in raising)
            error = "ValueError: no" if poison else None
            outcome = job.answered(
                Outcome("t", not poison, {"rows": len(rows)}, error, None, 1.0, "here", 1, poison=poison)
            )
            if outcome:
                return outcome, tried


@pytest.mark.parametrize("deadly", [[0], [31], [7, 8], [1, 16, 30]])
def test_examples_that_end_their_worker_are_named(deadly):
    outcome, tried = supervise(deadly)
    assert not outcome.ok
    assert outcome.poison == tuple((ITEMS[row], "WorkerLost: it is gone") for row in deadly)
    assert outcome.error.startswith(f"{len(deadly)} of 32 examples cannot be computed: item-")
    assert len(tried) <= 3 + 11 * len(deadly)


def test_an_example_that_raises_in_a_part_is_named_as_well():
    outcome, _ = supervise([4], raising=[20])
    assert sorted(outcome.poison) == [("item-04", "WorkerLost: it is gone"), ("item-20", "ValueError: no")]


@pytest.mark.parametrize("largest", [16, 5])
def test_what_goes_in_parts_is_done_in_parts(largest):
    outcome, tried = supervise([], largest=largest)
    assert (outcome.ok, outcome.value) == (True, {"rows": 32})
    assert rows_of(Task("t", "", {}, items=ITEMS, parts=tried[-1])) == list(range(32))
    assert all(stop - start <= largest for start, stop in tried[-1])
    assert all(Task("t", "", {}, items=ITEMS, parts=parts).is_probe() for parts in tried[3:-1])
    assert not Task("t", "", {}, items=ITEMS, parts=tried[-1]).is_probe()


def test_one_death_alone_may_be_the_node_s_fault():
    outcome, tried = supervise([], items=ITEMS[:2], unlucky=[1, 2, 3, 4])
    assert outcome.ok
    assert tried == [(), (), (), ((0, 1),), ((0, 1),), ((1, 2),), ((0, 1), (1, 2))]


@pytest.mark.parametrize("deadly", [range(32), range(0, 32, 4)])
def test_where_too_many_end_their_worker_none_is_to_blame(deadly):
    outcome, tried = supervise(deadly)
    assert (outcome.ok, outcome.poison) == (False, ())
    assert outcome.error.startswith("WorkerLost: every attempt ended its worker: (1) it is gone; (2)")
    assert len(tried) <= 3 + 11 * MAX_POISON


def test_parts_that_go_alone_but_not_together_are_given_up():
    outcome, tried = supervise([], items=ITEMS[:4], largest=2, unlucky=[6])
    assert (outcome.ok, outcome.attempts) == (False, 4)
    assert tried[3:] == [((0, 2),), ((2, 4),), ((0, 2), (2, 4))]


def test_a_task_of_one_example_needs_no_search():
    outcome, tried = supervise([0], items=ITEMS[:1])
    ((item, reason),) = outcome.poison
    assert (outcome.ok, item, len(tried)) == (False, "item-00", 3)
    assert reason == "WorkerLost: every attempt ended its worker: (1) it is gone; (2) it is gone; (3) it is gone"


def test_a_task_without_examples_is_given_up():
    outcome, tried = supervise([], items=(), largest=-1)
    assert (outcome.ok, outcome.poison, len(tried)) == (False, (), 3)


def test_a_part_that_fails_for_another_reason_ends_the_search():
    job = Job(Task("t", "square", {}, items=ITEMS[:4]))
    for _ in range(3):
        job.died("it is gone", 1.0)
        assert job.goes_on(3, divide=True)
    failed = Outcome("t", False, {}, "OSError: no disk", None, 1.0, "here", 1)
    outcome = job.answered(failed)
    assert (outcome.error, outcome.poison, outcome.attempts) == ("OSError: no disk", (), 4)
