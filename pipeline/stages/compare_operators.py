"""Perturb and predict again under another operator: some examples of a microbatch, by scores that are there."""

from __future__ import annotations

from pipeline.stages import evaluate

STAGE = "compare_operators"

process = evaluate.process
