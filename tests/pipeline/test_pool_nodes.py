"""Nodes that join, leave and differ: several raylets on this machine, as Ray's own tests have them."""

from __future__ import annotations

import itertools
import sys
import time

import pytest
import ray
from ray.cluster_utils import Cluster

from pipeline.config import ClusterConfig
from pipeline.execution import Needs, Task, check_cluster, create_executor, in_order
from pipeline.execution.ray_cluster import connect, set_environment
from pipeline.execution.ray_pool import RayExecutor, alive_nodes
from pipeline.execution.resources import Node, worker_demand
from pipeline.execution.watchdog import why_waiting

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
LONGEST_GAP_S = 10.0
STORE_BYTES = 80 * 2**20
HEALTH_CHECK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}


class Sleeper:
    """Says where it is; the node is known by its resources."""

    def process(self, task):
        time.sleep(task.payload["seconds"])
        gpus = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        return {"node": ray.get_runtime_context().get_node_id(), "gpus": gpus}


def config(**changes):
    return ClusterConfig("ray", **changes)


@pytest.fixture(scope="module")
def base():
    """A head that takes no work and two nodes with a CPU each."""
    before = set_environment({"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"})
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "_system_config": HEALTH_CHECK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            add(cluster, num_cpus=1)
        with connect(config(address=cluster.address)):
            yield cluster
    finally:
        cluster.shutdown()
        set_environment(before)


@pytest.fixture
def cluster(base):
    """The same cluster for every test, whatever nodes the last one added or lost."""
    before = set(base.worker_nodes)
    yield base
    for node in set(base.worker_nodes) - before:
        base.remove_node(node, allow_graceful=False)
    wait_for(lambda: len(alive_nodes()) == 3)


def add(cluster, **node):
    return cluster.add_node(object_store_memory=STORE_BYTES, **node)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


class Diary:
    """Outcomes with their times; calls `then` in the main thread, where nodes can be added and removed."""

    def __init__(self, then=None, after=0):
        self.outcomes, self.times, self._then, self._after = [], [time.monotonic()], then, after

    def __call__(self, outcome):
        assert outcome.task_id not in {each.task_id for each in self.outcomes}, "counted twice"
        assert outcome.ok, outcome.error
        self.outcomes.append(outcome)
        self.times.append(time.monotonic())
        if len(self.outcomes) == self._after:
            self._then()
            self.times[-1] = time.monotonic()  # what the test itself takes is no gap

    def nodes(self):
        return [outcome.value["node"] for outcome in self.outcomes]

    def longest_gap(self):
        return max(after - before for before, after in itertools.pairwise(self.times))


def naps(n, seconds=0.3):
    return in_order([Task(f"nap-{number}", "nap", {"seconds": seconds}) for number in range(n)])


def until(condition, make, seconds=60):
    """Tasks from `make` until a condition holds, or the time is over."""
    numbers, end = itertools.count(), time.monotonic() + seconds
    return lambda: None if condition() or time.monotonic() > end else make(next(numbers))


def nap(number):
    return Task(f"nap-{number}", "nap", {"seconds": 0.2})


@pytest.mark.slow
def test_the_pool_grows_and_shrinks_with_the_cluster(cluster):
    with RayExecutor(Sleeper, config()) as executor:
        executor.wait_until_ready()
        assert executor.workers == 2
        grown = Diary(lambda: added.append(add(cluster, num_cpus=1)), after=2)
        added = []
        executor.run(until(lambda: added and added[0].node_id in grown.nodes(), nap), grown)
        assert executor.workers == 3
        assert added[0].node_id in grown.nodes()
        shrunk = Diary(lambda: cluster.remove_node(added[0], allow_graceful=False), after=2)
        executor.run(until(lambda: executor.workers == 2, nap), shrunk)
        assert executor.workers == 2


@pytest.mark.slow
def test_a_killed_node_costs_only_time(cluster):
    extra = add(cluster, num_cpus=1)
    with RayExecutor(Sleeper, config()) as executor:
        executor.wait_until_ready()
        diary = Diary(lambda: cluster.remove_node(extra, allow_graceful=False), after=6)
        executor.run(naps(40), diary)
    assert len(diary.outcomes) == 40
    assert extra.node_id in diary.nodes()[:6]
    under_way = 3  # when the node goes; what it has answered by then is as good as any
    assert extra.node_id not in diary.nodes()[6 + under_way :]
    assert max(outcome.attempts for outcome in diary.outcomes) <= 2
    assert diary.longest_gap() < LONGEST_GAP_S


@pytest.mark.slow
def test_a_run_outlives_all_its_workers(cluster):
    """A node with all workers goes, another comes later."""
    first = add(cluster, num_cpus=1, num_gpus=1)
    with RayExecutor(Sleeper, config(gpus_per_worker=1)) as executor:
        executor.wait_until_ready()

        def replace():
            cluster.remove_node(first, allow_graceful=False)
            second.append(add(cluster, num_cpus=1, num_gpus=1))

        second = []
        diary = Diary(replace, after=2)
        executor.run(naps(8), diary)
    assert len(diary.outcomes) == 8
    assert set(diary.nodes()[3:]) == {second[0].node_id}


@pytest.mark.slow
def test_one_worker_per_gpu_on_nodes_that_differ(cluster):
    small, large = add(cluster, num_cpus=2, num_gpus=1), add(cluster, num_cpus=4, num_gpus=3)
    with RayExecutor(Sleeper, config(device="auto")) as executor:
        assert executor.workers == 4
        executor.wait_until_ready()
        diary = Diary()
        executor.run(naps(12), diary)
    places = {outcome.worker: outcome.value["node"] for outcome in diary.outcomes}
    assert sorted(places.values()) == sorted([small.node_id] + [large.node_id] * 3)


@pytest.mark.slow
def test_a_driver_without_gpu_computes_on_the_gpus_of_the_nodes(cluster):
    """The GPUs exist for Ray alone, so torch's answer to the nodes' question is that it finds none."""
    node = add(cluster, num_cpus=1, num_gpus=1)
    site = check_cluster(config()).required()
    assert site.cluster.device == "cuda"
    with create_executor(Sleeper, site) as executor:
        assert (executor.workers, executor.gpus) == (1, 1.0)
        diary = Diary()
        executor.run(naps(2), diary)
    assert [outcome.value for outcome in diary.outcomes] == [{"node": node.node_id, "gpus": ["0"]}] * 2
    (problem,) = check_cluster(config(), Needs()).problems
    assert "Ray counts GPUs there, but torch finds none" in problem


@pytest.mark.slow
def test_no_worker_is_started_on_nodes_that_are_left_out(cluster):
    first, second = (node.node_id for node in cluster.worker_nodes)
    extra = add(cluster, num_cpus=1).node_id
    left_out = {first: "first"}
    with RayExecutor(Sleeper, config(), left_out) as executor:
        assert executor.workers == 2
        executor.wait_until_ready()
        before, after = Diary(), Diary()
        executor.run(naps(6), before)
        left_out[second] = "second"  # found to lack something later
        executor.run(naps(6), after)
    assert set(before.nodes()) == {second, extra}
    assert set(after.nodes()) == {extra}


@pytest.mark.slow
def test_a_request_that_nothing_fulfils_is_explained(cluster, caplog):
    added = []

    def add_when_warned():
        """In the main thread, while the executor waits."""
        if not added and "no node has that much" in caplog.text:
            added.append(add(cluster, num_cpus=1, num_gpus=2))

    with RayExecutor(Sleeper, config(gpus_per_worker=2, workers=1), quiet_s=1.0) as executor:
        original = executor._follow_cluster
        executor._follow_cluster = lambda run: (add_when_warned(), original(run))
        diary = Diary()
        executor.run(naps(1), diary)
    assert len(diary.outcomes) == 1
    assert "1 workers wait for 1 CPU and 2 GPU each: no node has that much; add one, or lower" in caplog.text
    assert " has 1 CPU, 0 GPU left" in caplog.text


NODES = [Node("a", 4, 1), Node("b", 8, 4), Node("c", 16, 0)]


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({}, 5),  # one per GPU; the node without any is left out
        ({"gpus_per_worker": 0.5}, 10),
        ({"gpus_per_worker": 0.5, "cpus_per_worker": 2}, 6),  # 2 on a, 4 on b: there the CPUs are short
        ({"gpus_per_worker": 2}, 2),
        ({"device": "cpu", "cpus_per_worker": 4}, 7),
    ],
)
def test_how_many_workers_nodes_that_differ_take(options, workers):
    assert worker_demand(config(**options), NODES).workers == workers


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ([Node("a", 4, 0), Node("b", 8, 1)], "all of it is taken (a has 4 CPU, 0 GPU left, b has 8 CPU, 1 GPU left)"),
        ([Node("b", 8, 2)], "there is room, so they are about to start (b has 8 CPU, 2 GPU left)"),
    ],
)
def test_what_workers_wait_for(left, reason):
    assert why_waiting(worker_demand(config(gpus_per_worker=2), NODES), NODES, left) == reason


def test_what_no_node_has():
    demand = worker_demand(config(gpus_per_worker=8, workers=1), NODES)
    assert why_waiting(demand, NODES, NODES).startswith("no node has that much; add one, or lower")
    assert why_waiting(demand, NODES * 5, NODES * 5).endswith(" and 7 more)")
