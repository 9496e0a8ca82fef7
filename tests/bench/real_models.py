"""Writes docs/faithfulness.md: every method on two real models, how faithful beside what it costs.

python tests/bench/real_models.py [FOLDER]    FOLDER keeps the runs, outputs/ unless given; what is there is not redone
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

import torch
from attribution_cost import half_of_the_heads
from processor import processor
from timing import ratio

from attribution import METHODS, Explainer
from pipeline.cli import main
from pipeline.config import ModelConfig
from pipeline.models import resolve_model
from pipeline.runs import Run
from pipeline.sweep.table import Pivot, markdown, pivot, run_rows

PAGE = Path(__file__).parents[2] / "docs" / "faithfulness.md"
TIMED = 4  # texts, the first of each run
LONG = 20.0  # plain forwards from which on one round is timed


@dataclass(frozen=True)
class Experiment:
    """A run that is shown, and what the page says of it."""

    name: str
    heading: str


EXPERIMENTS = (
    Experiment("methods_sst2", "SST-2: 200 development sentences of at least 20 tokens, `minilm-sst2`"),
    Experiment("methods_squad", "English XQuAD: 100 questions, `minilm-squad`, the predicted span"),
)
HEAD = """# How faithful every method is, and what it costs

Written by `make faithfulness` on {machine}. Every method at its defaults, the mean over the texts
with a 95 % bootstrap interval; the metrics at the nine levels of the Mask-LRP paper. `time` is the processor time of
the method by itself in plain forwards of the same texts (median of paired turns, {timed} texts, one thread);
`passes` are forwards and backwards beyond the forward that methods share, at most. Higher is better but for log-odds
and sufficiency. The best mean is bold; means whose intervals overlap say nothing about which method is better.
"""


def write(root: Path) -> None:
    """Run what is missing, measure the costs, and write the page."""
    sections = [_section(experiment, root) for experiment in EXPERIMENTS]
    head = HEAD.format(machine=f"{processor()}, torch {torch.__version__}", timed=TIMED)
    PAGE.write_text("\n".join([head, *sections]), "utf-8")
    print(f"wrote {PAGE}")


def _section(experiment: Experiment, root: Path) -> str:
    code = main(["run", f"experiment={experiment.name}", f"paths.root={root}", "tracking=none"])
    if code:
        raise SystemExit(code)
    run = Run(root / "runs" / experiment.name)
    table = pivot(run_rows(run), "method", "metric")
    explainer = _explainer(run, root)
    entries = run.config["attribution"].items()
    costs = {label: _cost(explainer, run, entry) for label, entry in entries if label in table.rows}
    return f"## {experiment.heading}\n\n{_joined(table, costs)}\n"


def _joined(table: Pivot, costs: Mapping[str, tuple[str, str]]) -> str:
    """The table with the costs behind each method's metrics."""
    head, rule, *rows = markdown(table).splitlines()
    body = [f"{row} {' | '.join(costs[label])} |" for label, row in zip(table.rows, rows, strict=True)]
    return "\n".join([f"{head} time | passes |", f"{rule} --- | --- |", *body])


def _explainer(run: Run, root: Path) -> Explainer:
    model = resolve_model(ModelConfig(**run.config["model"]), root / "models")
    return Explainer.from_pretrained(model.folder, lm_head=None if model.lm_head is None else model.lm_head.folder)


def _cost(explainer: Explainer, run: Run, entry: Mapping[str, Any]) -> tuple[str, str]:
    """Time in plain forwards, and passes, of one entry of the configuration."""
    mask = {"head_mask": half_of_the_heads(explainer)} if METHODS[entry["method"]].needs_heads else {}
    texts = run.table("examples", ["input_ids", "token_type_ids", "special_tokens"])[:TIMED]
    batches = [_inputs(row) for row in texts.to_pylist()]
    work, plain = partial(_explained, explainer, batches, {**entry, **mask}), partial(_plain, explainer, batches)
    rough = ratio("", work, "", plain, rounds=1)
    took = rough if rough.ratios[0] > LONG else ratio("", work, "", plain, rounds=5)
    forwards, backwards = METHODS[entry["method"]].cost
    return f"{took.median:.1f}", f"{forwards} + {backwards}"


def _inputs(row: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """One text as the run encoded it, [1, N]."""
    names = {"input_ids": "input_ids", "token_type_ids": "token_type_ids", "special_tokens": "special_tokens_mask"}
    return {new: torch.tensor([row[name]]).long() for name, new in names.items() if row[name] is not None}


def _explained(explainer: Explainer, batches: list[dict[str, torch.Tensor]], entry: dict[str, Any]) -> None:
    target = "span" if explainer.adapter.is_qa else None
    for batch in batches:
        explainer.scores_many(**batch, methods={"m": entry}, target=target)


def _plain(explainer: Explainer, batches: list[dict[str, torch.Tensor]]) -> None:
    with torch.inference_mode():
        for batch in batches:
            explainer.model(**{name: value for name, value in batch.items() if name != "special_tokens_mask"})


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"))
