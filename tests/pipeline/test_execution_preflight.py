from __future__ import annotations

import pytest

from attribution.errors import InputError
from pipeline.config import ClusterConfig
from pipeline.execution import check_cluster, create_executor, preflight, ray_cluster
from pipeline.execution.resources import Node, room, worker_demand, worker_threads

TWO_CPUS = Node("this machine", 2, 0)
GPU_NODES = [Node("a", 8, 2), Node("b", 8, 1), Node("head", 0, 0)]


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(preflight, "this_machine", lambda: TWO_CPUS)
    monkeypatch.setattr(ray_cluster, "connect", lambda config: pytest.fail("preflight started Ray"))
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.mark.parametrize(
    "config", [ClusterConfig("local"), ClusterConfig("ray"), ClusterConfig("ray", workers=4, cpus_per_worker=0.5)]
)
def test_what_fits_passes(config):
    assert check_cluster(config).problems == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ClusterConfig("dask"), ["cluster.executor=dask", "local, ray"]),
        (ClusterConfig("ray", device="gpu"), ["cluster.device=gpu", "auto, cpu, cuda"]),
        (ClusterConfig("ray", workers=0), ["cluster.workers=0"]),
        (ClusterConfig("ray", cpus_per_worker=0), ["cluster.cpus_per_worker=0"]),
        (ClusterConfig("local", threads=-1), ["cluster.threads=-1"]),
        (ClusterConfig("local", shard_deadline_s=0.0), ["cluster.shard_deadline_s=0"]),
        (ClusterConfig("ray", gpus_per_worker=0.4), ["cluster.gpus_per_worker=0.4", "1/n"]),
        (ClusterConfig("ray", gpus_per_worker=1.5), ["cluster.gpus_per_worker=1.5", "whole number"]),
        (ClusterConfig("ray", gpus_per_worker=1, device="cpu"), ["cluster.gpus_per_worker=1", "cluster.device=cpu"]),
        (ClusterConfig("local", device="cuda"), ["cluster.device=cuda", "no CUDA device"]),
        (ClusterConfig("local", workers=3), ["cluster.workers=3", "cluster=ray"]),
        (ClusterConfig("ray", workers=64), ["cluster.workers=64", "1 CPU", "2 would", "this machine: 2 CPU"]),
        (ClusterConfig("ray", cpus_per_worker=3), ["cluster.workers=1", "3 CPU", "0 would", "cpus_per_worker"]),
        (ClusterConfig("ray", gpus_per_worker=1), ["1 CPU and 1 GPU", "0 would", "0 GPU"]),
    ],
)
def test_a_problem_names_the_key_the_value_and_what_is_possible(config, words):
    (problem,) = check_cluster(config).problems
    assert [word for word in words if word not in problem] == []
    assert "\n" not in problem
    with pytest.raises(InputError, match=r"^conf error: cluster"):
        create_executor(object, check_cluster(config))


def test_all_problems_are_told_at_once():
    config = ClusterConfig("dask", workers=0, attempts=0)
    assert [problem.split("=")[0] for problem in check_cluster(config).problems] == [
        "cluster.executor",
        "cluster.workers",
        "cluster.attempts",
    ]


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers"), [(1, 0, 16), (3, 0, 4), (1, 1, 3), (1, 2, 1), (4, 0.5, 4), (1, 0.25, 12), (9, 0, 0)]
)
def test_no_worker_is_spread_over_nodes_or_gpus(cpus, gpus, workers):
    assert room(GPU_NODES, cpus, gpus) == workers


@pytest.mark.parametrize(
    ("config", "nodes", "workers", "gpus", "threads"),
    [
        (ClusterConfig("ray"), [TWO_CPUS], 2, 0, 1),
        (ClusterConfig("ray", cpus_per_worker=2), [TWO_CPUS], 1, 0, 2),
        (ClusterConfig("ray", cpus_per_worker=2, threads=1), [TWO_CPUS], 1, 0, 1),
        (ClusterConfig("ray", cpus_per_worker=0.5), [TWO_CPUS], 4, 0, 1),
        (ClusterConfig("ray"), GPU_NODES, 3, 1, 1),
        (ClusterConfig("ray", gpus_per_worker=0.5), GPU_NODES, 6, 0.5, 1),
        (ClusterConfig("ray", device="cpu"), GPU_NODES, 16, 0, 1),
        (ClusterConfig("ray", workers=2), GPU_NODES, 2, 1, 1),
    ],
)
def test_defaults(config, nodes, workers, gpus, threads):
    demand = worker_demand(config, nodes)
    assert (demand.workers, demand.gpus, demand.threads) == (workers, gpus, threads)
    assert worker_threads(config) == threads


def test_a_package_in_the_working_directory_that_hides_ours_is_refused(tmp_path, monkeypatch):
    (tmp_path / "evaluation").mkdir()
    monkeypatch.chdir(tmp_path)
    assert check_cluster(ClusterConfig("ray")).problems == []  # without an __init__ it hides nothing
    (tmp_path / "evaluation" / "__init__.py").touch()
    (problem,) = check_cluster(ClusterConfig("ray")).problems
    assert str(tmp_path / "evaluation") in problem


@pytest.mark.parametrize(
    ("address", "words"), [("127.0.0.1:9", "does not answer"), ("ray://127.0.0.1:10001", "host:port of the head node")]
)
def test_a_cluster_that_cannot_be_joined_is_a_problem(monkeypatch, address, words):
    monkeypatch.undo()
    (problem,) = check_cluster(ClusterConfig("ray", address=address)).problems
    assert problem.startswith(f"cluster.address={address}")
    assert words in problem
    monkeypatch.setenv("RAY_ADDRESS", address)
    (problem,) = check_cluster(ClusterConfig("ray")).problems
    assert words in problem
