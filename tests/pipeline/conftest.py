"""A made-up run folder with the shape of a real one: every table, the manifest and the configuration."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import save_tiny

from attribution.explainer import Explainer
from pipeline.config import TrackingConfig
from pipeline.schemas import RUN_TABLES, SCHEMA_VERSION
from pipeline.store import Store, StoredFile
from pipeline.tracking import Tracker

Rows = list[dict[str, Any]]
HOSTILE = "<img src=x onerror=window.hijacked=1>"
LABELS = {0: "negative", 1: "positive"}
QUALITY = {
    "mask_lrp": 0.8,
    "transformer_attribution": 0.75,
    "raw_attention": 0.3,
    "gradcam": 0.6,
    "attcat": 0.5,
    "mask_lrp_random_0": 0.76,
    "mask_lrp_random_1": 0.74,
    "random": 0.1,
}
ADJECTIVES = ("gripping", "dull", "charming", "overwritten", "unforgettable", "flat", "tender", "clumsy")
NOUNS = ("film", "meal", "hotel", "novel", "headset", "performance")
COUNTS = (1, 2, 3, 4, 5, 6)
HIGHER = {"aopc": True, "log_odds": False, "comprehensiveness": True, "sufficiency": False, "answer_recall": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in a folder."""
    return save_tiny("bert", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def explainer(model: Path) -> Explainer:
    """The same, loaded."""
    return Explainer.from_pretrained(model, device="cpu")


def sentence(rng: np.random.Generator, index: int) -> str:
    adjectives = rng.choice(ADJECTIVES, 3)
    middle = f" {HOSTILE}" if index == 0 else ""
    return f"A {adjectives[0]}, {adjectives[1]} {rng.choice(NOUNS)}{middle} that isn't {adjectives[2]} at all."


def word_pieces(text: str) -> tuple[list[str], list[dict[str, int]], list[int]]:
    """Words and punctuation; words of more than eight letters come in two pieces."""
    tokens, offsets, words = [], [], []
    for word, match in enumerate(re.finditer(r"<[^>]+>|\w+|[^\w\s]", text)):
        start, end = match.span()
        cuts = [start, start + 5, end] if end - start > 8 else [start, end]
        for left, right in itertools.pairwise(cuts):
            tokens.append(("" if left == start else "##") + text[left:right])
            offsets.append({"start": left, "end": right})
            words.append(word)
    return tokens, offsets, words


def example(index: int, text: str, text_b: str | None, rng: np.random.Generator) -> dict[str, Any]:
    row: dict[str, Any] = {
        "tokens": ["[CLS]"],
        "offsets": [{"start": 0, "end": 0}],
        "word_ids": [-1],
        "field_ids": [-1],
    }
    for field, content in enumerate(filter(None, (text, text_b))):
        tokens, offsets, words = word_pieces(content)
        row["tokens"] += [*tokens, "[SEP]"]
        row["offsets"] += [*offsets, {"start": 0, "end": 0}]
        row["word_ids"] += [*words, -1]
        row["field_ids"] += [field] * len(tokens) + [-1]
    label = int(rng.integers(2))
    row |= {"item_id": hashlib.sha256(f"{index}{text}".encode()).hexdigest()[:16], "row_index": index}
    row |= {
        "text": text,
        "text_b": text_b,
        "label": label,
        "label_name": LABELS[label],
        "truncated": 7 if index == 1 else 0,
    }
    row["special_tokens"] = [field < 0 for field in row["field_ids"]]
    row["input_ids"] = list(range(len(row["tokens"])))
    return row


def answerable(row: dict[str, Any]) -> dict[str, Any]:
    """The same example as a question with its context: the answer is the context's second and third token."""
    first = row["field_ids"].index(1) + 1
    return row | {"label": None, "label_name": None, "answer_start": first, "answer_end": first + 1}


def prediction(row: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    probability = float(rng.uniform(0.6, 0.99))
    if row["label"] is None:
        start = row["answer_start"]
        return {
            "item_id": row["item_id"],
            "logits": [3.0, 2.0],
            "probabilities": [probability, 0.9],
            "predicted": start,
            "predicted_end": start + 1,
        }
    predicted = row["label"] if rng.random() < 0.9 else 1 - row["label"]
    probabilities = [1 - probability, probability] if predicted else [probability, 1 - probability]
    return {"item_id": row["item_id"], "logits": [-1.0, 1.0], "probabilities": probabilities, "predicted": predicted}


def attribution(
    method: str, row: dict[str, Any], predicted: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    n = len(row["tokens"])
    scores = rng.normal(0, 0.4, n) + QUALITY[method] * np.array(
        [any(t in a for a in ADJECTIVES) for t in row["tokens"]]
    )
    scores = np.abs(scores) if method == "raw_attention" else scores
    scores[np.array(row["special_tokens"])] *= 3 if method == "raw_attention" else 0.1
    status = "nan" if method == "attcat" and row["row_index"] == 2 else "ok"
    return {
        "method": method,
        "item_id": row["item_id"],
        "target": predicted["predicted"],
        "target_end": predicted.get("predicted_end"),
        "scores": [float("nan")] * n if status == "nan" else scores.tolist(),
        "status": status,
    }


def curve(method: str, row: dict[str, Any], predicted: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    seeds = 1 if row["label"] is not None else 2
    drop = np.clip(QUALITY[method] + rng.normal(0, 0.1), 0, 1) * (1 - np.exp(-np.array(COUNTS) / 2))
    intact = max(predicted["probabilities"])
    probabilities = np.repeat(intact * (1 - drop), seeds)
    return {
        "method": method,
        "item_id": row["item_id"],
        "curve": "aopc",
        "operator": "mask",
        "target": predicted["predicted"],
        "target_end": predicted.get("predicted_end"),
        "intact_probability": [intact] * seeds,
        "intact_logit": [1.0] * seeds,
        "counts": list(COUNTS),
        "levels": [count / 9 for count in COUNTS],
        "probabilities": probabilities.tolist(),
        "logits": np.log(np.maximum(probabilities, 1e-6)).tolist(),
    }


def values(curves: Rows, metrics: Iterable[str]) -> Rows:
    rows = []
    for row in curves:
        drop = row["intact_probability"][0] - float(np.mean(row["probabilities"]))
        for metric in metrics:
            value = drop if HIGHER[metric] else -3 * drop
            rows.append(
                {"method": row["method"], "item_id": row["item_id"], "metric": metric, "value": value, "weight": 1.0}
            )
    return rows


def interval(sample: np.ndarray) -> dict[str, float]:
    half = 1.96 * float(sample.std(ddof=1)) / len(sample) ** 0.5
    return {"value": float(sample.mean()), "low": float(sample.mean()) - half, "high": float(sample.mean()) + half}


def metric_rows(rows: Rows) -> Rows:
    samples: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        samples.setdefault((row["method"], row["metric"]), []).append(row["value"])
    result = []
    for (method, metric), sample in samples.items():
        against = [label for label in QUALITY if label != method and label.startswith(("random", f"{method}_random"))]
        others: list[str | None] = [None, *(label for label in against if (label, metric) in samples)]
        for other in others:
            paired = np.array(sample) - (np.array(samples[other, metric]) if other else 0.0)
            counts = {"n": len(sample), "n_undefined": 0}
            result.append({"method": method, "metric": metric, "against": other, **interval(paired), **counts})
    return result


def head_rows(layers: int, heads: int) -> Rows:
    rng, rows = np.random.default_rng(5), []
    for role, baseline in (("positional:-1", 0.1), ("positional:+1", 0.1), ("syntactic:nsubj:dep->head", 0.45)):
        for layer in range(layers):
            for head in range(heads):
                score = float(rng.beta(1, 6))
                score = 0.93 if (layer + head) % 5 == len(role) % 5 and layer < 2 else score
                row = {"role": role, "layer": layer, "head": head, "score": score, "report_score": score - 0.01}
                row |= {"baseline": baseline, "low": score - 0.02, "high": score + 0.02, "count": 900}
                rows.append(row | {"selected": score > 0.8})
    return rows


def manifest(rows: dict[str, Rows], task: str, name: str, methods: Iterable[str]) -> dict[str, Any]:
    kinds = {label: ("mask_lrp" if label.startswith("mask_lrp") else label) for label in methods}
    parameters = {label: {"head_mask": f"random({label[-1]})"} if "_random_" in label else {} for label in methods}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "run_id": hashlib.sha256(name.encode()).hexdigest()[:12],
        "run_key": hashlib.sha256(f"key of {name}".encode()).hexdigest(),
        "created": "2026-11-20T10:00:00+00:00",
        "finished": "2026-11-20T10:03:12+00:00",
        "status": "finished",
        "model": {
            "name": "minilm_reviews",
            "id": None,
            "revision": None,
            "fingerprint": "f" * 64,
            "labels": LABELS,
            "task": task,
            "architecture": "BertForSequenceClassification",
            "n_layers": 4,
            "n_heads": 6,
        },
        "dataset": {
            "name": "reviews",
            "split": "test",
            "fingerprint": "d" * 64,
            "n": len(rows["examples"]),
            "notes": ["column text guessed"],
        },
        "environment": {
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
            "device": "cpu",
            "threads": 2,
            "executor": "local",
            "workers": 1,
        },
        "seeds": {"seed": 0, "evaluation": 0},
        "methods": {
            label: {
                "method": kind,
                "params": parameters[label],
                "source": "Abnar & Zuidema 2020",
                "class_blind": kind == "raw_attention",
            }
            for label, kind in kinds.items()
        },
        "timings": {"load_model": 1.2, "identify_heads": 8.0, "attribute": 21.5, "evaluate": 60.0, "report": 1.0},
        "reuse": {"attribute": {"computed": 30, "reused": 10}, "evaluate": {"computed": 0, "reused": 40}},
        "accuracy": 0.9,
        "majority_rate": 0.52,
        "truncated": {"examples": 1, "tokens": 7},
        "failures": [],
        "tracking": {"uri": "sqlite:///outputs/mlflow.db", "run_id": "abc123", "url": None},
    }


def write_run(
    folder: Path, *, task: str = "classification", n: int = 12, seed: int = 0, methods: Iterable[str] = tuple(QUALITY)
) -> Path:
    """Write a run folder of `n` examples and return it."""
    rng = np.random.default_rng(seed)
    qa = task == "question_answering"
    labels, metrics = (
        list(methods),
        ["aopc", "log_odds", *(["answer_recall"] if qa else ["comprehensiveness", "sufficiency"])],
    )
    examples = [example(i, sentence(rng, i), sentence(rng, i) if qa else None, rng) for i in range(n)]
    rows: dict[str, Rows] = {
        "examples": [answerable(row) for row in examples] if qa else examples,
        "heads": head_rows(4, 6),
    }
    rows["predictions"] = [prediction(row, rng) for row in rows["examples"]]
    pairs = [
        (label, row, predicted)
        for label in labels
        for row, predicted in zip(rows["examples"], rows["predictions"], strict=True)
    ]
    rows["attributions"] = [attribution(*pair, rng) for pair in pairs]
    rows["curves"] = [curve(*pair, rng) for pair in pairs]
    rows["values"] = values(rows["curves"], metrics)
    rows["metrics"] = metric_rows(rows["values"])
    return save_run(folder, rows, manifest(rows, task, folder.name, labels))


def save_run(folder: Path, rows: dict[str, Rows], record: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    for table, schema in RUN_TABLES.items():
        pq.write_table(
            pa.Table.from_pylist(rows[table], schema=schema), folder / f"{table}.parquet", compression="zstd"
        )
    record["files"] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))
    }
    (folder / "manifest.json").write_text(json.dumps(record, indent=2))
    config = "seed: 0\ndataset:\n  source: reviews\n  limit: null\nattribution:\n  mask_lrp: mask_lrp\n"
    (folder / "config.yaml").write_text(f"name: {folder.name}\n{config}")
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_run("name", task=..., n=..., seed=..., methods=...)` writes a run folder under `tmp_path/runs`."""
    return lambda name="first", **options: write_run(tmp_path / "runs" / name, **options)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One classification run, not to be changed but for its report."""
    return write_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="session")
def qa_run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One question answering run, not to be changed but for its report."""
    return write_run(tmp_path_factory.mktemp("runs") / "questions", task="question_answering")


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """The environment of a bucket: of HEADLIGHT_TEST_S3=s3://bucket/prefix, else of moto's server, started here."""
    if "HEADLIGHT_TEST_S3" in os.environ:
        yield {"HEADLIGHT_TEST_S3": os.environ["HEADLIGHT_TEST_S3"]}
        return
    script = Path(__file__).parents[1] / "s3_server.py"
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=60).close()
            keys = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_REGION": "us-east-1"}
            yield {"HEADLIGHT_TEST_S3": "s3://bucket/tests", "AWS_ENDPOINT_URL": url, **keys}
        finally:
            server.kill()


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An address in the bucket where nothing is yet."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return f"{s3_environment['HEADLIGHT_TEST_S3']}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds, so tests copy it."""
    root = tmp_path_factory.mktemp("mlflow")
    config = TrackingConfig("sqlite", uri=f"sqlite:///{root / 'mlflow.db'}", experiment="template")
    with Tracker(config, root=root, run_key="template", name="template") as tracker:
        tracker.start()
    return root / "mlflow.db"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium (HEADLIGHT_CHROMIUM, or on the path), driven by playwright; skips where one of them is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = (os.environ.get("HEADLIGHT_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("chromium is not installed (apt-get install chromium), or name it in HEADLIGHT_CHROMIUM")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Path]]:
    """Spoils the first result that a stage writes from now on: `damage(stage)` fills a list with its file."""

    def of(damaged_stage: str) -> list[Path]:
        original, damaged = Store.put, list[Path]()

        def put(store: Store, key: str, table: pa.Table, stage: str) -> StoredFile:
            stored = original(store, key, table, stage)
            if stage == damaged_stage and not damaged:
                damaged.append(Path(store.location, stored.name))
                damaged[0].write_bytes(damaged[0].read_bytes()[:-9] + b"corrupted")
            return stored

        monkeypatch.setattr(Store, "put", put)
        return damaged

    return of
