"""`headlight run` as a process on the head node, and what it has in its store."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from network_cluster import NetworkCluster

from pipeline.folder import RESULTS

STAGES = ("load_model", "identify_heads", "weigh_heads", "prune_heads", "attribute", "evaluate")


@dataclass
class DriverProcess:
    """One experiment, started as often as need be; all it says goes to one file."""

    cluster: NetworkCluster
    arguments: list[str]
    root: Path
    process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> Path:
        """What it says."""
        return self.root / "driver.log"

    def start(self) -> None:
        """Start it; it goes on with what is in the store."""
        self.root.mkdir(parents=True, exist_ok=True)
        where = ["cluster=ray", f"cluster.address={self.cluster.address}", f"paths.root={self.root}"]
        command = [sys.executable, "-m", "pipeline.cli", "run", *self.arguments, *where]
        with self.log.open("a") as log:
            self.process = self.cluster.popen(command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> int:
        """SIGKILL; returns the pid it had."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        return self.process.pid

    def is_done(self) -> bool:
        """Whether it has ended well; raises RuntimeError if it has ended otherwise."""
        assert self.process is not None
        code = self.process.poll()
        if code:
            raise RuntimeError(f"the driver ended with {code}:\n{self.log.read_text()[-4000:]}")
        return code == 0

    def wait(self) -> None:
        """Wait until it has ended well."""
        while not self.is_done():
            time.sleep(0.1)

    def result_times(self) -> list[float]:
        """When each result in the store was written, in order (seconds since the epoch)."""
        files = (file for stage in STAGES for file in (self.root / "store" / stage).glob("*/[!.]*.parquet"))
        return sorted(file.stat().st_mtime for file in files)

    def manifests(self) -> dict[str, dict[str, Any]]:
        """{run: manifest} of the finished runs: one, or the jobs of a sweep."""
        return {path.parent.name: json.loads(path.read_text()) for path in self.root.glob("runs/*/manifest.json")}

    def tables(self) -> dict[str, str]:
        """{file: sha256} of the tables of the finished runs, from their bytes, and of the lists of their results."""
        files = [
            f"{run}/{name}" for run, manifest in self.manifests().items() for name in [*manifest["files"], RESULTS]
        ]
        return {name: hashlib.sha256((self.root / "runs" / name).read_bytes()).hexdigest() for name in files}

    def results(self) -> dict[str, list[str]]:
        """{run: names of the results that it counts}."""
        return {run: (self.root / "runs" / run / RESULTS).read_text().split() for run in self.manifests()}
