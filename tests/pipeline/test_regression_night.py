"""Whole nights on a tiny model: from the first one, without a champion, to a regression that the pipeline computed."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attribution.errors import InputError
from pipeline.cli import main
from pipeline.compose import run_key
from pipeline.execution import make_progress
from pipeline.regression.night import overdue, regress
from pipeline.regression.promote import promote
from pipeline.regression.series import Series, add_line, read_lines
from pipeline.regression.verdict import Verdict
from pipeline.store import Store
from pipeline.validate import load_config

LABELS = ("negative", "positive")
HOSTILE = "the <b>film</b> was good ."
WORDS = ("good", "bad", "slow", "dull", "bright", "awful", "great", "fine")
TEXTS = [HOSTILE, *(f"the {a} film was {b} and the meal {c} ." for a in WORDS for b in WORDS[:3] for c in WORDS[:3])]
EXAMPLES = 24  # of the 73, the rest is for confirmations


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier, its bias moved so that it gives both classes to half of the texts."""
    folder = save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")
    weights = load_file(folder / "model.safetensors")
    logits = predict(folder)
    weights["classifier.bias"][1] -= (logits[:, 1] - logits[:, 0]).median()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def predict(folder: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        logits: torch.Tensor = classifier(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits[:, :2]
    return logits


@pytest.fixture(scope="module")
def planted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with its classifier's weights put out, so that it gives all texts one class."""
    folder = tmp_path_factory.mktemp("planted") / "tiny"
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = torch.zeros_like(weights["classifier.weight"])
    weights["classifier.bias"] = torch.tensor([0.0, 1.0, 0.0])[: len(weights["classifier.bias"])]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def first(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Verdict]:
    """A root after night one, whose run was promoted; the overrides of the experiment, and that night's verdict."""
    root = tmp_path_factory.mktemp("first")
    data = root / "texts.tsv"
    labels = predict(model).argmax(1).tolist()
    rows = [f"{text}\t{LABELS[label]}\n" for text, label in zip(TEXTS, labels, strict=True)]
    data.write_text("sentence\tlabel\n" + "".join(rows))
    overrides = [
        "name=nightly", "model=local", f"model.path={model}", "dataset=local", f"dataset.path={data}",
        f"dataset.limit={EXAMPLES}", "dataset.sample_seed=0", "heads=all", "attribution=none",
        "attribution.gradcam.method=gradcam", "attribution.random.method=random", "evaluation.metrics=[aopc]",
        "tracking=none", "++model.label_map.positive=1", "++model.label_map.negative=0",
    ]  # fmt: skip
    verdict = go([*overrides, f"paths.root={root / 'outputs'}"])
    promote(root / "outputs" / "runs" / verdict.night, root / "outputs", bootstrap=True)
    return root / "outputs", overrides, verdict


@pytest.fixture
def nights(first: tuple[Path, list[str], Verdict], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of that root, and the overrides that use it."""
    root, overrides, _ = first
    shutil.copytree(root, tmp_path / "outputs")
    return tmp_path / "outputs", [*overrides, f"paths.root={tmp_path / 'outputs'}"]


def go(overrides: list[str]) -> Verdict:
    return regress(load_config(overrides), overrides, make_progress(silent=True))


def folder_of(verdict: Verdict) -> Path:
    assert verdict.candidate is not None
    return Path(verdict.candidate.folder)


def test_night_one_has_nothing_to_compare_with_and_says_what_to_do(first: tuple[Path, list[str], Verdict]) -> None:
    _, _, verdict = first
    assert (verdict.verdict, verdict.exit_code) == ("no_champion", 3)
    assert f"headlight promote --bootstrap {verdict.night}" in verdict.reasons[0]


def test_a_night_without_a_change_passes(nights: tuple[Path, list[str]]) -> None:
    root, overrides = nights
    verdict = go([*overrides, "regression.runtime_factor=1000"])
    assert (verdict.verdict, verdict.exit_code) == ("pass", 0)
    gates = {finding.gate: finding for finding in verdict.findings}
    assert gates["golden"].delta == 0.0
    assert {finding.key for finding in verdict.findings if finding.gate == "statistical"} == {
        ("gradcam", "aopc"),
        ("(model)", "accuracy"),
    }
    run = folder_of(verdict)
    assert json.loads((run / "manifest.json").read_text())["reuse"]["attribute"]["reused"] == 0
    assert json.loads((run / "verdict.json").read_text())["verdict"] == "pass"
    assert json.loads((root / "regression" / "nightly" / "verdict.json").read_text())["night"] == verdict.night
    assert ElementTree.parse(run / "junit.xml").getroot()[0].get("failures") == "0"
    assert [line["verdict"] for line in read_lines(Series(root, "nightly").nights)] == ["no_champion", "pass"]
    assert not Series(root, "nightly").unfinished.exists()


def test_a_planted_regression_is_found_and_confirmed_on_first_examples(
    nights: tuple[Path, list[str]], planted: Path
) -> None:
    _, overrides = nights
    verdict = go([*overrides, "regression.vary=[model]", f"model.path={planted}"])
    assert (verdict.verdict, verdict.exit_code) == ("regression", 2)
    worst = next(finding for finding in verdict.findings if finding.metric == "accuracy")
    assert (worst.level, worst.champion, worst.confirmed) == ("regression", 1.0, True)
    assert any("both models on other examples" in note for note in verdict.notes)
    run = folder_of(verdict)
    seen = [items(folder) for folder in (run, run / "fresh" / "fresh-1-champion", run / "fresh" / "fresh-1-candidate")]
    assert seen[1] == seen[2]
    assert not seen[0] & seen[1]
    assert "<b>film" not in (run / "verdict.html").read_text()


def items(folder: Path) -> set[str]:
    return set(pq.read_table(folder / "predictions.parquet")["item_id"].to_pylist())


def test_what_may_not_differ_is_incomparable(nights: tuple[Path, list[str]], planted: Path) -> None:
    _, overrides = nights
    verdict = go([*overrides, f"model.path={planted}", "dataset.limit=20"])
    assert (verdict.verdict, verdict.exit_code) == ("incomparable", 3)
    said = "\n".join(verdict.reasons)
    for expected in ("model: fingerprint was", "config: dataset.limit was 24 and is 20", "data: fingerprint was"):
        assert expected in said
    suite = ElementTree.parse(folder_of(verdict) / "junit.xml").getroot()[0]
    assert suite.get("errors") == "1"


def test_what_could_be_allowed_is_said(nights: tuple[Path, list[str]], planted: Path) -> None:
    verdict = go([*nights[1], f"model.path={planted}"])
    assert verdict.exit_code == 3
    assert verdict.reasons[-1] == "if that is meant: regression.vary with model, or promote this night"


def test_a_champion_whose_files_were_touched_is_incomparable(nights: tuple[Path, list[str]]) -> None:
    root, overrides = nights
    (values,) = (root / "regression" / "nightly" / "champions").glob("*/values.parquet")
    values.write_bytes(values.read_bytes() + b" ")
    verdict = go(overrides)
    assert (verdict.verdict, verdict.exit_code) == ("incomparable", 3)
    assert "values.parquet was changed" in verdict.reasons[0]


def test_a_champion_that_came_back_is_not_compared_with_itself(nights: tuple[Path, list[str]]) -> None:
    root, overrides = nights
    promotions = Series(root, "nightly").promotions
    (promoted,) = read_lines(promotions)
    for line in (promoted | {"run_id": "other"}, promoted):
        add_line(promotions, line)
    verdict = go(overrides)
    assert verdict.exit_code == 0
    assert (verdict.first_champion, verdict.drift) == (None, [])


def test_an_interrupted_night_goes_on_under_its_name(
    nights: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, overrides = nights
    original, puts = Store.put, []

    def put(store: Store, key: str, table: Any, stage: str) -> Any:
        puts.append(stage)
        if puts.count("evaluate") == 2:
            raise KeyboardInterrupt
        return original(store, key, table, stage)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", put)
        with pytest.raises(KeyboardInterrupt):
            go(overrides)
    series = Series(root, "nightly")
    begun = json.loads((series.unfinished / "night.json").read_text())["name"]
    verdict = go(overrides)
    assert verdict.night == begun
    assert not series.unfinished.exists()
    assert json.loads((folder_of(verdict) / "manifest.json").read_text())["reuse"]["attribute"]["computed"] == 0
    assert verdict.exit_code == 0


def test_what_was_left_of_an_older_night_is_not_taken_for_this_one(nights: tuple[Path, list[str]]) -> None:
    root, overrides = nights
    left = {"name": "nightly-old", "run_key": run_key(load_config(overrides)), "started": "2026-01-01T02:00:00+00:00"}
    marker = Series(root, "nightly").unfinished / "night.json"
    marker.parent.mkdir()
    marker.write_text(json.dumps(left))
    (marker.parent / "store").mkdir()
    assert go(overrides).night != "nightly-old"


def test_a_missing_night_is_a_warning_the_next_time_and_an_exit_code_meanwhile(
    nights: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, overrides = nights
    config = load_config(overrides)
    assert overdue(config) is None
    history = Series(root, "nightly").nights
    (line,) = read_lines(history)
    history.unlink()
    add_line(history, line | {"started": "2026-01-01T02:00:00+00:00"})
    assert "nights are missing" in (overdue(config) or "")
    assert main(["regress", "--check", *overrides]) == 3
    assert "nights are missing" in capsys.readouterr().out
    verdict = go(overrides)
    assert [finding.level for finding in verdict.findings if finding.gate == "schedule"] == ["warn"]
    assert main(["regress", "--check", *overrides]) == 0


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """A web server that takes one document after another, and refuses those for /refused."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(403 if "refused" in self.path else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()


def test_the_webhook_gets_the_verdict_and_its_secret_goes_nowhere(
    nights: tuple[Path, list[str]], receiver: tuple[str, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, bodies = receiver
    root, overrides = nights
    assert main(["regress", *overrides, f"regression.webhook={address}/hook-s3cret"]) == 0
    document = json.loads(bodies[0])
    assert document["verdict"] in ("pass", "warn")
    assert HOSTILE not in bodies[0].decode()
    written = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert not any(b"s3cret" in content for content in written)
    assert main(["regress", *overrides, f"regression.webhook={address}/refused-s3cret"]) == 0
    assert main(["regress", *overrides, "regression.webhook=http://127.0.0.1:9/s3cret"]) == 0
    out, err = capsys.readouterr()
    assert "answered HTTP 403; the verdict stands" in out
    assert "could not be reached" in out
    assert "s3cret" not in out + err


def test_a_night_that_cannot_run_is_recorded(
    nights: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, overrides = nights
    assert main(["regress", *overrides, "dataset.skip=1000"]) == 4
    assert "dataset.skip=1000" in capsys.readouterr().err
    last = read_lines(Series(root, "nightly").nights)[-1]
    assert (last["verdict"], last["exit_code"]) == ("bad_input", 4)
    assert json.loads(Series(root, "nightly").verdict.read_text())["exit_code"] == 4


def test_a_run_with_failures_is_no_pass(nights: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.stages import attribute

    def process(**payload: Any) -> Any:
        raise ValueError("poisoned")

    monkeypatch.setattr(attribute, "process", process)
    verdict = go(nights[1])
    assert (verdict.verdict, verdict.exit_code) == ("failed", 1)
    assert "poisoned" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("regression.vary=[modell]", "modell cannot vary. Did you mean model?"),
        ("regression.tolerance.aopc=-1", "tolerance.aopc=-1.0 must be at least 0"),
        ("regression.every=daily", "regression.every=daily is not a span of time"),
        ("regression.fresh_seeds=[]", "must be different numbers of at least 1"),
        ("regression.webhook=file:///etc/passwd", "regression.webhook is not an http"),
        ("regression.webhook='http://['", "regression.webhook is not an http"),
        ("regression.alarm_line=1", "alarm_line=1.0 must be at least 0 and less than 1"),
        ("regression.seed=-1", "regression.seed=-1 must be at least 0"),
        ("regression.golden=-0.1", "regression.golden=-0.1 must be at least 0"),
        ("regression.series=a/b", "regression.series=a/b names a folder: use letters"),
        ("regression.confidence=1", "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_runs(
    override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        go(["experiment=nightly", "tracking=none", f"paths.root={tmp_path}", override])
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_nights_at_once_are_one_too_many(nights: tuple[Path, list[str]]) -> None:
    root, overrides = nights
    with Series(root, "nightly").alone(), pytest.raises(InputError, match="another night of nightly is running"):
        go(overrides)
