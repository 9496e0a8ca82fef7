"""Whether the machine or the cluster can do what the configuration asks, before any work; and the executor for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attribution.errors import InputError
from pipeline.config import ClusterConfig
from pipeline.duration import seconds
from pipeline.execution.local import LocalExecutor
from pipeline.execution.progress import Progress, make_progress
from pipeline.execution.resources import Needs, Node, listed, room, this_machine, worker_demand, worker_threads
from pipeline.execution.site import Site
from pipeline.execution.task import Executor, WorkerFactory
from pipeline.keys import PACKAGES, package_folders

EXECUTORS = ("local", "ray")
DEVICES = ("auto", "cpu", "cuda")
_POSITIVE = ("workers", "cpus_per_worker", "threads", "batch_tokens", "max_batch", "attempts", "shard_deadline_s")


def check_cluster(
    config: ClusterConfig,
    needs: Needs | None = None,
    progress: Progress | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Site:
    """Where a configuration computes, and its problems: lines that name the key, its value and what is possible.

    With `needs`, every node of a cluster that is joined is asked whether it has them, but for those `left_out`.
    `progress` is told where the work will run, and what is waited for.
    """
    problems = [*_bad_choices(config), *_bad_numbers(config), *bad_wait(config)]
    if problems:
        return Site(config, problems)
    return _FOUND[config.executor](config, needs, progress or make_progress(silent=True), dict(left_out or {}))


def joins_cluster(config: ClusterConfig) -> bool:
    """Whether the work goes to a cluster that is there, whose nodes may lack what this machine has."""
    if config.executor != "ray":
        return False
    from pipeline.execution.ray_cluster import cluster_address

    return cluster_address(config) is not None


def create_executor(factory: WorkerFactory, site: Site) -> Executor:
    """The executor of a site without problems; InputError with all of them if it has some."""
    config = site.required().cluster
    if config.executor == "local":
        return LocalExecutor(factory, worker_threads(config), config.device)
    from pipeline.execution.ray_pool import RayExecutor  # Ray takes its time to import and need not be installed

    return RayExecutor(factory, config, site.left_out)


def _bad_choices(config: ClusterConfig) -> Iterator[str]:
    for key, choices in (("executor", EXECUTORS), ("device", DEVICES)):
        if getattr(config, key) not in choices:
            yield f"cluster.{key}={getattr(config, key)} is not one of {', '.join(choices)}"


def _bad_numbers(config: ClusterConfig) -> Iterator[str]:
    for key in _POSITIVE:
        value = getattr(config, key)
        if value is not None and value <= 0:
            yield f"cluster.{key}={value} must be positive"
    gpus = config.gpus_per_worker
    if gpus < 0 or (gpus >= 1 and gpus % 1) or (0 < gpus < 1 and abs(1 / gpus - round(1 / gpus)) > 1e-6):
        yield f"cluster.gpus_per_worker={gpus:g} must be a whole number or 1/n (0.5, 0.25); Ray places no other"
    if gpus and config.device == "cpu":
        yield f"cluster.gpus_per_worker={gpus:g} contradicts cluster.device=cpu; drop one of them"


def bad_wait(config: ClusterConfig) -> Iterator[str]:
    """What is wrong with `cluster.wait`."""
    try:
        seconds(config.wait or "0s")
    except ValueError as error:
        yield f"cluster.wait={config.wait} {error}"


def _local_site(config: ClusterConfig, needs: Needs | None, progress: Progress, left_out: dict[str, str]) -> Site:
    machine = this_machine()
    site = Site.of(replace(config, gpus_per_worker=0), [machine])  # there is one worker, and it may use all
    site.problems += _missing_cuda(config, [machine])
    if (config.workers or 1) > 1:
        site.problems.append(f"cluster.workers={config.workers} needs cluster=ray; cluster=local has one worker")
    return site


def _ray_site(config: ClusterConfig, needs: Needs | None, progress: Progress, left_out: dict[str, str]) -> Site:
    import ray

    from pipeline.execution.ray_cluster import cluster_address

    try:
        if cluster_address(config) is None and not ray.is_initialized():
            site = _private_site(config, progress)
        else:
            site = _joined_site(config, needs, progress, left_out)
    except InputError as error:
        return Site(config, [str(error).removeprefix("conf error: ")])
    site.problems += _shadowed()
    return site


_FOUND: dict[str, Callable[[ClusterConfig, Needs | None, Progress, dict[str, str]], Site]] = {
    "local": _local_site,
    "ray": _ray_site,
}


def _private_site(config: ClusterConfig, progress: Progress) -> Site:
    machine = this_machine()
    site = Site.of(config, [machine])
    site.problems += _nodes_problems(config, [machine])
    if not site.problems:
        progress.message(f"cluster: a private one on {machine.name}, {machine.cpus:g} CPU and {machine.gpus:g} GPU")
    return site


def _joined_site(config: ClusterConfig, needs: Needs | None, progress: Progress, left_out: dict[str, str]) -> Site:
    """A cluster that is there. It is given `cluster.wait` to answer and to grow."""
    from pipeline.execution.nodes import node_problems
    from pipeline.execution.ray_cluster import address_setting, connect
    from pipeline.execution.waiting import Patience

    patience = Patience(seconds(config.wait or "0s"), progress)
    patience.until_reachable(config)
    with connect(config) as connection:
        nodes = [node for node in patience.until_room(config, connection) if node.id not in left_out]
        site = Site.of(config, nodes)
        site.left_out |= left_out
        setting = address_setting(config)
        progress.message(f"cluster: {setting}, {_described(nodes, site.cluster)}")
        site.problems += _nodes_problems(config, nodes)
        if needs and not site.problems:
            demand = worker_demand(site.cluster, nodes)
            working = [node for node in nodes if room([node], demand.cpus, demand.gpus)]
            site.judge(node_problems(connection, working, needs, setting, site.cluster.device))
    return site


def _described(nodes: Sequence[Node], config: ClusterConfig) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    text = f"{len(nodes)} nodes with {cpus:g} CPU and {gpus:g} GPU together"
    without = [node.name for node in nodes if node.cpus and not node.gpus]
    if config.device == "cuda" and without:
        text += f"; workers compute on GPUs, so there are none on {listed(without)}"
    return text


def _nodes_problems(config: ClusterConfig, nodes: Sequence[Node]) -> list[str]:
    return _missing_cuda(config, nodes) or _shortage(config, nodes)


def _missing_cuda(config: ClusterConfig, nodes: Sequence[Node]) -> list[str]:
    if config.device != "cuda" or any(node.gpus for node in nodes):
        return []
    return ["cluster.device=cuda but there is no CUDA device; take cpu or auto"]


def _shortage(config: ClusterConfig, nodes: Sequence[Node]) -> list[str]:
    demand = worker_demand(config, nodes)
    fitting = room(nodes, demand.cpus, demand.gpus)
    if demand.workers <= fitting:
        return []
    available = ", ".join(f"{node.name}: {node.cpus:g} CPU, {node.gpus:g} GPU" for node in nodes) or "no nodes"
    return [
        f"cluster.workers={demand.workers} with {demand} each do not fit{_waited(config)}: {fitting} would "
        f"({available}); lower cluster.workers, cluster.cpus_per_worker or cluster.gpus_per_worker"
    ]


def _waited(config: ClusterConfig) -> str:
    return f", after cluster.wait={config.wait}" if config.wait else ""


def _shadowed() -> list[str]:
    """Ray puts the working directory first on its workers' path, where a package of the same name would win."""
    ours = {Path(folder).resolve() for folder in package_folders()}
    here = (Path.cwd() / name for name in PACKAGES)
    return [
        f"the package {folder} hides Headlight's own from cluster=ray; run from another directory"
        for folder in here
        if (folder / "__init__.py").exists() and folder.resolve() not in ours
    ]
