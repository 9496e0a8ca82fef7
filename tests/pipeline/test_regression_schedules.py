"""The schedules in docker/schedules: commands that exist, and a crontab that does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import parse
from pipeline.compose import compose_config

FOLDER = Path(__file__).parents[2] / "docker" / "schedules"
CRON_LINE = re.compile(r"^((?:[\d*/,-]+ ){5})(.+)$", re.MULTILINE)


def cron_commands() -> list[str]:
    return [command for _, command in CRON_LINE.findall((FOLDER / "crontab").read_text())]


def cron_job() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((FOLDER / "kubernetes-cronjob.yaml").read_text())
    return job


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "github-actions.yaml").read_text())
    return found


def commands() -> list[list[str]]:
    """The arguments of every call of headlight."""
    container = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    steps = [step["run"] for step in workflow()["jobs"]["regress"]["steps"] if "run" in step]
    found = [re.findall(r"bin/headlight ([^>|]+)", text) for text in (*cron_commands(), *steps)]
    return [container["command"][1:], *(shlex.split(call) for calls in found for call in calls)]


def test_every_command_exists_and_composes() -> None:
    assert len(commands()) == 4
    for command in commands():
        arguments = parse(command)
        assert arguments.command.__name__ == "regress"
        assert (
            compose_config([word for word in arguments.overrides if not word.startswith("tracking=")]).name == "nightly"
        )


def in_a_checkout(command: str, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the crontab where `headlight` is this script."""
    program = folder / ".venv" / "bin" / "headlight"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(0o755)
    (folder / "outputs").mkdir(exist_ok=True)
    line = command.replace("/srv/headlight", str(folder))
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("script", "mailed"), [("echo fine", ""), ("echo worse; exit 2", "headlight regress ended with 2\nworse\n")]
)
def test_cron_mails_what_needs_a_person(script: str, mailed: str, tmp_path: Path) -> None:
    assert in_a_checkout(cron_commands()[0], tmp_path, script).stdout == mailed


def test_cron_does_not_start_a_night_twice(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    with subprocess.Popen(["flock", str(tmp_path / "outputs" / "nightly.lock"), "sleep", "60"]) as holder:
        waiting = ["flock", "-n", str(tmp_path / "outputs" / "nightly.lock"), "true"]
        while subprocess.run(waiting, check=False).returncode == 0:
            pass
        done = in_a_checkout(cron_commands()[0], tmp_path, "echo started > started")
        holder.terminate()
    assert not (tmp_path / "started").exists()
    assert "ended with 75" in done.stdout


def test_the_morning_check_prints_only_what_is_missing(tmp_path: Path) -> None:
    check = cron_commands()[1]
    assert in_a_checkout(check, tmp_path, "echo no night is missing").stdout == ""
    assert in_a_checkout(check, tmp_path, "echo 1 night is missing; exit 3").stdout == "1 night is missing\n"


def test_a_pod_with_a_verdict_is_not_started_again() -> None:
    job = cron_job()["spec"]["jobTemplate"]["spec"]
    rule = job["podFailurePolicy"]["rules"][0]
    assert cron_job()["spec"]["concurrencyPolicy"] == "Forbid"
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [1, 2, 3, 4]
    assert rule["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # the policy needs it
    assert job["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


def test_secrets_come_from_outside() -> None:
    for name, value in workflow()["jobs"]["regress"]["env"].items():
        assert value.startswith("${{ secrets.") or name == "MLFLOW_DISABLE_TELEMETRY"
