"""Students that score sentences, with patterns and with controls, on SciTLDR: what each reaches, with intervals.

python tests/bench/pattern_arms.py [--train N] [--test N] [--epochs N] [--seeds N] [--patterns FILE]

Reads HEADLIGHT_DATA (scitldr/*.jsonl) and HEADLIGHT_MODELS (minilm-sst2, for its tokenizer and configuration alone).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from attribution.patterns import PatternFile, Tokens, Vocabulary, inject
from attribution.patterns.controls import arms, sparsity
from attribution.patterns.students import StudentShape, sentence_student
from attribution.summaries import Training, encode, score_sentences, train_scorer
from evaluation.injections import compare_arms
from evaluation.summaries import score_summary
from pipeline.data.summaries import Document, load_documents

FILE = {
    "schema": 1,
    "patterns": {
        "match": {"pred": {"same_token": {"casefold": True, "exclude_types": ["special", "non_alpha"]}}},
        "intra": {"pred": {"same_segment": "block"}, "empty": "self"},
        "prev": {"pred": {"offset": -1}, "mode": "fix"},
        "next": {"pred": {"offset": 1}, "mode": "fix"},
    },
    "inject": {
        "target": "student",
        "assign": {"strategy": "per_layer_cycle", "order": ["match", "intra", "prev", "next"]},
    },
}
METRICS = {"rouge1": True, "rouge2": True, "rougeLsum": True, "hit": True, "reciprocal_rank": True}
LONGEST, SHAPE = 256, StudentShape()


def main() -> None:
    """Train every arm with every seed; print what they reached."""
    asked = _asked()
    data = Path(os.environ["HEADLIGHT_DATA"], "scitldr")
    train, test = (load_documents(data / f"{split}.jsonl", getattr(asked, split)) for split in ("train", "test"))
    folder = Path(os.environ["HEADLIGHT_MODELS"], "minilm-sst2")
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    file = PatternFile.load(asked.patterns) if asked.patterns else PatternFile.read(FILE)
    print(f"{len(train)} documents to train on, {len(test)} to test, {asked.epochs} epochs, {SHAPE}")
    _print_sparsity(file, tokenizer, test)
    reached: dict[str, list[np.ndarray]] = {
        "first sentence": [_values([[-i for i in range(99)]] * len(test), test)] * asked.seeds
    }
    for seed in range(asked.seeds):
        for arm, patterns in arms(file, SHAPE.layers, SHAPE.heads, seed).items():
            model = sentence_student(config, SHAPE, seed=seed)
            model = model if patterns is None else inject(model, tokenizer, patterns)
            reached.setdefault(arm, []).append(
                _reached(model, tokenizer, train, test, Training(asked.epochs, max_length=LONGEST, seed=seed), arm)
            )
    found = compare_arms(reached, [document.id for document in test], METRICS)
    print("\n".join(found.lines()))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("train", None), ("test", None), ("epochs", 3), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--patterns")
    return parser.parse_args()


def _print_sparsity(file: PatternFile, tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> None:
    batch = encode(tokenizer, [document.sentences for document in documents[:32]], LONGEST)
    tokens = Tokens(batch.input_ids, batch.attention_mask.bool(), Vocabulary.of(tokenizer))
    print("sparsity:", ", ".join(f"{name} {share:.3f}" for name, share in sparsity(file, tokens).items()))


def _reached(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Sequence[Document], test: Sequence[Document],
    training: Training, arm: str,
) -> np.ndarray:  # fmt: skip
    start = time.perf_counter()
    losses = train_scorer(model, tokenizer, train, training)
    trained = time.perf_counter() - start
    scores = score_sentences(model, tokenizer, [document.sentences for document in test], max_length=LONGEST)
    told = ", ".join(f"{loss:.4f}" for loss in losses)
    print(f"{arm}, seed {training.seed}: {trained:.0f} s of training; losses {told}", flush=True)
    return _values(scores, test)


def _values(scores: Sequence[Sequence[float]], documents: Sequence[Document]) -> np.ndarray:
    """[K, n]: what the best sentence of each document is worth."""
    rows = []
    for row, document in zip(scores, documents, strict=True):
        known = row[: len(document.sentences)]
        found = score_summary(known, document.sentences, document.references, document.oracle or ())
        rows.append([*found.rouge.values(), found.hit, found.reciprocal_rank])
    return np.array(rows).T


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    main()
