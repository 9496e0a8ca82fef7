"""Pattern files, documents and runs with them, for tests."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import yaml

from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.validate import load_config

FILE = {
    "schema": 1,
    "patterns": {
        "match": {"pred": {"same_token": {"casefold": True}}},
        "prev": {"pred": {"offset": -1}, "mode": "fix", "why": "looks back"},
    },
    "inject": {"target": "in_place", "assign": {"strategy": "map", "heads": {"0.1": "prev", "1.0": "match"}}},
}
STUDENT = {"target": "student", "assign": {"strategy": "per_layer_cycle", "order": ["match", "prev"]}}
WORDS = ("the", "film", "was", "good", "and", "meal", "awful", "hotel", "not", "bright", "book", "never", "dull")


def write_patterns(folder, **changes):
    path = folder / "patterns.yaml"
    file = {key: value for key, value in {**FILE, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(file))
    return path


def write_documents(folder, name, count, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        sentences = [" ".join(rng.choice(WORDS, 5)) + " ." for _ in range(3)]
        best = int(rng.integers(3))
        marks = [int(place == best) for place in range(3)]
        rows.append({"sentences": sentences, "references": [sentences[best]], "oracle": marks})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def go(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True))


def table(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()
