from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time

import pytest
import ray
import torch

from attribution.errors import HeadlightError
from pipeline.config import ClusterConfig
from pipeline.execution import Task, in_order
from pipeline.execution.backlog import Backlog
from pipeline.execution.local import LocalExecutor
from pipeline.execution.ray_cluster import connect, python_path
from pipeline.execution.ray_pool import RayExecutor

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test module


class TwoArguments(Exception):
    def __init__(self, code, message):
        super().__init__(code, message)


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not this one")


def two_arguments(payload):
    raise TwoArguments(7, "broken")


def wait_for(payload):
    while not os.path.exists(payload["path"]):
        time.sleep(0.02)
    return {"waited": True}


ACTIONS = {
    "square": lambda payload: {"square": payload["number"] ** 2},
    "pid": lambda payload: {"pid": os.getpid()},
    "threads": lambda payload: {"torch": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"]},
    "fill": lambda payload: {"length": len(b"x" * payload["bytes"])},
    "variable": lambda payload: {"value": os.environ.get(payload["name"])},
    "error": lambda payload: payload["missing"],
    "two_arguments": two_arguments,
    "unpicklable": lambda payload: {"value": Unpicklable()},
    "kill": lambda payload: os.kill(os.getpid(), signal.SIGKILL),
    "wait_for": wait_for,
    "sleep": lambda payload: time.sleep(payload["seconds"]) or {},
}


def kill_at(task):
    """Squares of the rows; row `payload["deadly"]` ends the worker."""
    rows = [row for start, stop in task.parts or [(0, len(task.items))] for row in range(start, stop)]
    if task.payload["deadly"] in rows:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"squares": [row**2 for row in rows]}


class Doer:
    def process(self, task):
        if task.stage == "kill_at":
            return kill_at(task)
        log = task.payload.get("log")
        if log:
            with open(log, "a") as file:
                file.write(f"{task.id} {os.getpid()}\n")
        return ACTIONS[task.stage](task.payload)


def config(workers, **changes):
    return ClusterConfig("ray", workers=workers, cpus_per_worker=0.5, **changes)


@pytest.fixture(scope="module")
def cluster():
    home_token = os.path.expanduser("~/.ray/auth_token")
    had_token = os.path.exists(home_token)
    with connect(ClusterConfig("ray", workers=2)) as connection:
        assert os.path.exists(home_token) == had_token
        yield connection


@pytest.fixture(scope="module")
def pool(cluster):
    with RayExecutor(Doer, config(2)) as executor:
        executor.wait_until_ready()
        yield executor


@pytest.fixture(scope="module")
def strict(cluster):
    """One worker with three threads that gives up at once."""
    with RayExecutor(Doer, config(1, threads=3, attempts=1, shard_deadline_s=2.0), quiet_s=0.1) as executor:
        yield executor


def run(executor, tasks):
    outcomes = {}

    def collect(outcome):
        assert outcome.task_id not in outcomes
        outcomes[outcome.task_id] = outcome

    executor.run(in_order(tasks), collect)
    return outcomes


def squares(n):
    return [Task(f"square-{number}", "square", {"number": number}) for number in range(n)]


def started_pids(log):
    return [int(line.split()[1]) for line in log.read_text().splitlines()]


def test_ray_and_local_give_the_same(pool):
    with LocalExecutor(Doer) as local:
        expected = {key: outcome.value for key, outcome in run(local, squares(30)).items()}
    outcomes = run(pool, squares(30))
    assert {key: pickle.dumps(outcome.value) for key, outcome in outcomes.items()} == {
        key: pickle.dumps(value) for key, value in expected.items()
    }
    assert all(outcome.ok and outcome.attempts == 1 for outcome in outcomes.values())
    assert len({outcome.worker for outcome in outcomes.values()}) == 2


def test_nothing_to_do(pool):
    assert run(pool, []) == {}


def test_errors_come_back_as_text_and_are_not_tried_again(pool, tmp_path):
    log = tmp_path / "log"
    stages = {"error": "KeyError: 'missing'", "two_arguments": "TwoArguments: (7, 'broken')"}
    tasks = [Task(stage, stage, {"log": str(log)}) for stage in stages]
    outcomes = run(pool, [*tasks, *squares(4)])
    for stage, text in stages.items():
        assert (outcomes[stage].ok, outcomes[stage].error, outcomes[stage].attempts) == (False, text, 1)
        assert "Traceback" in outcomes[stage].traceback
    assert len(started_pids(log)) == 2
    assert sum(outcome.ok for outcome in outcomes.values()) == 4


def test_a_result_that_cannot_be_sent_fails_its_task(pool):
    outcome = run(pool, [Task("odd", "unpicklable", {})])["odd"]
    assert not outcome.ok
    assert outcome.error == "TypeError: the result of odd cannot be sent: not this one"


def test_tasks_are_read_as_workers_become_free(pool):
    read, ahead = [], []

    def tasks():
        for task in squares(40):
            read.append(task.id)
            yield task

    pool.run(in_order(tasks()), lambda outcome: ahead.append(len(read) - len(ahead)))
    assert len(ahead) == 40
    assert max(ahead) <= 2 * pool.workers + pool.workers


def test_a_worker_is_given_what_it_is_warm_for(pool):
    first = run(pool, [Task("a", "sleep", {"seconds": 0.1}, "a"), Task("b", "sleep", {"seconds": 0.1}, "b")])
    assert first["a"].worker != first["b"].worker
    models = "aabb" * 6  # taken in turn, half of them would go to the wrong worker
    tasks = [Task(f"{model}-{number}", "sleep", {"seconds": 0.05}, model) for number, model in enumerate(models)]
    outcomes = run(pool, tasks)
    at_home = [outcome.worker == first[key[0]].worker for key, outcome in outcomes.items()]
    assert sum(at_home) >= 18  # of 24; a worker takes what there is rather than wait


def test_an_outcome_may_bring_new_tasks(pool):
    waiting, done = squares(1), []

    def on_outcome(outcome):
        done.append(outcome.task_id)
        waiting.extend(squares(6)[1:] if len(done) == 1 else [])

    pool.run(lambda: waiting.pop(0) if waiting else None, on_outcome)
    assert sorted(done) == [f"square-{number}" for number in range(6)]


def test_a_drained_pool_ends_after_what_is_under_way(cluster):
    done = []
    with RayExecutor(Doer, config(2)) as executor:

        def on_outcome(outcome):
            done.append(outcome.task_id)
            executor.drain()

        executor.run(in_order(squares(40)), on_outcome)
    assert 1 <= len(done) <= 2


def test_the_order_of_a_backlog():
    tasks = [Task(name, "square", {}, affinity=name[0]) for name in ("a1", "b1", "a2", "b2", "c1")]
    backlog = Backlog(in_order(tasks), workers=1)
    assert not backlog.take()
    backlog.read()
    job = backlog.take({"b"})
    assert job.task.id == "b1"
    backlog.put_back(job)
    assert backlog.take({"c"}) is None  # not read yet
    assert [backlog.take().task.id for _ in range(len(tasks))] == ["b1", "a1", "a2", "b2", "c1"]
    assert backlog.take() is None


def test_a_killed_worker_costs_only_its_shard(pool, tmp_path, caplog):
    log, gate = tmp_path / "log", tmp_path / "gate"

    def kill_the_worker():
        while not log.exists() or not log.read_text().endswith("\n"):
            time.sleep(0.02)
        os.kill(started_pids(log)[0], signal.SIGKILL)
        gate.touch()

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    held = Task("held", "wait_for", {"log": str(log), "path": str(gate)})
    outcomes = run(pool, [held, *squares(20)])
    killer.join()
    assert len(outcomes) == 21
    assert all(outcome.ok for outcome in outcomes.values())
    assert outcomes["held"].attempts == 2
    assert len(started_pids(log)) == 2
    assert {outcome.attempts for key, outcome in outcomes.items() if key != "held"} == {1}
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert str(started_pids(log)[0]) in warning
    assert ".err" in warning


def test_a_poison_task_is_given_up_after_its_attempts(pool, tmp_path, capfd):
    log = tmp_path / "log"
    outcomes = run(pool, [*squares(5), Task("poison", "kill", {"log": str(log)}), *squares(10)[5:]])
    poison = outcomes.pop("poison")
    pids = started_pids(log)
    assert (poison.ok, poison.attempts, len(set(pids))) == (False, 3, 3)
    assert poison.error.startswith("WorkerLost: every attempt ended its worker: (1) ")
    assert all(f":{pid}: " in poison.error for pid in pids)
    assert len(outcomes) == 10
    assert all(outcome.ok for outcome in outcomes.values())
    assert capfd.readouterr().out == ""  # Ray would print on standard output


def test_an_example_that_ends_its_worker_is_named(pool, capfd):
    items = tuple("abcd")
    tasks = [Task(f"deadly-{row}", "kill_at", {"deadly": row}, items=items) for row in (2, 9)]
    outcomes = run(pool, [*squares(5), *tasks])
    poisoned = outcomes["deadly-2"]
    ((item, reason),) = poisoned.poison
    assert (poisoned.ok, item, outcomes["deadly-9"].value) == (False, "c", {"squares": [0, 1, 4, 9]})
    assert reason.startswith("WorkerLost: ")
    assert poisoned.error == f"1 of 4 examples cannot be computed: c: {reason}"
    assert poisoned.attempts == 6  # three with all examples, one with half of them, two alone
    assert capfd.readouterr().out == ""


def test_an_interrupted_run_leaves_the_pool_usable(pool):
    def interrupt(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run(in_order(squares(10)), interrupt)
    assert len(run(pool, squares(1))) == 1


class NeverThere:
    def __reduce__(self):
        return __import__, ("a_module_that_only_the_driver_has",)

    def __call__(self):
        return Doer()


def test_workers_that_never_come_up_end_the_run_with_the_cause(cluster):
    with (
        RayExecutor(NeverThere(), config(1, attempts=1)) as executor,
        pytest.raises(HeadlightError, match=r"no Ray worker comes up: .*a_module_that_only_the_driver_has"),
    ):
        run(executor, squares(3))


def test_closing_an_executor_leaves_a_cluster_it_did_not_start(cluster):
    RayExecutor(Doer, config(1)).close()
    assert ray.is_initialized()


def test_workers_get_the_environment_of_their_connection(cluster, monkeypatch):
    """As the nodes that are asked before any work do."""
    variables = {"HEADLIGHT_HERE": "yes", "PYTHONPATH": python_path()}
    with RayExecutor(Doer, config(1)) as executor:
        monkeypatch.setattr(executor._connection, "worker_environment", lambda: variables)
        (outcome,) = run(executor, [Task("v", "variable", {"name": "HEADLIGHT_HERE"})]).values()
    assert outcome.value == {"value": "yes"}


def test_the_memory_of_a_worker_is_its_own(strict):
    before, after = 0, 100 * 2**20
    tasks = [Task(f"fill-{size}", "fill", {"bytes": size}) for size in (before, after)]
    outcomes = run(strict, tasks)
    assert [outcome.error for outcome in outcomes.values()] == [None, None]
    grown = outcomes[f"fill-{after}"].resident_bytes - outcomes[f"fill-{before}"].resident_bytes
    assert 0.9 * after < grown < 1.5 * after


def test_threads(strict):
    (outcome,) = run(strict, [Task("t", "threads", {})]).values()
    assert outcome.value == {"torch": 3, "omp": "3"}


def test_silence_is_reported(strict, caplog):
    strict.wait_until_ready()
    caplog.clear()
    run(strict, [Task("slow", "sleep", {"seconds": 1.2})])
    assert "no progress for 0.5 s; at work: " in caplog.text  # five times `quiet_s`: nobody waits for a worker
    assert " on slow" in caplog.text
    assert "workers wait" not in caplog.text


def test_a_shard_beyond_its_deadline_is_given_up(strict):
    outcomes = run(strict, [*squares(3), Task("slow", "sleep", {"seconds": 60})])
    assert "cluster.shard_deadline_s=2" in outcomes.pop("slow").error
    assert all(outcome.ok for outcome in outcomes.values())


def test_a_worker_with_other_code_is_not_used(strict, monkeypatch):
    strict._dismiss(strict._members)
    monkeypatch.setattr(strict, "_code", "the code was edited since the run began")
    with pytest.raises(HeadlightError, match="has other code of Headlight"):
        run(strict, squares(3))
