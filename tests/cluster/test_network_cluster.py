"""The nodes the other tests rely on: separate, killed and cut off for real, and gone without a trace."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.cluster

HOSTS = """
import ray, socket
ray.init(log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
def host():
    return socket.gethostname()
nodes = [node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
print(*sorted(nodes), ray.get(host.remote(), timeout=60))
"""


def workers(cluster):
    """Host names of the worker nodes that Ray holds for alive, after one of them has done a task."""
    done = cluster.run([sys.executable, "-c", HOSTS], env={"RAY_ADDRESS": cluster.address}, timeout=120)
    assert done.returncode == 0, done.stderr + cluster.logs()
    *alive, ran_on = done.stdout.split()
    assert ran_on in alive
    return alive


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


def test_nodes_die_are_cut_off_and_come_back(network_cluster):
    cluster = network_cluster(nodes=2)
    assert workers(cluster) == ["node1", "node2"]
    cluster.kill(1)
    assert cluster.nodes == [0, 2]
    wait_until(lambda: workers(cluster) == ["node2"])
    cluster.start(1)
    assert workers(cluster) == ["node1", "node2"]
    cluster.cut(2)
    wait_until(lambda: workers(cluster) == ["node1"])
    assert cluster.nodes == [0, 1, 2]  # it lives on, unheard
    cluster.heal(2)
    cluster.close()
    assert cluster.nodes == []
    assert cluster.name not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert not cluster.folder.exists()


def test_a_node_that_does_not_start_says_why(network_cluster):
    cluster = network_cluster(nodes=0)
    with pytest.raises(RuntimeError, match="node 1 does not start"):
        cluster.start(1, env={"RAY_AUTH_TOKEN": "another"})
