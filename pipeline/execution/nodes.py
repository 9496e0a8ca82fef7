"""Every node of a cluster asked, before any work, whether it can do the work; all that is wrong comes back at once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from attribution.errors import InputError
from pipeline.execution.resources import Needs, Node
from pipeline.keys import digest
from pipeline.node import PROBES, Answer, Question, describe_node, finds
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.execution.ray_cluster import Connection

ANSWER_TIMEOUT_S = 60.0  # a node that starts its first worker process under load takes several seconds
LEAST_FREE_BYTES = 2**30
MODULES = ("pipeline.worker", "pipeline.execution.ray_worker")  # what a worker runs, with all it imports


def node_problems(
    connection: Connection, nodes: Sequence[Node], needs: Needs, address: str, device: str = "cpu"
) -> dict[Node, list[str]]:
    """For each node a line for everything that keeps it from working, with its name and the configuration key.

    Raises `InputError` where this machine itself cannot use the store.
    """
    key = digest({"probe": uuid.uuid4().hex})
    question = Question(MODULES, dict(needs.folders), needs.store, read=key, write=key)
    expected = describe_node(question)
    if expected["store"]:
        raise InputError(f"conf error: paths.store={needs.store} {expected['store']}")
    questions = {node: replace(question.to(node.id), cuda=device == "cuda") for node in nodes}
    try:
        return {
            node: [
                f"{setting}: {node.name}: {text}"
                for setting, text in _problems(answer, expected, questions[node], address)
            ]
            for node, answer in _ask(connection, questions).items()
        }
    finally:
        _clean_up(needs.store, [key, *(each.write for each in questions.values())])


def _ask(connection: Connection, questions: Mapping[Node, Question]) -> dict[Node, Answer | str]:
    """What each node answers, or why it does not."""
    asked = {_task(connection, node).remote(question): node for node, question in questions.items()}
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_TIMEOUT_S)
    answers: dict[Node, Answer | str] = {asked[ref]: _answer(ref) for ref in answered}
    for ref in silent:
        ray.cancel(ref, force=True)
        answers[asked[ref]] = f"does not answer within {ANSWER_TIMEOUT_S:g} s"
    return {node: answers[node] for node in questions}


def _task(connection: Connection, node: Node) -> ray.remote_function.RemoteFunction:
    return ray.remote(describe_node).options(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        runtime_env={"env_vars": connection.worker_environment()},
    )


def _answer(ref: ray.ObjectRef) -> Answer | str:
    try:
        answer: Answer = ray.get(ref)
    except RayError as error:
        last = str(error).strip().splitlines()[-1].strip()
        return f"cannot run this version of Headlight: {last}"
    return answer


def _problems(answer: Answer | str, expected: Answer, question: Question, address: str) -> Iterator[tuple[str, str]]:
    """Configuration keys and what is wrong about them."""
    if isinstance(answer, str):
        yield address, answer
        return
    for text in _other_software(answer, expected):
        yield address, text
    for setting in question.folders:
        yield from _other_folder(setting, answer["folders"][setting], expected["folders"][setting])
    if question.cuda and not answer.get("cuda"):
        yield address, "Ray counts GPUs there, but torch finds none; install torch for CUDA, or cluster.device=cpu"
    if question.store:
        yield from _store_problems(f"paths.store={question.store}", answer, question)


def _other_software(answer: Answer, expected: Answer) -> Iterator[str]:
    for name, ours in expected["versions"].items():
        theirs = answer["versions"].get(name)
        if theirs != ours and name != "headlight":  # a checkout and an installation of the same code are the same
            yield f"{name} {theirs}, but {ours} here; results of different versions are not mixed, so install the same"
    if answer["code"] != expected["code"]:
        versions = [each["versions"].get("headlight") for each in (answer, expected)]
        yield f"other code of Headlight ({versions[0]}) than here ({versions[1]}); install the same"


def _other_folder(
    setting: str, theirs: Mapping[str, int] | None, ours: Mapping[str, int] | None
) -> Iterator[tuple[str, str]]:
    if theirs is None:
        yield setting, "there is no such folder; every node needs it under the same path"
    elif theirs != ours:
        files = sorted(name for name in {*theirs, *(ours or {})} if theirs.get(name) != (ours or {}).get(name))
        yield setting, f"the folder is not as it is here: {', '.join(files[:5])} missing or of another size"


def _store_problems(key: str, answer: Answer, question: Question) -> Iterator[tuple[str, str]]:
    if answer["store"]:
        yield key, answer["store"]
    elif not finds(str(question.store), question.write):
        yield key, "what it writes does not arrive here; the store has to be one that all nodes share"
    free = answer["free_bytes"]
    if free is not None and free < LEAST_FREE_BYTES:
        yield key, f"only {free / 2**20:.0f} MiB are free there; at least {LEAST_FREE_BYTES / 2**30:g} GiB are needed"


def _clean_up(store: str | None, keys: Iterable[str]) -> None:
    for key in keys if store else ():
        Store(str(store)).remove(key, PROBES)
