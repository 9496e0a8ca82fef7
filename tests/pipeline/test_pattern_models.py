"""Models whose heads follow patterns are models like any other to a run."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_models import save_tiny

from attribution.loading import load
from attribution.patterns import PatternFile, inject
from pipeline.config import ModelConfig
from pipeline.models import load_tokenizer, resolve_model

FILE = {
    "schema": 1,
    "patterns": {"match": {"pred": {"same_token": {"casefold": True}}}},
    "inject": {"assign": {"strategy": "per_layer_cycle", "order": ["match"]}},
}


def test_a_run_takes_a_model_with_patterns(tmp_path: Path) -> None:
    plain, tokenizer = load(save_tiny("bert", tmp_path / "plain"), device="cpu")
    changed = inject(plain, tokenizer, PatternFile.read(FILE))
    changed.save_pretrained(tmp_path / "patterns")
    tokenizer.save_pretrained(tmp_path / "patterns")
    found, before = (
        resolve_model(ModelConfig(source="local", path=str(tmp_path / name)), tmp_path, progress=False)
        for name in ("patterns", "plain")
    )
    assert (found.task, found.labels) == (before.task, before.labels)
    assert found.fingerprint != before.fingerprint
    assert len(load_tokenizer(found)) == len(tokenizer)
    ids = torch.randint(5, 20, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load(found.folder, device="cpu")[0](ids).logits, changed(ids).logits)
