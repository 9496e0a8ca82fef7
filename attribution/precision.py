"""In which precisions of a model a method is offered, and how far its scores may then be from those in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# How far x times g may be from 0 where it is nothing but rounding, as behind a normalisation of the embeddings.
FLOORS = {"float64": 1e-6, "float32": 1e-6, "bfloat16": 8e-3, "float16": 1e-3}


@dataclass(frozen=True)
class Precision:
    """A policy. `tolerances`: precision of the model -> share of the largest score that any score may be off by.

    A precision that is not there is not offered. In float64 it is what stock models allow, which cast to float32 here
    and there. `wide`: what is computed in float32 though the model is not. `why`: why the others are not offered.
    """

    tolerances: Mapping[str, float]
    wide: str = ""
    why: str = ""

    def refusal(self, dtype: str) -> str | None:
        """Why the method is not offered on a model of this precision; None where it is."""
        if dtype in self.tolerances:
            return None
        reason = f": {self.why}" if self.why else ""
        return f"is not offered in {dtype}{reason}. Choose one of {', '.join(self.tolerances)}"

    def allowed(self, dtype: str, largest: float) -> float:
        """How far scores may be off whose largest is this."""
        return self.tolerances[dtype] * largest + FLOORS[dtype]


# Each above what `python tests/bench/precision_error.py` and tiny models of every family show (docs/precision.md).
EXACT = Precision({"float64": 1e-5, "float32": 1e-6, "bfloat16": 1e-6, "float16": 1e-6}, wide="all of it")
READ = Precision(
    {"float64": 1e-5, "float32": 1e-5, "bfloat16": 0.06, "float16": 0.01}, wide="norms, distances and rollouts"
)
BACKWARD = Precision(
    {"float64": 1e-5, "float32": 1e-4, "bfloat16": 0.25, "float16": 0.05},
    wide="what is explained, and attention's softmax",
)
ASKED = Precision(
    {"float64": 1e-5, "float32": 1e-4, "bfloat16": 0.25, "float16": 0.05},
    wide="what is explained, and sums and fits over passes",
)
NEXT_TO_BASELINE = Precision(
    {"float64": 1e-5, "float32": 1e-4, "float16": 0.15},
    wide=ASKED.wide,
    why="normalised embeddings next to the baseline have gradients larger than bfloat16 resolves",
)
MULTIPLIERS = Precision(
    {"float64": 1e-5, "float32": 1e-4, "bfloat16": 0.25},
    wide="what is explained",
    why="differences divided by small differences overflow",
)
POSITIVE_RELEVANCE = Precision(
    {"float64": 1e-5, "float32": 5e-3},
    wide="rollouts",
    why="positive parts that cancel lose all their digits in half precision, and float16 overflows",
)
DECODED = Precision(
    {"float64": 1e-5, "float32": 5e-3},
    wide="the language-model head",
    why="which tokens are among the highest-ranked changes with the rounding of hidden states",
)
