"""The driver's queue, with runs made of plain tasks."""

from __future__ import annotations

import os
import signal
import threading

import pyarrow as pa
import pytest

from pipeline.driver import ASIDES, Aside, Driver, Stopped
from pipeline.execution import Task
from pipeline.execution.local import LocalExecutor
from pipeline.schedule import Ledger, plan_whole
from pipeline.store import Store


class Writer:
    """Does a task by writing its result, unless its name says otherwise."""

    def __init__(self, store, order):
        self.store, self.order = store, order

    def process(self, task):
        self.order.append(task.id)
        if task.id.startswith("bad"):
            raise ValueError("poisoned")
        if task.id.startswith("signal"):
            os.kill(os.getpid(), signal.SIGUSR1)
        self.store.put(task.id, pa.table({"item_id": [task.id]}), task.stage)
        return {}


class Plain:
    """A run of stages that are lists of task names, or work to be done aside."""

    def __init__(self, ledger, *stages):
        self.ledger, self.stages = ledger, stages
        self.noted, self.plans, self.ended = [], [], False

    def steps(self):
        for names in self.stages:
            if callable(names):
                yield Aside(names)
                continue
            plan = plan_whole(self.ledger, "stage", [Task(name, "stage", {}, results=(name,)) for name in names])
            self.plans.append((plan.computed, plan.reused))
            yield plan
        self.ended = True

    def note(self, outcome, task):
        self.noted.append((task.id, outcome.ok))


class Watch:
    def __init__(self):
        self.events = []

    def begin(self, flow, plan):
        self.events.append("begin")

    def advance(self, flow, task):
        self.events.append(task.id)

    def end(self, flow, plan):
        self.events.append("end")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(Store(tmp_path))


def drive(ledger, *flows, **options):
    order, starts = [], []

    def start():
        starts.append(1)
        return LocalExecutor(lambda: Writer(ledger.store, order))

    watch = Watch()
    driver = Driver(flows, ledger, watch, start, **options)
    try:
        driver.run()
    finally:
        drive.watch, drive.starts = watch.events, len(starts)
    return order


def test_stages_follow_each_other_and_runs_too(ledger):
    flows = Plain(ledger, ["a1", "a2"], ["a3"]), Plain(ledger, ["b1"])
    assert drive(ledger, *flows) == ["a1", "a2", "a3", "b1"]
    assert all(flow.ended for flow in flows)
    assert drive.watch == ["begin", "a1", "a2", "end", "begin", "a3", "end", "begin", "b1", "end"]


def test_what_is_at_hand_needs_no_executor(ledger):
    drive(ledger, Plain(ledger, ["a"]))
    again = Plain(ledger, ["a"])
    assert drive(ledger, again) == []
    assert drive.starts == 0
    assert again.plans == [(0, 1)]
    assert again.ended


class Together(LocalExecutor):
    """Reads all tasks there are before it does one, as a pool of many workers does."""

    def run(self, next_task, on_outcome):
        while tasks := list(iter(next_task, None)):
            for task in tasks:
                on_outcome(self._slot.run(task))


def test_a_task_two_runs_need_is_done_once_and_told_to_both(ledger):
    order = []
    one, two = Plain(ledger, ["shared", "bad", "mine"], ["last"]), Plain(ledger, ["shared", "bad"])
    Driver([one, two], ledger, Watch(), lambda: Together(lambda: Writer(ledger.store, order))).run()
    assert order == ["shared", "bad", "mine", "last"]
    assert two.noted == [("shared", True), ("bad", False)]
    assert one.noted == [("shared", True), ("bad", False), ("mine", True), ("last", True)]
    assert two.plans == [(0, 2)]
    assert one.ended
    assert two.ended


def test_no_more_runs_at_once_than_allowed(ledger):
    order = []
    flows = [Plain(ledger, [f"{name}1"], [f"{name}2"]) for name in "abc"]
    executor = Together(lambda: Writer(ledger.store, order))
    Driver(flows, ledger, Watch(), lambda: executor, max_parallel=2).run()
    assert order == ["a1", "b1", "a2", "b2", "c1", "c2"]


def test_a_signal_drains_and_a_later_run_goes_on(ledger):
    before = signal.getsignal(signal.SIGUSR1)
    stopped = Plain(ledger, ["a", "signal", "b"])
    with pytest.raises(Stopped, match="SIGUSR1"):
        drive(ledger, stopped)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert stopped.noted == [("a", True), ("signal", True)]
    assert not stopped.ended
    assert drive(ledger, Plain(ledger, ["a", "signal", "b"])) == ["b"]


def test_an_outcome_may_be_a_reason_to_stop(ledger):
    def after(outcome):
        return "the budget is spent" if outcome.task_id == "b" else None

    with pytest.raises(Stopped, match="the budget is spent"):
        drive(ledger, Plain(ledger, ["a", "b", "c"]), after_outcome=after)
    assert ledger.store.has("b", "stage")
    assert not ledger.store.has("c", "stage")


def test_a_run_with_nothing_left_to_compute_is_not_stopped(ledger):
    flow = Plain(ledger, ["a"], [])
    drive(ledger, flow, after_outcome=lambda outcome: "the budget is spent")
    assert flow.ended


# --- aside ----------------------------------------------------------------------------------------------------------


def test_the_queue_goes_on_while_a_run_is_finished_aside(ledger):
    order = []

    def finish():
        assert reached.wait(60), "the next run waited for this one"
        order.append("finished")

    def reach():
        order.append("next run")
        reached.set()

    reached = threading.Event()
    first, second = Plain(ledger, ["a"], finish, ["c"]), Plain(ledger, ["b"])
    second.note = lambda outcome, task: reach()
    assert drive(ledger, first, second) == ["a", "b", "c"]
    assert order == ["next run", "finished"]
    assert first.ended


def test_an_error_aside_is_that_of_its_run(ledger):
    class Careful(Plain):
        def steps(self):
            try:
                yield from super().steps()
            except ValueError as error:
                self.error = str(error)

    def fail():
        raise ValueError("no room")

    careful, other = Careful(ledger, ["a"], fail, ["never"]), Plain(ledger, ["b"])
    assert drive(ledger, careful, other) == ["a", "b"]
    assert careful.error == "no room"
    assert other.ended
    with pytest.raises(ValueError, match="no room"):
        drive(ledger, Plain(ledger, fail))


def test_a_driver_that_is_stopped_ends_what_is_aside(ledger):
    draining, done = threading.Event(), []

    def finish():
        assert draining.wait(60)
        done.append("finished")

    stopped = Plain(ledger, ["signal", "never"])
    stopped.note = lambda outcome, task: draining.set()
    first = Plain(ledger, ["a"], finish)
    with pytest.raises(Stopped, match="SIGUSR1"):
        drive(ledger, first, stopped)
    assert done == ["finished"]
    assert first.ended


def test_an_interrupt_waits_for_what_is_under_way_aside(ledger):
    begun, done = threading.Event(), []

    def finish():
        begun.set()
        assert interrupted.wait(60)
        done.append("finished")

    def interrupt(outcome, task):
        assert begun.wait(60)
        interrupted.set()
        raise KeyboardInterrupt

    interrupted, hurried = threading.Event(), Plain(ledger, ["b"])
    hurried.note = interrupt
    with pytest.raises(KeyboardInterrupt):
        drive(ledger, Plain(ledger, ["a"], finish), hurried)
    assert done == ["finished"]


def test_few_runs_wait_to_be_finished(ledger):
    """Each holds its tables, so that the next begins when one of them is done."""
    held, most = [], []

    def begin(number):
        def finish():
            assert go_on.wait(60)
            held.remove(number)

        class Counted(Plain):
            def steps(self):
                held.append(number)
                most.append(len(held))
                if len(held) == ASIDES:
                    go_on.set()
                yield from super().steps()

        return Counted(ledger, finish)

    go_on = threading.Event()
    drive(ledger, *(begin(number) for number in range(3 * ASIDES)))
    assert max(most) == ASIDES
    assert not held
