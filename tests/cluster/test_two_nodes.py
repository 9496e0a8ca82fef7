"""Runs over two real nodes: the same bytes as here, and every node's problems named before any work."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from network_cluster import ROOT
from tiny_models import save_tiny

pytestmark = pytest.mark.cluster

TEXTS = ("the film was good .", "the meal was awful and the hotel was not good .", "slow , dull and bad .", "fine .")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that all nodes see, with a model and a data set."""
    folder = tmp_path_factory.mktemp("shared")
    save_tiny("bert", folder / "model")
    lines = [f"{text}\t{'positive' if number % 2 else 'negative'}\n" for number, text in enumerate(TEXTS * 4)]
    (folder / "reviews.tsv").write_text("sentence\tlabel\n" + "".join(lines))
    return folder


@pytest.fixture
def base(shared):
    return [
        "model=local", f"model.path={shared / 'model'}", "dataset=local", f"dataset.path={shared / 'reviews.tsv'}",
        "++model.label_map.positive=1", "++model.label_map.negative=0", "heads.sentences=150", "attribution=none",
        "attribution.m.method=mask_lrp", "attribution.m.head_mask=both", "attribution.random.method=random",
        "tracking=none", "cluster.max_batch=2",
    ]  # fmt: skip


def headlight(cluster, *arguments, **options):
    return cluster.run([sys.executable, "-m", "pipeline.cli", *arguments], cwd=cluster.folder, **options)


def manifest(root):
    return json.loads((root / "runs" / "run" / "manifest.json").read_text())


def test_two_nodes_give_the_bytes_of_one_process(two_nodes, base, shared):
    here = headlight(two_nodes, "run", *base, f"paths.root={shared / 'local'}")
    assert here.returncode == 0, here.stderr
    there = headlight(
        two_nodes, "run", *base, f"paths.root={shared / 'ray'}", "cluster=ray", env={"RAY_ADDRESS": two_nodes.address}
    )
    assert there.returncode == 0, there.stderr + two_nodes.logs()
    assert f"cluster: RAY_ADDRESS={two_nodes.address}, 3 nodes with 2 CPU and 0 GPU together" in there.stderr
    local, ray = manifest(shared / "local"), manifest(shared / "ray")
    assert ray["files"] == local["files"]
    assert ray["environment"]["workers"] == 2
    assert not list((shared / "ray" / "store" / "probe").rglob("*.*"))


def test_every_problem_of_every_node_is_told_at_once(network_cluster, base, shared, tmp_path):
    cluster = network_cluster(nodes=1)
    cluster.start(2, hidden=[shared])
    cluster.start(3, env={"PYTHONPATH": str(other_code(tmp_path))})
    (tmp_path / "none" / "pipeline").mkdir(parents=True)
    (tmp_path / "none" / "pipeline" / "__init__.py").touch()
    cluster.start(4, env={"PYTHONPATH": str(tmp_path / "none")})
    done = headlight(cluster, "run", *base, f"paths.root={shared / 'p'}", "cluster=ray", address(cluster))
    assert done.returncode == 4, done.stderr
    problems = [line for line in done.stderr.splitlines() if line.startswith("conf error")]
    bad = ", ".join(f"node{number} ({cluster.ip(number)})" for number in (2, 3, 4))
    expected = [
        f"model.path={shared / 'model'}: node2 ({cluster.ip(2)}): there is no such folder",
        f"paths.store={shared / 'p' / 'store'}: node2 ({cluster.ip(2)}): is not the folder the driver has",
        f"{address(cluster)}: node3 ({cluster.ip(3)}): transformers 0.0.1, but ",
        f"{address(cluster)}: node3 ({cluster.ip(3)}): other code of Headlight",
        f"{address(cluster)}: node4 ({cluster.ip(4)}): cannot run this version of Headlight: ModuleNotFoundError: ",
        f"cluster.workers=null needs {bad}; with cluster.workers=1 the run does without",
    ]
    assert [line for line in expected if not any(f"conf error: {line}" in problem for problem in problems)] == []
    assert len(problems) == len(expected), done.stderr
    assert not (shared / "p" / "runs").exists()


def test_a_run_does_without_a_bad_node_that_it_does_not_need(network_cluster, base, shared):
    cluster = network_cluster(nodes=1)
    cluster.start(2, hidden=[shared])
    done = headlight(
        cluster, "run", *base, f"paths.root={shared / 'o'}", "cluster=ray", address(cluster), "cluster.workers=1"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    (model,) = [line for line in lines if line.startswith(f"left out: model.path={shared / 'model'}: node2 (")]
    assert model.endswith("there is no such folder; every node needs it under the same path")
    shards = pq.read_table(shared / "o" / "runs" / "run" / "shards.parquet")
    assert {worker.partition(":")[0] for worker in shards["worker"].to_pylist()} == {"node1"}


def test_a_node_that_does_not_answer_is_named(network_cluster, base, shared):
    cluster = network_cluster(nodes=2, head_env={})  # untuned: Ray takes the node for alive for a minute
    cluster.cut(2)
    done = headlight(cluster, "run", *base, f"paths.root={shared / 'q'}", "cluster=ray", address(cluster))
    assert done.returncode == 4, done.stderr
    assert f"node2 ({cluster.ip(2)}): " in done.stderr
    assert f"node1 ({cluster.ip(1)}): " not in done.stderr


def test_waiting_for_a_node(network_cluster, base, shared):
    cluster = network_cluster(nodes=1)
    short = headlight(
        cluster, "run", *base, f"paths.root={shared / 'w'}", "cluster=ray", address(cluster), "cluster.workers=2",
        "cluster.wait=3s",
    )  # fmt: skip
    assert short.returncode == 4
    assert "waiting for room for 1 of 2 workers (1 CPU each), 0:0" in short.stderr
    assert "do not fit, after cluster.wait=3s: 1 would" in short.stderr
    later = threading.Thread(target=lambda: time.sleep(5) or cluster.start(2))
    later.start()
    long = headlight(
        cluster, "run", *base, f"paths.root={shared / 'w'}", "cluster=ray", address(cluster), "cluster.workers=2",
        "cluster.wait=4m",
    )  # fmt: skip
    later.join()
    assert long.returncode == 0, long.stderr
    assert "waiting for room for 1 of 2 workers" in long.stderr
    assert manifest(shared / "w")["environment"]["workers"] == 2


def test_a_cluster_is_waited_for(network_cluster):
    cluster = network_cluster(nodes=0)
    nobody = f"cluster.address={cluster.ip(0)}:1"
    started = time.monotonic()
    done = headlight(cluster, "run", "experiment=demo", nobody, "cluster.wait=2s")
    assert done.returncode == 4
    assert time.monotonic() - started > 2
    assert f"waiting for {nobody} to answer" in done.stderr


def address(cluster):
    return f"cluster.address={cluster.address}"


def other_code(folder: Path) -> Path:
    """The packages with one line changed, and another version of a library."""
    for package in ("attribution", "evaluation", "pipeline", "conf"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "pipeline" / "worker.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    record = folder / "transformers-0.0.1.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 0.0.1\n")
    return folder
