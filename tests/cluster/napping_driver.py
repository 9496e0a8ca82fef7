"""A driver for tests: short tasks on the cluster at the first argument; prints a line of JSON for every outcome."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time

import ray

from pipeline.config import ClusterConfig
from pipeline.execution import Task, in_order
from pipeline.execution.ray_pool import RayExecutor

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Sleeper:
    """Says which node it is on."""

    def process(self, task: Task) -> dict[str, str]:
        """Take a nap."""
        time.sleep(task.payload["seconds"])
        return {"node": socket.gethostname()}


def main(address: str, n: int, seconds: float) -> None:
    """Take `n` naps of so many seconds."""
    logging.basicConfig(level=logging.WARNING)
    tasks = (Task(f"nap-{number}", "nap", {"seconds": seconds}) for number in range(n))
    with RayExecutor(Sleeper, ClusterConfig("ray", address=address)) as executor:
        executor.wait_until_ready()
        executor.run(in_order(tasks), lambda outcome: print(json.dumps(vars(outcome)), flush=True))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
