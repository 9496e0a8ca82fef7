from __future__ import annotations

import pytest

from attribution.errors import InputError
from pipeline.config import ClusterConfig
from pipeline.execution import waiting
from pipeline.execution.resources import Node
from pipeline.execution.waiting import Patience


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Said:
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


class Growing:
    """A connection whose cluster has one more node every five seconds."""

    def __init__(self, clock, node):
        self.clock, self.node, self.started = clock, node, clock()

    def nodes(self):
        return [self.node] * int((self.clock() - self.started) // 5)


@pytest.fixture
def clock(monkeypatch):
    clock = Time()
    monkeypatch.setattr(waiting.time, "sleep", clock.sleep)
    return clock


@pytest.fixture
def requested(monkeypatch):
    requests = []
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: requests.append(bundles))
    return requests


def test_waiting_ends_when_the_workers_fit(clock, requested):
    said, config = Said(), ClusterConfig("ray", workers=3, gpus_per_worker=1)
    nodes = Patience(60, said, clock).until_room(config, Growing(clock, Node("n", 4, 1)))
    assert len(nodes) == 3
    assert clock() == 115
    assert said.lines[0] == "waiting for 3 of 3 GPUs, 1:00 left"
    assert said.lines[-1] == "waiting for 1 of 3 GPUs, 0:50 left"
    assert requested == [[{"CPU": 1, "GPU": 1}] * 3, []]


def test_time_runs_out(clock, requested):
    said, config = Said(), ClusterConfig("ray", workers=8, cpus_per_worker=2)
    nodes = Patience(17, said, clock).until_room(config, Growing(clock, Node("n", 2, 0)))
    assert len(nodes) == 3
    assert clock() == 117
    assert "waiting for room for 5 of 8 workers (2 CPU each), 0:02 left" in said.lines
    assert requested[-1] == []


def test_a_long_wait_is_told_every_ten_seconds(clock, requested):
    said, config = Said(), ClusterConfig("ray", workers=2)
    Patience(35, said, clock).until_room(config, Growing(clock, Node("n", 0, 0)))
    assert [line.rsplit(", ")[1] for line in said.lines] == ["0:35 left", "0:25 left", "0:15 left", "0:05 left"]


def test_nothing_is_said_or_asked_for_where_all_fit(clock, requested):
    said, growing = Said(), Growing(clock, Node("n", 1, 0))
    clock.now += 5
    assert len(Patience(60, said, clock).until_room(ClusterConfig("ray"), growing)) == 1
    assert (said.lines, requested) == ([], [])


def test_a_head_that_never_answers(clock):
    said, config = Said(), ClusterConfig("ray", address="127.0.0.1:9")
    with pytest.raises(InputError, match=r"cluster\.address=127\.0\.0\.1:9 does not answer"):
        Patience(3, said, clock).until_reachable(config)
    assert said.lines == ["waiting for cluster.address=127.0.0.1:9 to answer, 0:03 left"]


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_gpus_are_waited_for_where_there_are_none_yet(clock, requested, device):
    said, config = Said(), ClusterConfig("ray", workers=2, device=device, gpus_per_worker=0 if device == "cuda" else 1)
    Patience(30, said, clock).until_room(config, Growing(clock, Node("n", 1, 1)))
    assert said.lines[0] == "waiting for 2 of 2 GPUs, 0:30 left"
