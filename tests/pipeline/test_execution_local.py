from __future__ import annotations

import pytest
import torch

from attribution.errors import InputError
from pipeline.execution import Task, in_order
from pipeline.execution.local import LocalExecutor


class TwoArguments(Exception):
    def __init__(self, code, message):
        super().__init__(code, message)


class Calculator:
    def process(self, task):
        if error := task.payload.get("error"):
            raise error
        return {"square": task.payload["number"] ** 2, "threads": torch.get_num_threads()}


def squares(n):
    return [Task(f"task-{number}", "square", {"number": number}) for number in range(n)]


def run(executor, tasks):
    outcomes = []
    executor.run(in_order(tasks), outcomes.append)
    return outcomes


def test_outcomes_in_order():
    with LocalExecutor(Calculator) as executor:
        outcomes = run(executor, squares(3))
    assert [outcome.task_id for outcome in outcomes] == ["task-0", "task-1", "task-2"]
    assert [outcome.value["square"] for outcome in outcomes] == [0, 1, 4]
    assert all(outcome.ok and outcome.error is None and outcome.attempts == 1 for outcome in outcomes)


def test_the_worker_is_built_once_and_only_when_needed():
    built = []

    def factory():
        built.append(Calculator())
        return built[-1]

    with LocalExecutor(factory) as executor:
        run(executor, [])
        assert built == []
        run(executor, squares(2))
        run(executor, squares(2))
    assert len(built) == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such token"), "ValueError: no such token"),
        (TwoArguments(7, "broken"), "TwoArguments: (7, 'broken')"),
        (InputError("conf error: seed=x"), "InputError: conf error: seed=x"),
    ],
)
def test_an_error_ends_its_task_alone(error, text):
    with LocalExecutor(Calculator) as executor:
        failed, done = run(executor, [Task("bad", "square", {"error": error}), *squares(1)])
    assert (failed.task_id, failed.ok, failed.value, failed.error) == ("bad", False, {}, text)
    assert "in process" in failed.traceback
    assert done.ok


def test_a_factory_that_fails_fails_every_task():
    def factory():
        raise OSError("model not found")

    with LocalExecutor(factory) as executor:
        outcomes = run(executor, squares(2))
    assert [outcome.error for outcome in outcomes] == ["OSError: model not found"] * 2


def test_an_interruption_passes_through():
    outcomes = []
    tasks = [*squares(1), Task("interrupted", "square", {"error": KeyboardInterrupt()}), *squares(1)]
    with LocalExecutor(Calculator) as executor, pytest.raises(KeyboardInterrupt):
        executor.run(in_order(tasks), outcomes.append)
    assert [outcome.task_id for outcome in outcomes] == ["task-0"]


def test_tasks_are_read_one_at_a_time():
    events = []

    def tasks():
        for task in squares(2):
            events.append(f"read {task.id}")
            yield task

    with LocalExecutor(Calculator) as executor:
        executor.run(in_order(tasks()), lambda outcome: events.append(f"done {outcome.task_id}"))
    assert events == ["read task-0", "done task-0", "read task-1", "done task-1"]


def test_an_outcome_may_bring_new_tasks():
    waiting, done = squares(1), []

    def on_outcome(outcome):
        done.append(outcome.task_id)
        waiting.extend([Task("later", "square", {"number": 3})] if len(done) == 1 else [])

    with LocalExecutor(Calculator) as executor:
        executor.run(lambda: waiting.pop(0) if waiting else None, on_outcome)
    assert done == ["task-0", "later"]


def test_threads_are_set_and_given_back():
    before = torch.get_num_threads()
    with LocalExecutor(Calculator, threads=before + 1) as executor:
        (outcome,) = run(executor, squares(1))
    assert outcome.value["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_a_drained_executor_ends_after_the_task_under_way():
    with LocalExecutor(Calculator) as executor:
        done = []

        def on_outcome(outcome):
            done.append(outcome.task_id)
            executor.drain()

        executor.run(in_order(squares(3)), on_outcome)
    assert done == ["task-0"]
