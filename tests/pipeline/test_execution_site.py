"""Where a run computes: the device of its workers, and the nodes that get no work."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attribution.errors import InputError
from pipeline.config import ClusterConfig
from pipeline.execution import Needs, check_cluster, create_executor, nodes, preflight, ray_cluster
from pipeline.execution.local import LocalExecutor
from pipeline.execution.resources import Node
from pipeline.preflight import ask_nodes
from pipeline.stages.setting import Setting
from pipeline.validate import load_config

HEAD = Node("head (10.0.0.1)", 4, 0, "id-head")
GPU = Node("gpu (10.0.0.2)", 8, 2, "id-gpu")
OTHER = Node("other (10.0.0.3)", 8, 2, "id-other")
CPUS = [HEAD, Node("cpu (10.0.0.4)", 2, 0, "id-cpu")]


class Said:
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


class Asked(list):
    """Which nodes were asked, call by call, and the folders they were asked for last."""

    folders: dict[str, str]


@pytest.fixture
def cluster(monkeypatch):
    """`cluster(nodes, bad)`: a cluster with these nodes is there, and those named have something wrong with them."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def there(found, bad=()):
        asked = Asked()

        def answers(connection, questioned, needs, setting, device):
            asked.append((device, [node.name.split()[0] for node in questioned]))
            asked.folders = dict(needs.folders)
            return {n: [f"{setting}: {n.name}: torch 1.0"] if n.name.split()[0] in bad else [] for n in questioned}

        connection = SimpleNamespace(nodes=lambda: list(found))
        monkeypatch.setattr(ray_cluster, "refusal", lambda address, setting: None)
        monkeypatch.setattr(ray_cluster, "connect", lambda config: nullcontext(connection))
        monkeypatch.setattr(nodes, "node_problems", answers)
        monkeypatch.setattr("pipeline.execution.waiting._asked_for", lambda demand: nullcontext())
        return asked

    return there


def joined(**options):
    return ClusterConfig("ray", address="head:6379", **options)


@pytest.mark.parametrize(
    ("found", "options", "device"),
    [
        ([HEAD, GPU], {}, "cuda"),  # the driver's own node has none
        (CPUS, {}, "cpu"),
        ([HEAD, GPU], {"device": "cpu"}, "cpu"),
        ([HEAD, GPU], {"device": "cuda"}, "cuda"),
        ([HEAD, GPU], {"gpus_per_worker": 0.5}, "cuda"),
    ],
)
@pytest.mark.parametrize("here", [True, False])
def test_the_device_is_that_of_the_nodes_that_compute_not_that_of_the_driver(
    cluster, monkeypatch, found, options, device, here
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    cluster(found)
    site = check_cluster(joined(**options)).required()
    assert site.cluster.device == device


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (2, "cuda")])
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_on_one_machine_the_device_is_what_it_has(monkeypatch, executor, gpus, device):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(preflight, "this_machine", lambda: Node("this machine", 4, gpus))
    site = check_cluster(ClusterConfig(executor)).required()
    assert site.cluster.device == device
    if executor == "local":
        with create_executor(object, site) as worker:
            assert isinstance(worker, LocalExecutor)
            assert worker.gpus == (device == "cuda")


def test_the_key_of_a_result_says_what_computed_it():
    config = load_config(["experiment=demo"])
    model = SimpleNamespace(folder=Path("model"), fingerprint="f" * 64, lm_head=None, shuffled=None)
    prepared = SimpleNamespace(model=model, examples_key="e")
    keys = {device: Setting.of(config, prepared, device).key("attribute") for device in ("cpu", "cuda")}
    assert config.cluster.device == "auto"
    assert keys["cpu"] != keys["cuda"]
    assert keys["cpu"] == Setting.of(load_config(["experiment=demo", "cluster.device=cpu"]), prepared, "cpu").key(
        "attribute"
    )


def test_nodes_without_gpus_get_no_work_and_are_named(cluster):
    said, asked = Said(), cluster([HEAD, GPU])
    check_cluster(joined(), Needs(), said).required()
    assert asked == [("cuda", ["gpu"])]
    assert said.lines[-1].endswith("2 GPU together; workers compute on GPUs, so there are none on head (10.0.0.1)")


def test_what_is_found_once_stays(cluster):
    """A GPU that joins after the keys are made changes nothing about the workers."""
    cluster(CPUS)
    site = check_cluster(joined()).required()
    cluster([*CPUS, GPU])
    assert check_cluster(site.cluster).cluster == site.cluster


def test_a_bad_node_that_is_not_needed_is_left_out(cluster):
    cluster([GPU, OTHER], bad=["other"])
    site = check_cluster(joined(workers=2), Needs()).required()
    assert site.left_out == {"id-other": "other (10.0.0.3)"}
    assert site.notes == ["left out: cluster.address=head:6379: other (10.0.0.3): torch 1.0"]


@pytest.mark.parametrize(
    ("workers", "bad", "last"),
    [
        (None, ["other"], "cluster.workers=null needs other (10.0.0.3); with cluster.workers=2 the run does without"),
        (3, ["other"], "cluster.workers=3 needs other (10.0.0.3); with cluster.workers=2 the run does without"),
        (1, ["gpu", "other"], "cluster.address=head:6379: other (10.0.0.3): torch 1.0"),
    ],
)
def test_a_bad_node_that_is_needed_is_refused_with_the_way_out(cluster, workers, bad, last):
    cluster([GPU, OTHER], bad=bad)
    site = check_cluster(joined(workers=workers), Needs())
    assert site.problems[-1] == last
    assert site.left_out == {}
    with pytest.raises(InputError, match=r"conf error: cluster\.address=head:6379: other"):
        site.required()


def test_a_node_that_lacks_the_model_is_left_out_too(cluster, monkeypatch):
    config = load_config(["experiment=demo", "cluster=ray", "cluster.address=head:6379", "cluster.workers=1"])
    prepared = SimpleNamespace(model=SimpleNamespace(folder=Path("model"), lm_head=None, shuffled=None))
    cluster([GPU, OTHER])
    site = check_cluster(config.cluster, Needs()).required()
    asked = cluster([GPU, OTHER], bad=["other"])
    (note,) = ask_nodes(config, prepared, site)
    assert note.startswith("left out: ")
    assert site.left_out == {"id-other": "other (10.0.0.3)"}
    assert ask_nodes(config, prepared, site) == []
    assert asked == [("cuda", ["gpu", "other"]), ("cuda", ["gpu"])]


@pytest.mark.parametrize("lm_head", ["train", "pretrained", "owner/name"])
def test_nodes_are_asked_for_the_folder_of_the_head_too(cluster, lm_head):
    texts = ["model.lm_head_texts=pyproject.toml"] if lm_head == "train" else []
    given = ["experiment=demo", "cluster=ray", "cluster.address=head:6379", f"model.lm_head={lm_head}", *texts]
    config = load_config(given)
    head = SimpleNamespace(folder=Path("heads/it"))
    prepared = SimpleNamespace(model=SimpleNamespace(folder=Path("model"), lm_head=head, shuffled=None))
    asked = cluster([GPU])
    site = check_cluster(config.cluster, Needs()).required()
    assert ask_nodes(config, prepared, site) == []
    own = {f"model.lm_head={lm_head}": str(Path("heads/it").resolve())}
    assert asked.folders == {"model=minilm_reviews": str(Path("model").resolve()), **own}
    config.model.source = "local"  # the model's own folder was asked for already
    ask_nodes(config, prepared, site)
    assert asked.folders == own
    asked = cluster([GPU], bad=["gpu"])
    with pytest.raises(InputError, match=r"gpu \(10.0.0.2\): torch 1.0"):
        ask_nodes(config, prepared, site)
