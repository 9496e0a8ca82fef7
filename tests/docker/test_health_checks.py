"""The times after which a lost node is given up: the same wherever a head is started, and said where people read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from network_cluster import HEALTH_CHECK

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
RAYJOB = yaml.safe_load((ROOT / "docker/k8s/rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
SLURM = (ROOT / "docker/slurm/headlight.sbatch").read_text()


def set_in(text: str) -> dict[str, str]:
    return dict(re.findall(r"(RAY_health_check_\w+)=(\d+)", text))


def of_the_head_pod() -> dict[str, str]:
    (container,) = RAYJOB["headGroupSpec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"] if each["name"].startswith("RAY_health")}


def of_the_head_service() -> dict[str, str]:
    return {name: value for name, value in COMPOSE["head"]["environment"].items() if name.startswith("RAY_health")}


@pytest.mark.parametrize(
    "found",
    [
        of_the_head_service(),
        of_the_head_pod(),
        set_in(SLURM),
        set_in((ROOT / "docs/faults.md").read_text()),
        set_in((ROOT / "docs/cluster.md").read_text()),
    ],
    ids=["compose", "kubernetes", "slurm", "faults.md", "cluster.md"],
)
def test_a_head_notices_a_lost_node_as_the_tests_of_faults_do(found: dict[str, str]) -> None:
    assert found == HEALTH_CHECK


def test_only_heads_are_told() -> None:
    assert not [name for name in COMPOSE["worker"]["environment"] if name.startswith("RAY_health")]
    (start,) = re.findall(r'^  "\$\{noticing\[@\]\}".*$', SLURM, re.M)
    assert " --head " in start
    assert not set_in("".join(re.findall(r"^export .*$", SLURM, re.M)))
