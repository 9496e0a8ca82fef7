"""How far scores in float32, bfloat16 and float16 are from those in float64, on MiniLM and four sentences.

HEADLIGHT_MODELS=... python tests/bench/precision_error.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from attribution import METHODS, Explainer
from attribution.precision import EXACT

TEXTS = [
    "a gripping film that never lets go of its audience , funny and warm at once",
    "an awful , dull mess of a movie that nobody should have to sit through .",
    "not bad at all , if you can forgive the slow start and the silly ending",
    "the acting is good but the story is a bore from the first minute to the last",
]
FEW = {"n_samples": 8, "n_steps": 8}
DTYPES = ("float32", "bfloat16", "float16")


class Off(NamedTuple):
    """The largest difference as a share of the largest score, by precision; not finite where a score is not."""

    method: str
    shares: dict[str, float]


def errors(folder: Path) -> Iterator[Off]:
    """Of every method, whether its policy offers the precision or not."""
    found = {dtype: _scores(folder, dtype) for dtype in ("float64", *DTYPES)}
    for method, exact in found["float64"].items():
        apart = {dtype: (found[dtype][method].double() - exact).abs().max() for dtype in DTYPES}
        yield Off(method, {dtype: float(each / exact.abs().max()) for dtype, each in apart.items()})


def _scores(folder: Path, dtype: str) -> dict[str, Tensor]:
    explainer = Explainer.from_pretrained(folder, dtype=getattr(torch, dtype), device="cpu")
    assert explainer.tokenizer is not None
    batch = explainer.tokenizer(TEXTS, padding=True, return_tensors="pt")
    scores = {}
    for id, method in METHODS.items():
        spec = {name: value for name, value in FEW.items() if name in method.parameters}
        anywhere = replace(method, own_precision=EXACT)  # offered, whatever its policy says
        scores[id] = explainer.scores_many(
            batch["input_ids"], batch["attention_mask"], token_type_ids=batch["token_type_ids"],
            methods={id: {"method": anywhere, **spec}}, target=1,
        )[id]  # fmt: skip
    return scores


def main() -> None:
    """Print the table."""
    folder = Path(os.environ["HEADLIGHT_MODELS"]) / "minilm-sst2"
    print("| method | " + " | ".join(DTYPES) + " |\n| --- | " + "---: | " * len(DTYPES))
    for off in errors(folder):
        policy = METHODS[off.method].precision
        cells = (f"{off.shares[d]:.1e}" + ("" if d in policy.tolerances else " (not offered)") for d in DTYPES)
        print(f"| `{off.method}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
