"""A whole run whose MLflow server goes away, or that has none."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_models import save_tiny

from pipeline.cli import main


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small experiment whose files all go below the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    model = save_tiny("bert", tmp_path / "tiny")
    (tmp_path / "texts.tsv").write_text("sentence\tlabel\nthe film was good .\tpositive\nslow and bad .\tnegative\n")
    return [
        "run", "model=local", f"model.path={model}", "dataset=local", "dataset.path=texts.tsv", "heads=all",
        "attribution=none", "attribution.m.method=gradcam", "evaluation.controls=[]", "name=small",
        "++model.label_map.positive=1", "++model.label_map.negative=0",
    ]  # fmt: skip


@pytest.fixture
def mortal() -> Iterator[tuple[str, list[str | None]]]:
    """A server that answers like MLflow once, and is gone for good; its address, and the credentials it was shown."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")
            threading.Thread(target=close).start()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def close() -> None:
        server.shutdown()
        server.server_close()

    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", shown
    close()


def waiting() -> str:
    return str(json.loads(Path("outputs/runs/small/manifest.json").read_text())["tracking"]["waiting"])


def test_a_run_outlives_its_server(
    base: list[str], mortal: tuple[str, list[str | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, _ = mortal
    assert main([*base, "tracking=server", f"tracking.uri={address}", "tracking.wait_s=0"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mlflow: "))
    assert address in line
    assert line.endswith("`headlight sync outputs/runs/small` sends it")
    assert address in waiting()


def test_an_offline_run_is_sent_to_a_database(
    base: list[str], mlflow_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*base, "tracking=offline"]) == 0
    assert "mlflow: the record waits in outputs/runs/small (tracking=offline);" in capsys.readouterr().out
    assert not Path("outputs/mlflow.db").exists()
    shutil.copy(mlflow_database, "outputs")
    assert main(["sync", "last"]) == 0
    assert "mlflow.db" in capsys.readouterr().out
    assert waiting() == "None"


def test_credentials_are_not_written_down_and_come_from_the_environment(
    base: list[str], mortal: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, shown = mortal
    assert main([*base, "tracking=offline", f"tracking.uri={address.replace('//', '//me:sesame@')}"]) == 0
    folder = Path("outputs/runs/small")
    assert [path.name for path in folder.iterdir() if b"sesame" in path.read_bytes()] == []
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "from-outside")
    assert main(["sync", "last"]) == 1
    assert shown == ["Bearer from-outside"]


def test_a_server_that_was_never_there_is_refused(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*base, "tracking=server", "tracking.uri=http://127.0.0.1:9"]) == 4
    assert "tracking=offline" in capsys.readouterr().err
    assert not Path("outputs").exists()
