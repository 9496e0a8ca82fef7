"""The compose file: valid by the Compose specification, and closed to everybody but this machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_images import tool

DOCKER = Path(__file__).parents[2] / "docker"
FILES = [DOCKER / "compose.yaml", DOCKER / "compose.gpu.yaml"]
COMPOSE = yaml.safe_load(FILES[0].read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENDS = {"bucket"}  # a service that does its work and ends has nothing to probe


def _valid(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True)


def test_files_follow_the_compose_specification() -> None:
    done = _valid(*FILES)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_key_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(FILES[0].read_text().replace("shm_size:", "shmsize:", 1))
    assert _valid(tmp_path / "compose.yaml").returncode != 0


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_pinned_probed_and_published_on_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\$\{\w+:-[\w/.-]+:[\w.-]+\}", service["image"]), "a tag, and a variable for a digest"
    assert ":latest" not in service["image"]
    assert name in ENDS or service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "network_mode", "pid"} & set(service)


def test_secrets_come_from_outside() -> None:
    secret = re.compile(r"TOKEN|PASSWORD|ACCESS_KEY|SECRET")
    for service in SERVICES.values():
        for key, value in service["environment"].items():
            assert not secret.search(key) or re.match(r"\$\{\w+:\?", value), key
    needed = set(re.findall(r"\$\{(\w+):\?", FILES[0].read_text()))
    listed = re.findall(r"^(\w+)=(.*)$", (DOCKER / "compose.env.example").read_text(), re.M)
    assert {name for name, _ in listed} == needed
    assert not any(value for _, value in listed)


def test_ray_asks_for_its_token_and_works_on_workers_only() -> None:
    head, worker = SERVICES["head"], SERVICES["worker"]
    assert head["image"] == worker["image"]
    assert "--num-cpus=0" in head["entrypoint"]
    assert head["volumes"] == worker["volumes"]
    for service in (head, worker):
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert "shm_size" in service
    assert "edge" not in worker["networks"]


def test_only_published_services_are_outside_of_internal_networks() -> None:
    outside = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    for name, service in SERVICES.items():
        assert bool(outside & set(service["networks"])) == bool(service.get("ports")), name


def test_services_wait_for_what_they_need() -> None:
    for service in SERVICES.values():
        for other, condition in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ENDS else "service_healthy"
            assert condition == {"condition": expected}


def test_gpu_file_changes_services_that_exist() -> None:
    changed = yaml.safe_load(FILES[1].read_text())["services"]
    assert set(changed) <= set(SERVICES)
    assert changed["head"]["image"] == changed["worker"]["image"]
