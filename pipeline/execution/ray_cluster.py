"""The connection to Ray: a cluster that is there, or a private one on this machine."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import ray

from attribution.errors import HeadlightError, InputError
from pipeline.config import ClusterConfig
from pipeline.execution.ray_folder import RAY, private_folder, remove
from pipeline.execution.resources import Node, this_machine, worker_demand
from pipeline.keys import package_folders

logger = logging.getLogger(__name__)

# Ray listens on all interfaces, also for a private cluster, so it has to ask for a token. Left to itself Ray 2.59 and
# later would write one to ~/.ray/auth_token and use it for every cluster of this user; ours lives as long as this
# process, in its environment and that of its workers. Whoever sets RAY_AUTH_MODE has decided otherwise.
_PRIVATE_AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
_OBJECT_STORE_BYTES = 256 * 2**20  # only tasks and outcomes travel; the default is 30 % of the memory
_REACH_TIMEOUT_S = 10.0
_STARTS = 3  # Ray gives its own processes 30 seconds to come up, which a machine under load may not manage


def cluster_address(config: ClusterConfig) -> str | None:
    """Where the cluster is; None for a private one."""
    address = config.address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def address_setting(config: ClusterConfig) -> str:
    """The setting that says where the cluster is, as it is written."""
    return f"cluster.address={config.address}" if config.address else f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}"


@dataclass
class Connection:
    """An open connection; closing it stops only what opening it started."""

    opened: bool
    environment: Mapping[str, str | None] = field(default_factory=dict)  # what was there before
    folder: Path | None = None  # of a private cluster; it goes with it
    keeps_logs: bool = False  # somebody was told to read the logs in the folder

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        return [_node(record) for record in ray.nodes() if record["Alive"]]

    def is_local(self) -> bool:
        """Whether every worker runs on this machine."""
        return all(node["NodeManagerHostname"] == socket.gethostname() for node in ray.nodes() if node["Alive"])

    def worker_environment(self) -> dict[str, str]:
        """Variables under which workers find the driver's code, where they run beside it."""
        return {"PYTHONPATH": python_path()} if self.is_local() else {}

    def close(self) -> None:
        """Disconnect; a private cluster ends with it."""
        if self.opened:
            ray.shutdown()
            set_environment(self.environment)
            self.opened = False
            if self.folder and not self.keeps_logs:
                remove(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _node(record: Mapping[str, Any]) -> Node:
    address, host, resources = record["NodeManagerAddress"], record["NodeManagerHostname"], record["Resources"]
    name = address if host == address else f"{host} ({address})"
    return Node(name, resources.get("CPU", 0.0), resources.get("GPU", 0.0), record["NodeID"])


def connect(config: ClusterConfig) -> Connection:
    """Use the connection this process has, else join `cluster.address` or RAY_ADDRESS, else start a private cluster."""
    if ray.is_initialized():
        return Connection(opened=False)
    connection = _start_private(config) if cluster_address(config) is None else _join(config)
    ray._private.worker._worker_logs_enabled = False  # the pool reports lost workers; Ray would, on standard output
    return connection


def _join(config: ClusterConfig) -> Connection:
    address, setting = str(cluster_address(config)), address_setting(config)
    if "://" in address:
        raise InputError(f"conf error: {setting} is an address for clients; give host:port of the head node")
    if (error := refusal(address, setting)) is not None:
        raise error
    _require_node_here(setting)
    connection = Connection(opened=True, environment=use_token())
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as cause:
        set_environment(connection.environment)
        reason = f"{' '.join(str(cause).split())}; if it asks for a token, set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        raise InputError(f"conf error: {setting} cannot be joined: {reason}") from cause
    logger.info("joined the Ray cluster at %s", address)
    return connection


def refusal(address: str, setting: str) -> InputError | None:
    """Why nobody can be reached there, found within seconds; Ray would try for minutes and then end the process."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():  # "auto" has no port
        return None
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_TIMEOUT_S).close()
    except OSError as error:
        message = f"conf error: {setting} does not answer ({error}); start Ray there, or leave it out"
        return InputError(f"{message} for a private cluster on this machine")
    return None


def use_token() -> dict[str, str | None]:
    """Whoever has set a token wants it used; returns the environment there was, for `set_environment`."""
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return set_environment({"RAY_AUTH_MODE": "token"}) if has_token and "RAY_AUTH_MODE" not in os.environ else {}


def _require_node_here(setting: str) -> None:
    """Ray's driver works through the node on its own machine, and ends the process where there is none."""
    if not ray._private.services.find_node_ids():
        raise InputError(
            f"conf error: {setting}: this machine is not a node of that cluster. Join it (`ray start --address ...`), "
            "run on one of its nodes, or send the run there: `headlight submit --address http://<head node>:8265 ...`"
        )


def _start_private(config: ClusterConfig) -> Connection:
    machine = this_machine()
    demand = worker_demand(config, [machine])
    logger.info("starting a private Ray cluster on this machine: %d workers with %s each", demand.workers, demand)
    before = set_environment({"RAY_USAGE_STATS_ENABLED": "0"} | _auth())
    settings = {"num_cpus": math.ceil(demand.workers * demand.cpus), "num_gpus": int(machine.gpus)}
    reason = ""
    for _ in range(_STARTS):
        connection = Connection(opened=True, environment=before, folder=(folder := private_folder()))
        try:
            _init(folder, settings)
        except Exception as error:  # Ray has no type for it: a plain one where a node or RuntimeError where GCS is late
            reason = " ".join(str(error).split())
            logger.warning("Ray did not start (%s)", reason)
            ray.shutdown()
            _end_processes_in(folder)
            remove(folder)
        else:
            return connection
    set_environment(before)
    raise HeadlightError(f"Ray does not start on this machine: {reason}; cluster=local does without it")


def _init(folder: Path, settings: Mapping[str, int]) -> None:
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(folder / RAY),
        **settings,
    )


def _end_processes_in(folder: Path) -> None:
    """End what a node that did not come up had started: Ray itself would leave it until this process ends."""
    own = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(folder.name in part for part in process.info["cmdline"] or ())
    ]
    for process in own:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(own, timeout=_REACH_TIMEOUT_S)


def _auth() -> dict[str, str]:
    return {} if "RAY_AUTH_MODE" in os.environ else _PRIVATE_AUTH


def set_environment(values: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set (or with None unset) environment variables, make Ray read them again, and return what they were."""
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    ray._raylet.Config.initialize("")  # as Ray does after setting RAY_AUTH_MODE; it is read once, on import
    return before


def python_path() -> str:
    """PYTHONPATH under which workers on this machine import the packages the driver runs from a source tree."""
    installed = {Path(path) for path in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))}
    roots = {path.parent for path in map(Path, package_folders())} - installed
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([*sorted(map(str, roots)), *filter(None, inherited)])
