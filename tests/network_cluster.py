"""Real Ray nodes on one machine, each in a network namespace of its own; `tests/cluster/conftest.py` has the fixture.

Node 0 is the head (no CPUs, so no work), nodes 1 to n are workers. Each has the address 10.77.0.<10 + n>, a host name
(`node0`, `node1`, ...) and a link to a bridge that leads nowhere else: neither this machine nor another reaches a node.
A driver therefore runs on a node too, by `cluster.run([...])` or `cluster.popen([...])`.

    with NetworkCluster(nodes=2) as cluster:
        cluster.run([sys.executable, "-m", "pipeline.cli", "run", "cluster=ray", f"cluster.address={cluster.address}"])
        cluster.cut(1)       # the link goes down: nothing arrives, and nothing is refused
        cluster.heal(1)
        cluster.kill(2)      # SIGKILL to every process of the node
        cluster.start(2)     # a node joins, also one that was not there before

As a program, `sudo python tests/network_cluster.py --nodes 2 [COMMAND ...]`: a cluster for as long as a command on its
head node, or a shell, runs. With `--bare` the machines are there without Ray, and the command runs beside them: `ip
netns exec $NETNS-1 ray start ...` is then typed on node 1.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
PORT, JOBS_PORT = 6379, 8265
START_TIMEOUT_S = 180.0

# A node that does not answer is given up after about 8 s, not a minute. Only the head reads this.
HEALTH_CHECK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
# RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER must not be set: with 0, `ray start --address` refuses on Linux too.
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "5"}
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def missing_requirement() -> str | None:
    """Why there can be no such cluster here; None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if absent := [tool for tool in ("ip", "unshare", "mount") if shutil.which(tool) is None]:
        return f"there is no {', '.join(absent)} here; apt-get install iproute2 util-linux"
    probe = f"hl{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        return f"this machine allows no network namespaces: {made.stderr.strip()}"
    _ip("netns", "del", probe)
    return None


class NetworkCluster:
    """A cluster that is up once the context is entered; leaving it ends every process and removes every trace."""

    def __init__(
        self,
        nodes: int = 2,
        cpus: float = 1,
        head_env: Mapping[str, str] = HEALTH_CHECK,
        dashboard: bool = False,
        bare: bool = False,
    ) -> None:
        self.size, self.cpus, self.dashboard, self.bare = nodes, cpus, dashboard, bare
        self.name = f"hl{secrets.token_hex(2)}"
        self.folder = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp"))  # short: sockets have at most 107 characters
        self.address = f"{self.ip(0)}:{PORT}"
        self.jobs_address = f"http://{self.ip(0)}:{JOBS_PORT}"  # with `dashboard=True`
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        token = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        self.env: dict[str, str] = kept | RAY | QUIET | token  # of every node and driver
        self._head_env = dict(head_env)

    def ip(self, node: int) -> str:
        """A node's address."""
        return f"10.77.0.{10 + node}"

    @property
    def nodes(self) -> list[int]:
        """Nodes that have processes, the head among them."""
        return [node for node in range(self.size + 1) if self.pids(node)]

    def start(self, node: int, *, env: Mapping[str, str] | None = None, hidden: Sequence[str | Path] = ()) -> None:
        """Start a node and wait for it; folders that are `hidden` are empty for its processes."""
        self._launch(node, env or {}, hidden).wait_for(START_TIMEOUT_S)

    def kill(self, node: int) -> None:
        """SIGKILL to every process of a node, its drivers too."""
        deadline = time.monotonic() + 30
        while pids := self.pids(node):
            for pid in pids:
                _kill(pid)
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {pids} of node {node} do not end")
            time.sleep(0.05)

    def cut(self, node: int) -> None:
        """Take a node's link down, as if its cable were pulled."""
        self._on_bridge("link", "set", f"port{node}", "down")

    def heal(self, node: int) -> None:
        """Bring a node's link up again."""
        self._on_bridge("link", "set", f"port{node}", "up")

    def pids(self, node: int) -> list[int]:
        """Processes of a node."""
        listed = subprocess.run(["ip", "netns", "pids", self._namespace(node)], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def popen(
        self, command: Sequence[str], *, node: int = 0, hidden: Sequence[str | Path] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command on a node; its pid is the command's own. `options` are those of Popen."""
        env = self.env | dict(options.pop("env", {}))
        return subprocess.Popen(self.command(command, node, hidden), env=env, text=True, **options)

    def run(
        self, command: Sequence[str], *, node: int = 0, timeout: float = 300, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node to its end and return its output and exit code."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        with self.popen(command, node=node, **options) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(command), process.returncode, out, err)

    def command(self, command: Sequence[str], node: int = 0, hidden: Sequence[str | Path] = ()) -> list[str]:
        """A command as it is to be called to run on a node; every step replaces the one before, so the pid stays."""
        mounts = "".join(f"mount -t tmpfs none '{folder}' && " for folder in hidden)
        script = f'{mounts}hostname node{node} && exec "$@"'
        inside = ["ip", "netns", "exec", self._namespace(node), "unshare", "--uts", "--mount"]
        return [*inside, "sh", "-c", script, "sh", *command]

    def logs(self) -> str:
        """Ends of the logs of all nodes, for the message of a test that failed."""
        files = sorted(self.folder.glob("*/session_*/logs/*.*"))
        return "\n".join(f"== {file}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def __enter__(self) -> Self:
        try:
            self._make_bridge()
            if self.bare:
                for node in range(self.size + 1):
                    self._make_namespace(node)
                return self
            self.start(0)
            for each in [self._launch(node, {}, ()) for node in range(1, self.size + 1)]:
                each.wait_for(START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all nodes and remove namespaces and files."""
        for namespace in self._namespaces():
            node = namespace.removeprefix(f"{self.name}-")
            if node.isdigit():
                self.kill(int(node))
            _ip("netns", "del", namespace)  # its links go with it
        shutil.rmtree(self.folder, ignore_errors=True)

    def _namespace(self, node: int) -> str:
        return f"{self.name}-{node}"

    def _namespaces(self) -> list[str]:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in listed.splitlines() if line.startswith(f"{self.name}-")]

    def _on_bridge(self, *arguments: str) -> None:
        _ip("-n", f"{self.name}-net", *arguments)

    def _make_bridge(self) -> None:
        """In a namespace of its own, so that this machine's interfaces stay as they are."""
        _ip("netns", "add", f"{self.name}-net")
        self._on_bridge("link", "add", "bridge", "type", "bridge")
        self._on_bridge("link", "set", "bridge", "up")

    def _make_namespace(self, node: int) -> None:
        inside, port = self._namespace(node), f"port{node}"
        _ip("netns", "add", inside)
        self._on_bridge("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", inside)
        self._on_bridge("link", "set", port, "master", "bridge", "up")
        _ip("-n", inside, "link", "set", "lo", "up")
        _ip("-n", inside, "addr", "add", f"{self.ip(node)}/24", "dev", "eth0")
        _ip("-n", inside, "link", "set", "eth0", "up")
        _ip("-n", inside, "route", "add", "default", "dev", "eth0")  # programs look there for the node's own address

    def _launch(self, node: int, env: Mapping[str, str], hidden: Sequence[str | Path]) -> Starting:
        if self._namespace(node) not in self._namespaces():
            self._make_namespace(node)
        self.size = max(self.size, node)
        env = self.env | (self._head_env if node == 0 else {}) | dict(env)
        return Starting(node, self.command(self._ray_start(node), node, hidden), env, self.folder)

    def _ray_start(self, node: int) -> list[str]:
        role = ["--head", f"--port={PORT}", "--num-cpus=0", *self._dashboard()]
        role = role if node == 0 else [f"--address={self.address}", f"--num-cpus={self.cpus:g}"]
        place = [f"--node-ip-address={self.ip(node)}", f"--temp-dir={self.folder / str(node)}"]
        sizes = ["--num-gpus=0", f"--object-store-memory={100 * 2**20}"]
        return [sys.executable, "-m", "ray.scripts.scripts", "start", *role, *place, *sizes]

    def _dashboard(self) -> list[str]:
        where = [f"--dashboard-host={self.ip(0)}", f"--dashboard-port={JOBS_PORT}"]
        return ["--include-dashboard=true", *where] if self.dashboard else ["--include-dashboard=false"]


class Starting:
    """A `ray start` on its way, which ends once the node is up."""

    def __init__(self, node: int, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.node, self._output = node, folder / f"start{node}.txt"
        with self._output.open("w") as output:  # a pipe would be held open by the node
            self._process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def wait_for(self, seconds: float) -> None:
        """Wait until the node is up; RuntimeError with what it said if it does not come up."""
        try:
            code: int | None = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = None
        if code != 0:
            raise RuntimeError(f"node {self.node} does not start (exit code {code}):\n{self._output.read_text()}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has just ended
        return


def main(argv: Sequence[str] | None = None) -> int:
    """A cluster for as long as a command on its head node runs; returns the command's exit code."""
    parser = argparse.ArgumentParser(description="Real Ray nodes in network namespaces, for one command or a shell.")
    parser.add_argument("--nodes", type=int, default=2, help="worker nodes; default: 2")
    parser.add_argument("--cpus", type=float, default=1, help="of each worker node; default: 1")
    parser.add_argument("--dashboard", action="store_true", help="with the dashboard, which takes jobs")
    parser.add_argument("--bare", action="store_true", help="machines without Ray; the command runs beside them")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="default: a shell")
    arguments = parser.parse_args(argv)
    if reason := missing_requirement():
        parser.error(reason)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the cluster does not outlive its program
    command = arguments.command or [os.environ.get("SHELL", "sh")]
    with NetworkCluster(arguments.nodes, arguments.cpus, dashboard=arguments.dashboard, bare=arguments.bare) as cluster:
        if arguments.bare:
            return subprocess.Popen(command, env=os.environ | {"NETNS": cluster.name}).wait()
        return cluster.popen(command, env={"RAY_ADDRESS": cluster.address}).wait()


if __name__ == "__main__":
    sys.exit(main())
