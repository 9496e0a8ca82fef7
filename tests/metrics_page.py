"""Writes docs/metrics.md: what an explanation can be measured by, from the registry.

python tests/metrics_page.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from methods_page import _table

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
HEAD = """# Metrics

Written by `python tests/metrics_page.py` from the registry (`evaluation.METRICS`); a test compares. Every metric is a
value per example. `x` is the text, `p` the probability and `f` the logit of what is explained, fixed from the intact
text; for answers of questions the mean over start and end, unless it says joint. Levels `q` are fractions of the tokens
that may be perturbed, rounded up; special tokens never are. Equal scores: the earlier token first. An undefined value
is NaN: it is counted, and left out of means.

`from evaluation import evaluate_all` computes any of them for any methods; all perturbed inputs are run together and
equal ones once, and `Evaluation.passes.saved` says what that saved. Inside of `with explainer.remembering():` methods
that ask the model again share with them, too. Runs (`evaluation.metrics=[...]`) compute those read from curves and
removed sets, of complexity and of plausibility (`evaluation.where_marked=[...]`: only where the data has rationales),
and `answer_recall`; unasked `evaluation=core`. `evaluation.unit=word` and `evaluation.operator=mlm_resample` (tokens
drawn from the masked language model `model.lm_head`) hold for all of them. What sharing saved is printed and is in the
manifest under `forwards`: those of each metric of each method by itself, and those that were run.

What is dear is measured on the first `evaluation.first_examples` (100) alone: the metrics of curves and removed sets
under `evaluation.other_operators=[delete,unk]`, which are called `aopc@delete`, and those of randomisation and
robustness but `dtype_stability`, of the methods that they say anything of: class-blind ones have no `random_logit`,
those that run copies of their own no neighbours, those without a seed no `seed_stability`, and `decoded_layer` no model
of other weights. `label_randomisation` needs a second model, the same one trained on shuffled labels
(`model.shuffled=FOLDER`; `evaluation.randomised.shuffled_labels` shuffles them).

`evaluation.conformance.check_metric` examines a metric, yours as well (entry points of the group `headlight.metrics`):
its range, the same digits alone, in shards, in any order and with more padding, NaN where a score is NaN and nowhere
else, its arguments left alone, and the weights of an additive model ranked above their opposite. All of these metrics
pass (`tests/evaluation/test_metric_conformance.py`). The last is not asked of `monotonicity`, which cannot tell an
additive model's weights from their opposite: each token moves it by its weight in whatever order it comes; nor of
`answer_recall` and `blank_out`, whose answers and importances the kit would have to make up.
"""
CURVES_HEAD = """
## Curves

What the metrics above read; metrics of one family share its inputs. `removed`: the top tokens are taken away, `kept`:
all others.
"""
SETS_HEAD = """
## Removed sets

Sets of tokens that no explanation chooses: run once, they serve all methods.
"""
OPERATORS_HEAD = """
## Operators

`mask` `unk` `pad`: the id is replaced in place, attention stays on. `delete`: the text gets shorter.
`attention_mask_out`: the token stays, and nothing attends to it. `zero_embedding`, `mean_embedding`: its word embedding
is nothing, or that of all words on average. Without a choice `mask` where the model has one, else `delete`. Units are
tokens, words or sentences.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_categories(), CURVES_HEAD, _curves(), SETS_HEAD, _sets(), OPERATORS_HEAD]).rstrip() + "\n"


def _categories() -> Iterator[str]:
    from evaluation.metric import CATEGORIES
    from evaluation.metrics import METRICS
    from evaluation.plugins import ORIGINS

    for category in CATEGORIES:
        ids = sorted(id for id, metric in METRICS.items() if metric.category == category and id not in ORIGINS)
        if ids:
            rows = [("metric", "better", "range", "formula", "needs", "undefined", "source")]
            yield f"\n## {category.capitalize().replace('_', ' ')}\n"
            yield _table([*rows, *(_row(METRICS[id]) for id in ids)])


def _row(metric) -> tuple[str, ...]:
    also = f" ({', '.join(f'`{alias}`' for alias in metric.aliases)})" if metric.aliases else ""
    task = f"; {', '.join(metric.tasks).replace('_', ' ')} alone" if metric.tasks else ""
    needs = [f"{name}: {metric.prepared[name]}" if name in metric.prepared else name for name in metric.needs]
    return (
        f"`{metric.id}`{also}", "↑" if metric.higher_is_better else "↓", _range(*metric.range), metric.formula + task,
        ", ".join(needs), metric.undefined, metric.source,
    )  # fmt: skip


def _range(low: float, high: float) -> str:
    return f"{low:g} to {high:g}".replace("-inf", "-∞").replace("inf", "∞").replace("-", "−")


def _curves() -> str:
    from evaluation import CURVES

    rows = [("family", "levels", "tokens", "order")]
    for family in sorted(CURVES.values(), key=lambda family: family.id):
        levels = "`evaluation.levels`" if family.levels is None else ", ".join(_level(level) for level in family.levels)
        order = getattr(family, "order", "most_relevant_first").replace("_", " ")
        rows.append((f"`{family.id}`", levels, "kept" if family.keep else "removed", order))
    return _table(rows)


def _level(level: float) -> str:
    return f"{level} token" if isinstance(level, int) else f"{level:.0%}"


def _sets() -> str:
    from evaluation import REMOVALS

    rows = [("sets", "of each text")]
    for name, request in sorted(REMOVALS.items()):
        sizes = ", ".join(f"{size:.0%}" for size in request.sizes)
        told = (
            "every unit alone" if name == "leave_one_out" else f"{request.number} random sets of {sizes} of its units"
        )
        rows.append((f"`{name}`", told))
    return _table(rows)


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[1]))
    PAGE.write_text(page(), encoding="utf-8")
