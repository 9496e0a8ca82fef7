"""The table of docs/patterns.md, from a trained model and real texts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from attribution import Explainer
from attribution.patterns import PatternFile, PatternRelevance, inject, pattern_relevance

FILE = {
    "schema": 1,
    "patterns": {
        "prev": {"pred": {"offset": -1}, "mode": "fix"},
        "next": {"pred": {"offset": 1}, "mode": "fix"},
        "match": {"pred": {"same_token": {"casefold": True, "exclude_types": ["special", "non_alpha"]}}},
        "intra": {"pred": {"same_segment": "sentence"}, "empty": "self"},
    },
    "inject": {"assign": {"strategy": "by_relevance", "most": 2}},
}


@pytest.mark.realdata
@pytest.mark.skipif(not {"HEADLIGHT_DATA", "HEADLIGHT_MODELS"} <= set(os.environ), reason="needs data and models")
def test_the_table_of_the_docs():
    explainer = Explainer.from_pretrained(Path(os.environ["HEADLIGHT_MODELS"], "minilm-sst2"), device="cpu")
    lines = Path(os.environ["HEADLIGHT_DATA"], "sst2", "dev.tsv").read_text().splitlines()[1:41]
    texts = [line.split("\t")[0] for line in lines]
    parts = (texts[start : start + 8] for start in range(0, 40, 8))
    batches = [dict(explainer.tokenizer(part, return_tensors="pt", padding=True)) for part in parts]
    file = PatternFile.read(FILE)
    predicates = {name: pattern.pred for name, pattern in file.patterns.items()}
    found = pattern_relevance(explainer.adapter, batches, predicates)
    print("\n".join(found.describe()))
    assert found.scores.flatten(1).amax(1).tolist() == pytest.approx([0.950, 0.666, 0.032, 0.847], abs=0.001)
    assert found.uniform.tolist() == pytest.approx([0.046, 0.046, 0.005, 0.790], abs=0.001)
    assert found.significant.flatten(1).sum(1).tolist() == [8, 5, 2, 0]
    applicable = PatternRelevance(found.mass, found.random, "applicable")
    assert applicable.scores.flatten(1).amax(1).tolist() == pytest.approx([1.0, 0.7, 0.329, 0.938], abs=0.001)
    changed = inject(explainer.model, explainer.tokenizer, file, relevance=applicable)
    assert len(changed.config.head_patterns["inject"]["assign"]["heads"]) == 6
    with torch.no_grad():
        before, after = (
            torch.cat([model(**batch).logits.softmax(1) for batch in batches[:2]])
            for model in (explainer.model, changed)
        )
    assert (before - after).abs().mean() < 0.006
    assert torch.equal(before.argmax(1), after.argmax(1))
