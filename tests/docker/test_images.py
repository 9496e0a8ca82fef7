"""The image files, judged by hadolint and shellcheck, and by what is promised of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile", DOCKER / "mlflow/Dockerfile"]
SCRIPTS = [DOCKER / "install.sh", DOCKER / "slurm/headlight.sbatch", ROOT / ".ci/run"]


def tool(name: str) -> str:
    """The program of this environment, or of the system."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    assert found, f"{name} is not installed; it belongs to the extra `dev`"
    return found


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    done = subprocess.run([tool("hadolint"), str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint_would_notice_a_floating_base(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILES[0].read_text().replace("FROM ${BASE} AS base", "FROM python"))
    done = subprocess.run([tool("hadolint"), str(tmp_path / "Dockerfile")], capture_output=True, text=True)
    assert "DL3006" in done.stdout


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(file: Path) -> None:
    done = subprocess.run([tool("shellcheck"), "--shell=bash", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_are_pinned_run_as_a_numbered_user_and_keep_no_cache(file: Path) -> None:
    text = file.read_text()
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", text, re.M)
    assert re.findall(r"^USER (.*)$", text, re.M)[-1] == "10001:10001"
    assert all("--no-cache-dir" in line for line in text.splitlines() if "pip install" in line)
    assert "HEALTHCHECK" in text


def test_nothing_names_a_package_index() -> None:
    files = [path for path in DOCKER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    named = re.compile(r"index-url|pypi\.org|pytorch\.org|PIP_(EXTRA_)?INDEX", re.I)
    assert not [str(path) for path in files if named.search(path.read_text())]


def test_the_context_holds_what_the_build_copies_and_no_more() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in allowed)
    copied = re.findall(r"^COPY (?!--from|\. )(.*) \S+$", "\n".join(f.read_text() for f in DOCKERFILES), re.M)
    mounted = re.findall(r"type=bind,source=([^,]+)", DOCKERFILES[1].read_text())
    needed = {name for line in copied for name in line.split()} | set(mounted)
    assert all(any(name == a or name.startswith(f"{a}/") for a in allowed) for name in needed)
    assert not {"tests", "docs", "outputs", ".git"} & set(allowed)


def test_install_script_tells_how_it_is_called() -> None:
    done = subprocess.run([str(DOCKER / "install.sh"), "nonsense"], capture_output=True, text=True)
    assert done.returncode == 4
    assert "dependencies cpu|gpu VENV" in done.stderr


@pytest.mark.slow
def test_install_steps_make_a_working_environment(tmp_path: Path) -> None:
    """What the image's RUN lines do, on what its COPY lines bring, in a fresh environment."""
    source, venv = tmp_path / "src", tmp_path / "venv"
    for name in ("attribution", "conf", "evaluation", "pipeline", "docker"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("LICENSE", "README.md", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, source / name)
    install = str(source / "docker/install.sh")
    device, other = ("gpu", "cpu") if torch.version.cuda else ("cpu", "gpu")
    subprocess.run([install, "dependencies", device, str(venv)], check=True, timeout=900)
    subprocess.run([install, "headlight", str(venv)], check=True, timeout=300)
    model, data = save_tiny("bert", tmp_path / "model"), tmp_path / "data.tsv"
    data.write_text("sentence\tlabel\nthe film was good .\t1\nslow and dull .\t0\n")
    what = ["model=local", f"model.path={model}", "dataset=local", f"dataset.path={data}", "attribution=none"]
    what += ["attribution.m.method=gradcam", "evaluation.controls=[]", "tracking=none", "heads.sentences=50"]
    clean = {"PATH": f"{venv}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    subprocess.run([f"{venv}/bin/headlight", "run", *what], check=True, timeout=600, cwd=tmp_path, env=clean)
    assert list(tmp_path.glob("outputs/runs/*/report.html"))
    refused = subprocess.run([install, "dependencies", other, str(venv)], capture_output=True, text=True, timeout=300)
    assert refused.returncode == 1
    assert f"not for {other}" in refused.stderr
