"""Nodes that are killed or cut off while they work: every task is done once, and soon."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

DRIVER = Path(__file__).with_name("napping_driver.py")
TASKS, NAP_S, BEFORE = 60, 0.5, 8  # the fault comes after so many outcomes


def work_through(cluster, fault):
    """Outcomes of a driver's tasks and the longest time between two; `fault(node)` hits a node that works.

    Prints how long it took until the task that the fault interrupted was done elsewhere.
    """
    command = [sys.executable, str(DRIVER), cluster.address, str(TASKS), str(NAP_S)]
    outcomes, times, struck = [], [], 0.0
    log = cluster.folder / "driver.txt"
    with log.open("w") as errors, cluster.popen(command, stdout=subprocess.PIPE, stderr=errors) as driver:
        try:
            for line in driver.stdout:
                outcomes.append(json.loads(line))
                times.append(time.monotonic())
                if len(outcomes) == BEFORE:
                    struck = time.monotonic()
                    fault(int(outcomes[-1]["value"]["node"].removeprefix("node")))
            assert driver.wait(60) == 0, log.read_text()
        finally:
            driver.kill()
    again = [at - struck for outcome, at in zip(outcomes, times, strict=True) if outcome["attempts"] > 1]
    print(f"done again after {', '.join(f'{seconds:.1f} s' for seconds in again) or 'nothing was interrupted'}")
    return outcomes, max(after - before for before, after in itertools.pairwise(times))


@pytest.mark.parametrize(("fault", "longest_s"), [("kill", 10.0), ("cut", 20.0)])
def test_a_node_is_lost_and_no_task(network_cluster, fault, longest_s):
    cluster, hit = network_cluster(nodes=2), []
    outcomes, gap = work_through(cluster, lambda node: hit.append(node) or getattr(cluster, fault)(node))
    print(f"{fault}: longest time without an outcome {gap:.1f} s")
    assert sorted(outcome["task_id"] for outcome in outcomes) == sorted(f"nap-{n}" for n in range(TASKS))
    assert all(outcome["ok"] for outcome in outcomes)
    nodes = [outcome["value"]["node"] for outcome in outcomes]
    assert set(nodes[:BEFORE]) == {"node1", "node2"}
    assert f"node{hit[0]}" not in nodes[-BEFORE:]
    assert gap < longest_s


def test_the_only_node_is_cut_off_and_another_comes(network_cluster):
    """Nothing moves until there is a node again; what the first did while nobody could hear it counts once."""
    cluster = network_cluster(nodes=1)

    def cut_and_replace(node):
        cluster.cut(node)
        cluster.start(2)

    outcomes, gap = work_through(cluster, cut_and_replace)
    print(f"longest time without an outcome {gap:.1f} s")
    assert sorted(outcome["task_id"] for outcome in outcomes) == sorted(f"nap-{n}" for n in range(TASKS))
    assert {outcome["value"]["node"] for outcome in outcomes[BEFORE + 2 :]} == {"node2"}
