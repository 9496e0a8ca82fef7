"""The experiments of the Mask-LRP paper on stand-ins, against its protocol computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from paper_rows import paired, questions, single
from paper_runs import LONGEST, PAD, SEP, Protocol, Ran, batch_of, close, gold, gold_class, paper_runs
from torch import Tensor

LABELS = [
    "mask_lrp", "mask_lrp_reference", "transformer_attribution", "partial_lrp", "full_lrp", "raw_attention",
    "attention_rollout", "attention_gradcam", "gradcam", "attcat", "random",
    *(f"mask_lrp_random_{i}" for i in range(5)),
]  # fmt: skip
POLARITY = ["negative", "positive"]
ENTAILMENT = ["entailment", "neutral", "contradiction"]
DUPLICATE = ["not_duplicate", "duplicate"]
LENGTHS = [30, 17, 18, 24, 40, 21, 5, 33]  # the second has 19 tokens, the third 20
PAIRS = [30, 16, 17, 24, 40, 21, 5, 33, 26, 28, 36, 22]
ANSWERABLE = [
    (9, 60, [(20, 2), (3, 5)]), (7, 30, [(0, 9)]), (8, 600, [(550, 3), (30, 4)]),
    (250, 300, [(280, 2)]), (6, 40, [(38, 2)]),
]  # fmt: skip
UNANSWERABLE: list[tuple[int, int, list[tuple[int, int]]]] = [(6, 40, []), (9, 25, [])]

GLUE, SAME = "nyu-mll/glue", {0: 0, 1: 1}
CLASSIFICATION = {
    "mask_lrp_sst2": Protocol(
        "textattack/bert-base-uncased-SST-2", (GLUE, "sst2", "validation"),
        lambda: single("sentence", POLARITY, LENGTHS, numbered=True), ("sentence",), SAME,
    ),
    "mask_lrp_imdb": Protocol(
        "textattack/bert-base-uncased-imdb", ("stanfordnlp/imdb", None, "test"),
        lambda: single("text", ["neg", "pos"], [*LENGTHS[1:5], 2 * LONGEST]), ("text",), SAME,
    ),
    "mask_lrp_yelp": Protocol(
        "fabriceyhc/bert-base-uncased-yelp_polarity", ("fancyzhx/yelp_polarity", None, "test"),
        lambda: single("text", ["1", "2"], LENGTHS[1:]), ("text",), SAME,
    ),
    "mask_lrp_mnli": Protocol(
        "textattack/bert-base-uncased-MNLI", (GLUE, "mnli", "validation_matched"),
        lambda: paired("premise", "hypothesis", ENTAILMENT, PAIRS), ("premise", "hypothesis"),
        {0: 1, 1: 2, 2: 0}, least=0.34,
    ),
    "mask_lrp_qqp": Protocol(
        "ModelTC/bert-base-uncased-qqp", (GLUE, "qqp", "validation"),
        lambda: paired("question1", "question2", DUPLICATE, PAIRS), ("question1", "question2"),
        SAME, kept_label=1, least=0.3,
    ),
}  # fmt: skip
ANSWERING = {
    "mask_lrp_squad1": Protocol(
        "csarron/bert-base-uncased-squad-v1", ("rajpurkar/squad", None, "validation"),
        lambda: questions(*ANSWERABLE), ("question", "context"),
    ),
    "mask_lrp_squad2": Protocol(
        "ericRosello/bert-base-uncased-finetuned-squad-frozen-v2", ("rajpurkar/squad_v2", None, "validation"),
        lambda: questions(*ANSWERABLE, *UNANSWERABLE), ("question", "context"),
    ),
}  # fmt: skip
PROTOCOLS = CLASSIFICATION | ANSWERING
THRESHOLDS = {  # of the head search: nsubj, obj, amod, advmod
    "mask_lrp_sst2": (0.46, 0.43, 0.76, 0.72),
    "mask_lrp_imdb": (0.44, 0.44, 0.80, 0.58),
    "mask_lrp_yelp": (0.46, 0.45, 0.82, 0.46),
    "mask_lrp_mnli": (0.49, 0.44, 0.84, 0.56),
    "mask_lrp_qqp": (0.57, 0.41, 0.84, 0.46),
    "mask_lrp_squad1": (0.45, 0.42, 0.75, 0.71),
    "mask_lrp_squad2": (0.45, 0.42, 0.75, 0.71),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ran]]:
    with paper_runs(tmp_path_factory.mktemp("paper"), PROTOCOLS) as go:
        yield go


def expected_rows(it: Ran) -> list[int]:
    """Rows that the filters of a classification experiment leave."""
    texts = [it.ids(row, truncation=True) for row in it.rows]
    return [
        i
        for i, (row, ids) in enumerate(zip(it.rows, texts, strict=True))
        if len(ids) >= 20
        and it.protocol.kept_label in (None, row["label"])
        and it.probabilities(ids)[0, gold_class(it, row)] >= it.protocol.least
    ]


# --- all experiments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_checkpoint_and_the_split_of_the_paper_are_asked_for(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    ((*data, revision),), ((checkpoint, _),) = it.asked
    assert tuple(data) == it.protocol.data
    assert revision
    assert checkpoint == it.manifest["model"]["id"] == it.protocol.checkpoint
    assert it.manifest["name"] == name


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_nine_methods_and_the_controls_are_compared(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    examples = [row["item_id"] for row in it.table("examples")]
    assert set(it.manifest["methods"]) == set(LABELS)
    for label in LABELS:
        assert [row["item_id"] for row in it.of("attributions", label)] == examples
    assert {row["against"] for row in it.of("metrics", "gradcam")} == {None, "random"}
    assert {row["against"] for row in it.of("metrics", "mask_lrp")} == {None, "random", "mask_lrp_random_*"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_heads_pass_the_thresholds_of_the_paper(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    thresholds = dict(zip(("nsubj", "obj", "amod", "advmod"), THRESHOLDS[name], strict=True))
    for head in it.table("heads"):
        kind, role, *_ = head["role"].split(":")
        assert head["selected"] == (head["score"] > (0.8 if kind == "positional" else thresholds[role]))
        rows = 8 * 8 if kind == "positional" else 8  # all tokens: the reference's denominator; an arc a sentence
        assert head["count"] == rows
    selected = {(head["layer"], head["head"]) for head in it.table("heads") if head["selected"]}
    kinds = {head["role"].split(":")[0] for head in it.table("heads") if head["selected"]}
    assert kinds == {"positional", "syntactic"}
    assert set(zip(*np.nonzero(it.manifest["methods"]["mask_lrp"]["head_mask"]), strict=True)) == selected


def test_other_thresholds_find_other_heads(ran: Callable[..., Ran]) -> None:
    def selected(it: Ran) -> set[tuple[str, int, int]]:
        return {(head["role"], head["layer"], head["head"]) for head in it.table("heads") if head["selected"]}

    paper = selected(ran("mask_lrp_sst2"))
    strict = selected(
        ran("mask_lrp_sst2", "heads.thresholds.advmod=1", "dataset.limit=1", "evaluation.bootstrap_samples=10")
    )
    assert strict == {role for role in paper if "advmod" not in role[0]} < paper


@pytest.mark.parametrize("name", ["mask_lrp_mnli", "mask_lrp_squad1"])
def test_predictions_see_separators_and_get_no_segments(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    examples = it.table("examples")
    ids, mask = batch_of(examples)
    segments = torch.nn.utils.rnn.pad_sequence([torch.tensor(e["token_type_ids"]) for e in examples], batch_first=True)

    def predict(hidden: Tensor, **more: Tensor) -> list[Any]:
        output = it.model(input_ids=ids, attention_mask=hidden, **more)
        if it.protocol.classes:
            return list(output.logits.tolist())
        ends = [e.masked_fill(mask == 0, -torch.inf).max(1).values for e in (output.start_logits, output.end_logits)]
        return list(torch.stack(ends, 1).tolist())

    with torch.no_grad():
        found = [row["logits"] for row in it.table("predictions")]
        assert close(found, predict(mask))
        assert not close(found, predict(mask * (ids != SEP)), 1e-3)
        assert not close(found, predict(mask, token_type_ids=segments), 1e-3)


# --- classification -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_filters(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    kept = [example["row_index"] for example in it.table("examples")]
    assert kept == expected_rows(it)
    lengths = {i: len(it.ids(row, truncation=True)) for i, row in enumerate(it.rows)}
    assert min(lengths.values()) < 20 <= min(lengths[i] for i in kept)
    assert any("fewer than dataset.min_tokens=20" in note for note in it.manifest["dataset"]["notes"])


@pytest.mark.parametrize("name", ["mask_lrp_mnli", "mask_lrp_qqp"])
def test_unlikely_gold_classes_are_left_out(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    assert min(row["probabilities"][g] for row, g in zip(it.table("predictions"), gold(it), strict=True)) >= (
        it.protocol.least
    )
    assert any("gold class unlikely" in note for note in it.manifest["dataset"]["notes"])


def test_qqp_keeps_duplicates_alone(ran: Callable[..., Ran]) -> None:
    assert {row["label_name"] for row in ran("mask_lrp_qqp").table("examples")} == {"duplicate"}


def test_long_reviews_are_cut_to_what_the_checkpoint_takes(ran: Callable[..., Ran]) -> None:
    longest = ran("mask_lrp_imdb").table("examples")[-1]
    assert (len(longest["input_ids"]), longest["truncated"]) == (LONGEST, LONGEST + 2)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_the_gold_class_is_explained_and_measured(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    assert [row["label"] for row in it.table("examples")] == gold(it)
    if not it.protocol.least:  # otherwise the gold class may well be the predicted one everywhere
        assert gold(it) != [row["predicted"] for row in it.table("predictions")]
    for label in LABELS:
        assert [row["target"] for row in it.of("attributions", label)] == gold(it)
        assert [row["target"] for row in it.of("curves", label)] == gold(it)


@pytest.mark.parametrize("name", ["mask_lrp_sst2", "mask_lrp_mnli"])
def test_separators_are_hidden_while_explaining(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    ids, mask = batch_of(it.table("examples"))
    heads = {"method": "mask_lrp", "head_mask": it.manifest["methods"]["mask_lrp"]["head_mask"]}
    for label, method in {"mask_lrp": heads, "gradcam": {"method": "gradcam"}, "attcat": {"method": "attcat"}}.items():
        scores = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row["scores"]) for row in it.of("attributions", label)], batch_first=True
        )
        asked = {"target": torch.tensor(gold(it)), **method}
        assert close(scores, it.explainer.scores(ids, mask * (ids != SEP), **asked))
        assert not close(scores, it.explainer.scores(ids, mask, **asked), 1e-4)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_the_best_tokens_are_replaced_by_padding_at_nine_levels(ran: Callable[..., Ran], name: str) -> None:
    """Section 4.1 of the protocol in a loop: the pad id in place, nothing hidden, ninths of all tokens."""
    it = ran(name)
    for label in ("mask_lrp", "attcat", "random"):
        curves = it.of("curves", label)
        assert {row["operator"] for row in curves} == {"pad"}
        rows = zip(it.table("examples"), it.of("attributions", label), curves, gold(it), strict=True)
        for example, attribution, curve, target in rows:
            ids, n = example["input_ids"], len(example["input_ids"])
            order = [i for i in np.argsort(-np.array(attribution["scores"]), kind="stable") if ids[i] not in (2, SEP)]
            counts = np.round(np.linspace(0, 1, 10) * n).astype(int)[1:]
            perturbed = [[PAD if i in order[:k] else token for i, token in enumerate(ids)] for k in counts]
            assert close(curve["probabilities"], it.probabilities(perturbed)[:, target])
            assert close(curve["intact_probability"], it.probabilities(ids)[:, target])
            assert curve["counts"] == [min(k, len(order)) for k in counts]


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_aopc_and_log_odds_are_means_over_levels_and_examples(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    for label in LABELS:
        curves = it.of("curves", label)
        intact = np.array([row["intact_probability"] for row in curves])
        left = np.array([row["probabilities"] for row in curves])
        wanted = {"aopc": (intact - left).mean(), "log_odds": np.log(left / intact).mean()}
        found = {row["metric"]: row["value"] for row in it.of("metrics", label) if row["against"] is None}
        assert found.keys() == wanted.keys()
        assert close([found[metric] for metric in wanted], list(wanted.values()))


# --- question answering ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERING)
def test_only_the_context_is_cut_to_384_tokens(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    cut = [example for example in it.table("examples") if example["truncated"]]
    assert len(cut) == 2
    for example in it.table("examples"):
        asked = [i for i, field in enumerate(example["field_ids"]) if field == 0]
        question = it.tokenizer(it.rows[example["row_index"]]["question"], add_special_tokens=False).input_ids
        assert [example["input_ids"][i] for i in asked] == question
        assert len(example["input_ids"]) == (384 if example in cut else len(it.ids(it.rows[example["row_index"]])))


def test_unanswerable_questions_are_skipped_and_counted(ran: Callable[..., Ran]) -> None:
    it = ran("mask_lrp_squad2")
    assert [example["row_index"] for example in it.table("examples")] == list(range(len(ANSWERABLE)))
    assert any(note.startswith("2 of 7 examples left out: no answer") for note in it.manifest["dataset"]["notes"])
    assert ran("mask_lrp_squad1").manifest["dataset"]["n"] == len(ANSWERABLE)


@pytest.mark.parametrize("name", ANSWERING)
def test_the_predicted_positions_are_explained_with_separators_in_sight(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    predictions, examples = it.table("predictions"), it.table("examples")
    spans = [(row["predicted"], row["predicted_end"]) for row in predictions]
    assert spans != [(example["answer_start"], example["answer_end"]) for example in examples]
    assert [(row["target"], row["target_end"]) for row in it.of("attributions", "gradcam")] == spans
    ids, mask = batch_of(examples)
    scores = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row["scores"]) for row in it.of("attributions", "gradcam")], batch_first=True
    )
    target = torch.tensor(spans)
    assert close(scores, it.explainer.scores(ids, mask, method="gradcam", target=target))
    assert not close(scores, it.explainer.scores(ids, mask * (ids != SEP), method="gradcam", target=target), 1e-4)


@pytest.mark.parametrize("name", ANSWERING)
def test_recall_of_the_gold_answer_among_twenty_of_all_tokens_is_micro(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    examples = it.table("examples")
    answers = [answer_tokens(it, example) for example in examples]
    assert sum(answer is None for answer in answers) == 1  # cut off with the end of its context
    without_specials = False
    for label in LABELS:
        hits, sizes = [], []
        for example, row, answer in zip(examples, it.of("attributions", label), answers, strict=True):
            if answer is not None:
                best = np.argsort(-np.array(row["scores"]), kind="stable")
                hits.append(len(answer & set(best[:20])))
                sizes.append(len(answer))
                inner = [i for i in best if not example["special_tokens"][i]]
                without_specials |= len(answer & set(inner[:20])) != hits[-1]
        (found,) = [row for row in it.of("metrics", label) if row["against"] is None]
        assert (found["metric"], found["n_undefined"]) == ("answer_recall@20", 1)
        assert found["value"] == pytest.approx(sum(hits) / sum(sizes))
    assert len(set(sizes)) > 1  # so that the micro average is not the mean
    assert without_specials  # so that leaving special tokens out would show


def answer_tokens(it: Ran, example: dict[str, Any]) -> set[int] | None:
    """Tokens of the first gold answer that is left."""
    answers = it.rows[example["row_index"]]["answers"]
    inside = [(i, o) for i, o in enumerate(example["offsets"]) if example["field_ids"][i] == 1]
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        if start + len(text) <= inside[-1][1]["end"]:
            return {i for i, o in inside if o["start"] < start + len(text) and o["end"] > start}
    return None
