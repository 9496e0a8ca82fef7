"""The experiments of the paper on conservative propagation on stand-ins, against its protocol computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from paper_rows import single
from paper_runs import Protocol, Ran, close, gold, paper_runs

UNK = 1
SAME = {0: 0, 1: 1}
CONSERVING = ["input_x_gradient", "lrp_ah", "lrp_ln", "lrp_ah_ln", "cp_lrp", "attn_lrp"]
LABELS = [
    "random", "raw_attention", "attention_rollout", "grad_rollout", "saliency", *CONSERVING, "integrated_gradients",
]  # fmt: skip
PROTOCOLS = {
    "conservative_lrp": Protocol(
        "textattack/bert-base-uncased-SST-2", ("nyu-mll/glue", "sst2", "validation"),
        lambda: single("sentence", ["negative", "positive"], [8, 3, 19, 12, 1], numbered=True), ("sentence",), SAME,
    ),
    "conservative_lrp_imdb": Protocol(
        "textattack/bert-base-uncased-imdb", ("stanfordnlp/imdb", None, "test"),
        lambda: single("text", ["neg", "pos"], [300, 20, 11]), ("text",), SAME,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ran]]:
    with paper_runs(tmp_path_factory.mktemp("paper"), PROTOCOLS, longest=320) as go:
        yield go


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_checkpoint_the_split_and_the_methods_are_asked_for(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    ((*data, revision),), ((checkpoint, _),) = it.asked
    assert tuple(data) == it.protocol.data
    assert revision
    assert checkpoint == it.manifest["model"]["id"] == it.protocol.checkpoint
    assert it.manifest["name"] == name
    flow = ["attention_flow"] if name == "conservative_lrp" else []  # as in the paper
    assert set(it.manifest["methods"]) == {*LABELS, *flow}


def test_every_sentence_of_sst2_is_taken_and_256_tokens_of_a_review(ran: Callable[..., Ran]) -> None:
    assert len(ran("conservative_lrp").table("examples")) == 5
    lengths = [len(row["input_ids"]) for row in ran("conservative_lrp_imdb").table("examples")]
    assert sorted(lengths) == [13, 22, 256]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_gold_class_is_explained_and_measured(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    assert gold(it) != [row["predicted"] for row in it.table("predictions")]
    for label in LABELS:
        assert [row["target"] for row in it.of("attributions", label)] == gold(it)
        for task in ("activation", "pruning"):
            curves: list[dict[str, Any]] = [row for row in it.of("curves", label) if row["curve"] == task]
            assert [row["target"] for row in curves] == gold(it)
            assert {row["operator"] for row in curves} == {"unk"}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("label", ["random", "raw_attention", "lrp_ah_ln", "attn_lrp"])
def test_areas_are_those_of_the_protocol_in_a_loop(ran: Callable[..., Ran], name: str, label: str) -> None:
    """Tokens revealed and pruned in tenths of all tokens; softmax of the gold class, squared change of all logits."""
    it = ran(name)
    found: dict[str, list[float]] = {}
    for row in it.of("values", label):
        found.setdefault(row["metric"], []).append(row["value"])
    rows = zip(it.table("examples"), it.of("attributions", label), gold(it), strict=True)
    for i, (example, attribution, target) in enumerate(rows):
        ids, scores = example["input_ids"], np.array(attribution["scores"])
        counts = [-(-step * len(ids) // 10) for step in range(11)]
        best, least = np.argsort(-scores, kind="stable"), np.argsort(np.abs(scores), kind="stable")
        shown = [[t if i in best[:k] else UNK for i, t in enumerate(ids)] for k in counts]
        left = [[UNK if i in least[:k] else t for i, t in enumerate(ids)] for k in counts]
        errors = (it.logits(left) - it.logits(ids)).square().sum(1)
        assert shown[-1] == left[0] == ids
        assert close(found["auac"][i], np.trapezoid(it.probabilities(shown)[:, target], dx=0.1))
        assert close(found["aupc"][i], np.trapezoid(it.probabilities(left)[:, target], dx=0.1))
        assert close(found["au_mse"][i], np.trapezoid(errors, dx=0.1))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_sum_of_relevance_is_set_against_the_logit_of_the_gold_class(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    logits = [it.logits(row["input_ids"])[0, c].item() for row, c in zip(it.table("examples"), gold(it), strict=True)]
    rows = {row["method"]: row for row in it.table("conservation")}
    assert set(rows) == set(CONSERVING)
    for label in CONSERVING:
        sums = [sum(row["scores"]) for row in it.of("attributions", label)]
        errors = np.abs(np.subtract(sums, logits)) / np.abs(logits)
        values = [row["value"] for row in it.of("values", label) if row["metric"] == "conservation_error"]
        assert close(values, errors, 1e-4)
        assert close(rows[label]["relative_error"], errors.mean(), 1e-4)
        assert close(rows[label]["slope"], np.polyfit(logits, sums, 1)[0], 1e-3)
        assert close(rows[label]["correlation"], np.corrcoef(logits, sums)[0, 1], 1e-3)
    assert not [row for row in it.of("values", "saliency") if row["metric"] == "conservation_error"]


def test_the_report_draws_both_tasks_and_what_is_conserved(ran: Callable[..., Ran]) -> None:
    page = (ran("conservative_lrp").folder / "report.html").read_text()
    section = page[page.index('id="conservation"') :].split("</section>")[0]
    assert section.count("<figure>") == len(CONSERVING)
    curves = page[page.index('id="curves"') :].split("</section>")[0]
    assert "tokens revealed, most relevant first" in curves
    assert "tokens pruned, least relevant first" in curves
