"""Jobs on a real Ray head on this machine: what they print and the exit code each of them leaves."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from shutil import rmtree

import pytest
from tiny_models import save_tiny

from attribution.errors import InputError
from pipeline.cli import main
from pipeline.jobs import Jobs, jobs_address

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address():
    """A head node on the loopback that asks for a token, with one CPU to work with."""
    folder = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp"))
    token, jobs = secrets.token_hex(16), free_port()
    ports = ["port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "ray-client-server-port"]
    command = [
        "start", "--head", "--block", "--node-ip-address=127.0.0.1", *(f"--{port}={free_port()}" for port in ports),
        "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={jobs}", "--num-cpus=1",
        "--num-gpus=0", f"--temp-dir={folder}", f"--object-store-memory={100 * 2**20}",
    ]  # fmt: skip
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | ours
    with (folder / "output").open("w") as output:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command],
            env=env, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_AUTH_MODE", raising=False)
        patch.setenv("RAY_AUTH_TOKEN", token)
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # must not matter
        try:
            wait_for_jobs_server(f"http://127.0.0.1:{jobs}", head, folder)
            yield f"http://127.0.0.1:{jobs}"
        finally:
            end(head)
            rmtree(folder, ignore_errors=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_jobs_server(address, head, folder):
    deadline = time.monotonic() + 120
    while True:
        try:
            return Jobs(address)
        except InputError:
            assert head.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, (folder / "output").read_text()
            time.sleep(1)


def end(head):
    head.send_signal(signal.SIGTERM)  # with --block it ends what it started
    try:
        head.wait(60)
    finally:
        if head.poll() is None:
            os.killpg(head.pid, signal.SIGKILL)


@pytest.fixture
def jobs(address):
    return Jobs(address)


def python(script):
    return [sys.executable, "-c", script]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("print('do' + 'ne')", 0, "done"),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit(4)", 4, ""),
        ("raise SystemExit(5)", 5, ""),
        ("raise ValueError('broken')", 1, "ValueError: broken"),
        ("import os; os.kill(os.getpid(), 9)", 1, "the job failed: Job entrypoint command failed with exit code -9"),
        ("raise SystemExit(42)", 1, "the job failed: Job entrypoint command failed with exit code 42"),
    ],
)
def test_exit_codes_come_back(jobs, script, code, text):
    log = []
    assert jobs.follow(jobs.send(python(script), "codes", None, {}), log.append) == code
    assert text in "".join(log)


@pytest.mark.slow
def test_a_job_that_is_stopped_may_save_what_it_has(jobs, tmp_path):
    saved = tmp_path / "saved"
    script = f"""
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(5), pathlib.Path({str(saved)!r}).touch(), sys.exit(5)))
print("ready", flush=True)
time.sleep(600)
"""
    job, log, codes = jobs.send(python(script), "stopped", None, {}), [], []
    follower = threading.Thread(target=lambda: codes.append(jobs.follow(job, log.append)))
    follower.start()
    while "ready" not in "".join(log).splitlines():
        assert follower.is_alive()
        time.sleep(0.2)
    assert jobs.stop(job) == "STOPPED"
    follower.join(60)
    assert codes == [5]
    assert saved.exists()  # after 5 s; Ray would kill it after 3


@pytest.mark.slow
def test_a_run_is_sent_and_its_results_are_where_it_said(address, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = save_tiny("bert", tmp_path / "model")
    (tmp_path / "a.tsv").write_text("sentence\tlabel\nthe film was good .\tpositive\nslow and bad .\tnegative\n")
    overrides = [
        "model=local", f"model.path={model}", "dataset=local", "dataset.path=a.tsv", "heads.sentences=150",
        "++model.label_map.positive=1", "++model.label_map.negative=0", "attribution=none", "tracking=none",
        "attribution.m.method=gradcam", "evaluation.controls=[]", f"paths.root={tmp_path / 'out'}",
    ]  # fmt: skip
    submit = ["submit", "--address", address, "--python", sys.executable]
    assert main([*submit, *overrides]) == 0
    out, err = capsys.readouterr()
    assert f"sent to {address} as run-" in err
    assert f"report: {tmp_path / 'out' / 'runs' / 'run' / 'report.html'}" in out
    assert "cluster: RAY_ADDRESS=" in out
    assert (tmp_path / "out" / "runs" / "run" / "metrics.parquet").exists()

    assert main([*submit, "--no-wait", *overrides, "model.path=/nowhere/model"]) == 0
    job = capsys.readouterr().out.strip()
    assert main(["submit", "--address", address, "--follow", job]) == 4
    assert "model.path=/nowhere/model does not exist" in capsys.readouterr().out


@pytest.mark.slow
def test_a_wrong_token_and_an_unknown_job_are_named(address, monkeypatch, capsys):
    assert main(["submit", "--address", address, "--follow", "nobody-knows"]) == 4
    assert "job nobody-knows is not known" in capsys.readouterr().err
    wrong = [sys.executable, "-m", "pipeline.cli", "submit", "--address", address, "--follow", "any"]
    done = subprocess.run(
        wrong, env={**os.environ, "RAY_AUTH_TOKEN": "another"}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH" in done.stderr


def test_nobody_listens(capsys, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    nobody = f"http://127.0.0.1:{free_port()}"
    assert main(["submit", "--address", nobody, "--follow", "any"]) == 4
    assert f"conf error: --address {nobody}: no jobs server answers" in capsys.readouterr().err
    assert main(["submit", "--address", "127.0.0.1:6379", "--stop", "any"]) == 4
    assert "write http://host:8265" in capsys.readouterr().err


def test_a_bad_configuration_is_refused_before_anything_is_sent(capsys):
    assert main(["submit", "--address", "http://127.0.0.1:1", "datset.limit=3"]) == 4
    assert "datset.limit is not a configuration key" in capsys.readouterr().err
    assert main(["submit", "--follow", "any", "seed=1"]) == 4
    assert "--follow and --stop take no overrides" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (None, {}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "https://ray.example/"}, "https://ray.example"),
        (None, {"RAY_ADDRESS": "http://a:1", "RAY_API_SERVER_ADDRESS": "http://b:1"}, "http://b:1"),
        ("http://c:1", {"RAY_API_SERVER_ADDRESS": "http://b:1"}, "http://c:1"),
    ],
)
def test_where_jobs_are_sent(given, environment, expected, monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert jobs_address(given) == expected
