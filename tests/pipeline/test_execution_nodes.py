"""What a cluster's nodes are asked before any work, and what is said of their answers."""

from __future__ import annotations

import copy

import pytest

from attribution.errors import InputError
from pipeline.config import ClusterConfig
from pipeline.execution import Needs, nodes
from pipeline.execution.ray_cluster import connect
from pipeline.execution.resources import Node
from pipeline.node import describe_node, leave

SETTING = "cluster.address=head:6379"
NODES = [Node("a (10.0.0.1)", 1, 0, "a"), Node("b (10.0.0.2)", 1, 0, "b")]


@pytest.fixture
def needs(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return Needs({"model.path=model": str(tmp_path / "model")}, str(tmp_path / "store"))


def test_a_real_node_like_this_one_has_no_problems(needs, tmp_path):
    with connect(ClusterConfig("ray", workers=1, cpus_per_worker=0.5)) as connection:
        assert list(nodes.node_problems(connection, connection.nodes(), needs, SETTING).values()) == [[]]
        absent = Node("gone", 1, 0, "a" * 56)
        ((problem,),) = nodes.node_problems(connection, [absent], Needs(), SETTING).values()
    assert problem.startswith(f"{SETTING}: gone: cannot run this version of Headlight: ")
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.fixture
def ask(monkeypatch, needs):
    """The problems of two nodes that answer like this machine but for what a function changes at the second."""

    def problems(change, writes=True, device="cpu"):
        def answer(connection, questions):
            answers = {node: copy.deepcopy(describe_node(question)) for node, question in questions.items()}
            if not writes:
                for key in (questions[NODES[1]].write,):
                    nodes.Store(needs.store).remove(key, "probe")
            return {NODES[0]: answers[NODES[0]], NODES[1]: change(answers[NODES[1]])}

        monkeypatch.setattr(nodes, "_ask", answer)
        found = nodes.node_problems(None, NODES, needs, SETTING, device)
        assert found[NODES[0]] == [] or device == "cuda"
        return found[NODES[1]]

    return problems


def put(answer, *path_and_value):
    *path, name, value = path_and_value
    target = answer
    for part in path:
        target = target[part]
    target[name] = value
    return answer


@pytest.mark.parametrize(
    ("change", "start", "rest"),
    [
        (lambda answer: "does not answer within 60 s", SETTING, "does not answer"),
        (lambda answer: put(answer, "versions", "python", "3.9.1"), SETTING, "python 3.9.1, but 3."),
        (lambda answer: put(answer, "versions", "torch", "1.0"), SETTING, "torch 1.0, but"),
        (lambda answer: put(answer, "code", "other"), SETTING, "other code of Headlight"),
        (lambda answer: put(answer, "folders", "model.path=model", None), "model.path=model", "no such folder"),
        (
            lambda answer: put(answer, "folders", "model.path=model", {"config.json": 1}),
            "model.path=model",
            "config.json missing or of another size",
        ),
        (lambda answer: put(answer, "store", "cannot be used: OSError: full"), "paths.store=", "OSError: full"),
        (lambda answer: put(answer, "free_bytes", 2**20), "paths.store=", "only 1 MiB are free"),
    ],
)
def test_a_problem_names_the_setting_and_the_node(ask, change, start, rest):
    (problem,) = ask(change)
    assert problem.startswith(start)
    assert ": b (10.0.0.2): " in problem
    assert rest in problem


def test_all_problems_of_a_node_are_told(ask):
    assert len(ask(lambda answer: put(put(answer, "code", "other"), "versions", "torch", "1.0"))) == 2


def test_a_store_that_only_looks_shared_is_found(ask):
    (problem,) = ask(lambda answer: answer, writes=False)
    assert "b (10.0.0.2): what it writes does not arrive here" in problem


def test_an_installation_and_a_checkout_of_the_same_code_are_the_same(ask):
    assert ask(lambda answer: put(answer, "versions", "headlight", "checkout")) == []


def test_a_store_the_driver_cannot_use_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory") as caught:
        nodes.node_problems(None, NODES, Needs({}, str(tmp_path / "file" / "store")), SETTING)
    assert str(caught.value).startswith(f"conf error: paths.store={tmp_path}/file/store cannot be used: ")


@pytest.mark.parametrize(("has", "problems"), [(True, 0), (False, 1)])
def test_a_gpu_that_torch_does_not_find_is_a_problem(ask, has, problems):
    found = ask(lambda answer: put(answer, "cuda", has), device="cuda")
    assert len(found) == problems
    assert all("Ray counts GPUs there, but torch finds none" in line for line in found)


def test_a_node_that_sees_another_folder_says_so(needs, tmp_path):
    question = nodes.Question(nodes.MODULES, store=str(tmp_path / "elsewhere"), read="0" * 64, write="1" * 64)
    assert "has to be one that all nodes share" in describe_node(question)["store"]
    leave(question.store, question.read)
    assert describe_node(question)["store"] is None
