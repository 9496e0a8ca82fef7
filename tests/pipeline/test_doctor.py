"""What the doctor finds."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from pipeline import doctor


def texts(findings: object, state: str) -> list[str]:
    return [finding.text for finding in findings if finding.state == state]  # type: ignore[attr-defined]


def test_folder_that_hides_a_package(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (note,) = texts(doctor.packages(tmp_path), "note")
    assert note.startswith(f"{tmp_path / 'conf'} hides Headlight's conf")
    assert "--config-dir my_conf" in note


def test_our_own_checkout_hides_nothing() -> None:
    assert texts(doctor.packages(Path(doctor.__file__).parents[1]), "note") == []


def test_package_that_is_not_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def imported(name: str) -> ModuleType:
        module = ModuleType(name)
        module.__path__ = [str((tmp_path if name == "conf" else Path("/installed")) / name)]
        return module

    monkeypatch.setattr(doctor, "import_module", imported)
    (problem,) = texts(doctor.packages(Path("/elsewhere")), "problem")
    assert problem.startswith(f"{tmp_path / 'conf'} is used in place of Headlight's conf.")


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADLIGHT_DATA", str(tmp_path / "missing"))
    monkeypatch.setenv("HEADLIGHT_MODELS", str(tmp_path))
    (tmp_path / "minilm-sst2").mkdir()
    findings = list(doctor.variables())
    (problem,) = texts(findings, "problem")
    assert problem.startswith(f"HEADLIGHT_DATA={tmp_path / 'missing'} is not a folder: data sets")
    assert f"HEADLIGHT_MODELS={tmp_path} has no minilm-squad" in texts(findings, "note")
    monkeypatch.delenv("HEADLIGHT_DATA")
    assert any(text.startswith("HEADLIGHT_DATA is not set") for text in texts(doctor.variables(), "note"))


@pytest.mark.parametrize(
    ("wanted", "state", "text"),
    [
        (["torch>=1"], "ok", "torch "),
        (["torch>=99"], "problem", "; Headlight needs torch>=99"),
        (["no-such-distribution>=1"], "problem", "no-such-distribution is missing; pip install"),
        (['no-such-distribution>=1; extra == "dev"'], "ok", "Python "),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, wanted: list[str], state: str, text: str) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    findings = list(doctor.versions())
    assert any(text in found for found in texts(findings, state))
    assert bool(texts(findings, "problem")) == (state == "problem")


def test_caches_are_measured(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_bytes(b"x" * 2048)
    assert texts(doctor.caches(tmp_path), "ok")[:2] == [
        f"{tmp_path / 'store'}: 2 KiB",
        f"{tmp_path / 'models'}: empty",
    ]


def test_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (problem,) = texts(doctor.tracking(tmp_path), "problem")
    assert problem.startswith("tracking.uri=http://127.0.0.1:9 is not reachable")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert texts(doctor.tracking(tmp_path), "problem") == []


def test_everything_is_examined_and_nothing_written(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    sections = {finding.section for finding in doctor.examine(root, tmp_path)}
    assert sections == {"versions", "devices", "packages", "environment", "caches", "tracking"}
    assert not root.exists()
