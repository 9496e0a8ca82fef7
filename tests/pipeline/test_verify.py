"""`headlight verify` passes a run as it was written, and names what was changed behind its back."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from pipeline.cli import main
from pipeline.execution import make_progress
from pipeline.keys import file_digest
from pipeline.run import run
from pipeline.validate import load_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path)
    methods = ["attribution.m.method=mask_lrp", "attribution.o.method=occlusion"]
    asked = [
        *overrides,
        *methods,
        "attribution.l.method=lime",
        "attribution.l.n_samples=8",
        "evaluation.metrics=[gini]",
    ]
    asked += ["evaluation.controls=[]", "heads=all"]
    return run(load_config(asked), asked, make_progress(silent=True)).folder


def change(folder, name, edit):
    """Change a table, and let the manifest agree with it."""
    path = folder / f"{name}.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        edit(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name] = file_digest(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_as_it_was_passes_and_what_was_changed_is_named(folder, capsys):
    assert main(["verify", str(folder), "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["files", "results", "logits", "l", "m", "o"]
    assert all(line.endswith(f"{count} as they should be") for line, count in zip(lines[2:], [2] * 4, strict=True))

    def shift(row):
        if row["method"] == "o":
            row["scores"] = [score + 0.01 for score in row["scores"]]

    change(folder, "attributions", shift)
    (damaged, *_) = sorted(Path("outputs/store/attribute").rglob("*.parquet"))
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    (gone, *_) = sorted(Path("outputs/store/load_model").rglob("*.parquet"))
    gone.unlink()
    (folder / "heads.parquet").write_bytes(b"other")
    assert main(["verify", "last", "-n", "1"]) == 1
    files, results, logits, l, m, o = capsys.readouterr().out.splitlines()  # noqa: E741
    assert "1 of" in files
    assert "heads.parquet is not what was written" in files
    assert f"{damaged.name} is damaged" in results
    assert results.endswith("(1 are no longer in the store)")
    assert damaged.exists()
    assert [logits, m, l] == ["logits: 1 as they should be", "m: 1 as they should be", "l: 1 as they should be"]
    assert o.startswith("o: 1 of 1 wrong: ")
    assert "is off by 0.01" in o


def test_files_alone_need_no_model(folder, tmp_path, capsys):
    for path in (tmp_path / "tiny").iterdir():
        path.unlink()
    change(folder, "predictions", lambda row: None)
    assert main(["verify", str(folder), "-n", "0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["verify", str(folder), "-n", "-1"]) == 4
    assert "-n -1 must be at least 0" in capsys.readouterr().err
