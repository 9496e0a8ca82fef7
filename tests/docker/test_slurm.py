"""The Slurm script with stand-ins for Slurm's commands; the last tests start real Ray nodes with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "docker/slurm/headlight.sbatch"

# srun starts its command here; scontrol writes down what it is asked for
SRUN = '#!/usr/bin/env bash\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n'
SCONTROL = '#!/usr/bin/env bash\necho "$*" >> "$HERE/scontrol"\n'
# Ray as the script sees it: it writes down its token, says where it is, and stays until it is ended
RAY = """#!/usr/bin/env bash
for word in "$@"; do case "$word" in --temp-dir=*) folder="${word#*=}" ;; esac; done
mkdir -p "$folder" && echo 127.0.0.1:1 > "$folder/ray_current_cluster"
echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $*" >> "$HERE/ray"
trap "echo ended >> $HERE/ended; exit" TERM
while :; do sleep 0.05; done
"""
# python is asked for a free port, and to wait until every node is there
PYTHON = """#!/usr/bin/env bash
[ "$1" = - ] || { echo 1024; exit; }
until [ "$(wc -l < "$HERE/ray")" -ge "$3" ]; do sleep 0.05; done
"""
# Headlight as the script sees it: ends with CODE, and with 5 when it is told to stop
HEADLIGHT = """#!/usr/bin/env bash
trap "exit 5" USR1 TERM
echo "$*" > "$HERE/headlight"
[ -z "$CODE" ] || exit "$CODE"
while :; do sleep 0.05; done
"""
# The same on a real cluster: a task on every node, so that all of them have to work
HEADLIGHT_ON_RAY = """#!{python}
import os, signal, sys, time
import ray
stopped = []
signal.signal(signal.SIGUSR1, lambda *_: stopped.append(1))
ray.init(address=sys.argv[-1].partition("=")[2], log_to_driver=False)
where = ray.remote(num_cpus=1)(lambda: (time.sleep(2), ray.get_runtime_context().get_node_id())[1])
nodes = set(ray.get([where.remote() for _ in range(2)], timeout=120))
with open(os.environ["HERE"] + "/headlight", "w") as file:
    file.write(f"{{len(nodes)}} nodes")
while not stopped:
    time.sleep(0.1)
sys.exit(5)
"""


@dataclass
class Job:
    """A folder with the stand-ins, in which the script runs."""

    folder: Path
    id: str
    process: subprocess.Popen[str] | None = None

    def start(self, code: int | None = None, nodes: int = 2, restarts: int = 0) -> None:
        """Start the script, as Slurm would."""
        variables = {"SLURM_JOB_ID": self.id, "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_CPUS_PER_TASK": "1"}
        variables |= {
            "HERE": str(self.folder),
            "HEADLIGHT_TMP": str(self.folder),
            "CODE": "" if code is None else str(code),
        }
        variables |= {"SLURM_RESTART_COUNT": str(restarts), "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        self.process = subprocess.Popen(
            ["bash", str(SCRIPT), "run", "experiment=demo"],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def read(self, name: str) -> str:
        """What a stand-in wrote down."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def wait_for(self, name: str, timeout: float) -> str:
        """Wait until a stand-in has written."""
        deadline = time.monotonic() + timeout
        while not self.read(name):
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, f"nothing in {name} after {timeout} s"
            time.sleep(0.05)
        return self.read(name)

    def end(self, timeout: float = 60) -> tuple[int, str]:
        """The exit code and what was printed."""
        assert self.process is not None
        output = self.process.communicate(timeout=timeout)[0]
        return self.process.returncode, output

    def left_over(self) -> list[str]:
        """Processes of this job that are still there, and folders of Ray's."""
        named = f"hl-{self.id}-"
        lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        return [line for line in lines if named in line] + [str(path) for path in self.folder.glob("hl-*")]


def _write(folder: Path, **programs: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in programs.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)


@pytest.fixture
def make_job() -> Iterator[Callable[..., Job]]:
    """Jobs in short folders: the names of sockets have little room."""
    jobs: list[Job] = []

    def make(job_id: str, **programs: str) -> Job:
        job = Job(Path(tempfile.mkdtemp(prefix="hl", dir="/tmp")), job_id)
        jobs.append(job)
        _write(job.folder, srun=SRUN, scontrol=SCONTROL, **programs)
        return job

    yield make
    for job in jobs:
        if job.process is not None and job.process.poll() is None:
            job.process.terminate()  # the script then ends what it started
            job.process.communicate(timeout=60)
        shutil.rmtree(job.folder, ignore_errors=True)


@pytest.fixture
def job(make_job: Callable[..., Job]) -> Job:
    return make_job(str(os.getpid()), ray=RAY, python=PYTHON, headlight=HEADLIGHT)


@pytest.mark.parametrize("code", [0, 1, 4, 5])
def test_exit_code_is_headlights_and_only_a_warning_queues_again(job: Job, code: int) -> None:
    job.start(code)
    ended, output = job.end()
    assert ended == code, output
    assert job.read("scontrol") == ""
    assert job.read("headlight").split() == ["run", "experiment=demo", "cluster=ray", "cluster.address=127.0.0.1:1"]
    assert job.left_over() == []
    assert job.read("ended").split() == ["ended", "ended"]


def test_time_limit_is_passed_on_and_the_job_queues_again(job: Job) -> None:
    job.start()
    job.wait_for("headlight", 30)
    assert job.process is not None
    job.process.send_signal(signal.SIGUSR1)
    code, output = job.end()
    assert code == 5, output
    assert job.read("scontrol") == f"requeue {job.id}\n"
    assert job.left_over() == []


def test_cancelling_saves_and_does_not_come_back(job: Job) -> None:
    job.start()
    job.wait_for("headlight", 30)
    assert job.process is not None
    job.process.terminate()
    assert job.end()[0] == 5
    assert job.read("scontrol") == ""
    assert job.left_over() == []


def test_a_job_that_never_gets_anywhere_stops_queueing(job: Job) -> None:
    job.start(restarts=20)
    job.wait_for("headlight", 30)
    assert job.process is not None
    job.process.send_signal(signal.SIGUSR1)
    assert job.end()[0] == 5
    assert job.read("scontrol") == ""


def test_warned_before_it_listens_counts_as_not_started(make_job: Callable[..., Job]) -> None:
    deaf = '#!/usr/bin/env bash\necho started > "$HERE/headlight"\nwhile :; do sleep 0.05; done\n'
    job = make_job(str(os.getpid()), ray=RAY, python=PYTHON, headlight=deaf)
    job.start()
    job.wait_for("headlight", 30)
    assert job.process is not None
    job.process.send_signal(signal.SIGUSR1)
    assert job.end()[0] == 5
    assert job.read("scontrol") == f"requeue {job.id}\n"


def test_every_job_has_a_token_of_its_own_and_shows_it_nowhere(job: Job, make_job: Callable[..., Job]) -> None:
    other = make_job(f"{os.getpid()}1", ray=RAY, python=PYTHON, headlight=HEADLIGHT)
    tokens = []
    for each in (job, other):
        each.start(0)
        _, output = each.end()
        head, worker = (line.split(maxsplit=2) for line in each.read("ray").splitlines())
        assert head[:2] == worker[:2]
        mode, token, arguments = head
        assert (mode, len(token)) == ("token", 64)
        assert token not in output + arguments + worker[2]
        tokens.append(token)
    assert tokens[0] != tokens[1]


def test_a_head_that_does_not_start_is_shown(make_job: Callable[..., Job]) -> None:
    broken = "#!/usr/bin/env bash\necho no room on the node; exit 1\n"
    job = make_job(str(os.getpid()), ray=broken, python=PYTHON, headlight=HEADLIGHT)
    job.start()
    code, output = job.end()
    assert code == 1
    assert "no room on the node" in output
    assert job.read("headlight") == ""
    assert job.left_over() == []


def test_outside_of_an_allocation_it_says_so() -> None:
    without = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run(["bash", str(SCRIPT), "run"], env=without, capture_output=True, text=True)
    assert done.returncode != 0
    assert "runs in a Slurm allocation" in done.stderr


@pytest.mark.cluster
@pytest.mark.slow
def test_two_jobs_on_one_machine_each_have_real_ray_nodes_of_their_own(make_job: Callable[..., Job]) -> None:
    """Both jobs at once, two Ray nodes each, all here: every default port and folder of Ray's would collide."""
    programs = {name: f'#!/bin/sh\nexec {Path(sys.executable).parent / name} "$@"\n' for name in ("ray", "python")}
    programs["headlight"] = HEADLIGHT_ON_RAY.format(python=sys.executable)
    jobs = [make_job(f"{os.getpid()}{number}", **programs) for number in (1, 2)]
    for job in jobs:
        job.start()
    for job in jobs:
        assert job.wait_for("headlight", 240) == "2 nodes"
        private = [folder.stat().st_mode & 0o777 for folder in job.folder.glob("hl-*")]
        assert private == [0o700, 0o700]
    for job in jobs:
        assert job.process is not None
        job.process.send_signal(signal.SIGUSR1)
    for job in jobs:
        code, output = job.end(120)
        assert code == 5, output
        assert job.read("scontrol") == f"requeue {job.id}\n"
        assert job.left_over() == []
