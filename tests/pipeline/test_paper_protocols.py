"""The experiments of the Mask-LRP paper, run whole on stand-ins: rows with the Hub's columns, tiny checkpoints.

What a run leaves behind is compared with the protocol computed anew: from the rows, the tokenizer and the plain model.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Features, List, Value
from tiny_models import SIZE, WORDS, save_tiny
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attribution import Explainer
from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.validate import load_config

PAD, SEP = 0, 3
LONGEST = 96  # tokens the classifiers take; of the real ones 512
LABELS = [
    "mask_lrp", "mask_lrp_reference", "transformer_attribution", "partial_lrp", "full_lrp", "raw_attention",
    "attention_rollout", "attention_gradcam", "gradcam", "attcat", "random",
    *(f"mask_lrp_random_{i}" for i in range(5)),
]  # fmt: skip

# --- rows as the Hub has them ---------------------------------------------------------------------------------------

VOCABULARY = [word for word in WORDS if word.isalpha()]
TEXT, NUMBER = Value("string"), Value("int32")
ANSWERS = {"text": List(TEXT), "answer_start": List(NUMBER)}
SQUAD = Features({"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS})
POLARITY = ["negative", "positive"]
ENTAILMENT = ["entailment", "neutral", "contradiction"]
DUPLICATE = ["not_duplicate", "duplicate"]


def words(n: int, seed: int) -> list[str]:
    """Words the stand-ins have a token for each."""
    return random.Random(seed).choices(VOCABULARY, k=n)


def single(column: str, names: list[str], lengths: list[int], numbered: bool = False) -> datasets.Dataset:
    """Texts of so many words, labelled in turn."""
    texts = {column: [" ".join(words(n, i + 10)) for i, n in enumerate(lengths)]}
    return labelled(texts, names, numbered)


def paired(first: str, second: str, names: list[str], lengths: list[int]) -> datasets.Dataset:
    """Pairs of so many words together, labelled in turn."""
    texts = {
        first: [" ".join(words(n // 2, i)) for i, n in enumerate(lengths)],
        second: [" ".join(words(n - n // 2, i + 100)) for i, n in enumerate(lengths)],
    }
    return labelled(texts, names, numbered=True)


def labelled(texts: dict[str, list[str]], names: list[str], numbered: bool) -> datasets.Dataset:
    n = len(next(iter(texts.values())))
    columns = {**texts, "label": [i % len(names) for i in range(n)], **({"idx": list(range(n))} if numbered else {})}
    features = {**dict.fromkeys(texts, TEXT), "label": ClassLabel(names=names), **({"idx": NUMBER} if numbered else {})}
    return datasets.Dataset.from_dict(columns, features=Features(features))


def questions(*rows: tuple[int, int, list[tuple[int, int]]]) -> datasets.Dataset:
    """Rows of SQuAD from (words of the question, words of the context, [(first word, words) of each answer])."""
    records = []
    for i, (asked, told, answers) in enumerate(rows):
        context = words(told, i)
        starts = [len(" ".join([*context[:at], ""])) for at, _ in answers]
        found = {"text": [" ".join(context[at : at + n]) for at, n in answers], "answer_start": starts}
        question = " ".join(words(asked, i + 50))
        records.append(
            {"id": str(i), "title": "t", "context": " ".join(context), "question": question, "answers": found}
        )
    return datasets.Dataset.from_list(records, features=SQUAD)


LENGTHS = [30, 17, 18, 24, 40, 21, 5, 33]  # the second has 19 tokens, the third 20
PAIRS = [30, 16, 17, 24, 40, 21, 5, 33, 26, 28, 36, 22]
ANSWERABLE = [
    (9, 60, [(20, 2), (3, 5)]), (7, 30, [(0, 9)]), (8, 600, [(550, 3), (30, 4)]),
    (250, 300, [(280, 2)]), (6, 40, [(38, 2)]),
]  # fmt: skip
UNANSWERABLE: list[tuple[int, int, list[tuple[int, int]]]] = [(6, 40, []), (9, 25, [])]


@dataclass(frozen=True)
class Protocol:
    """What the paper did: checkpoint, data, and the thresholds of the head search for nsubj, obj, amod, advmod."""

    checkpoint: str
    data: tuple[str, str | None, str]  # id, subset, split
    thresholds: tuple[float, float, float, float]
    rows: Callable[[], datasets.Dataset]
    texts: tuple[str, ...]  # columns
    classes: dict[int, int] | None = None  # label of the data -> class of the checkpoint
    kept_label: int | None = None
    least: float = 0.0  # probability of the gold class


GLUE, SAME = "nyu-mll/glue", {0: 0, 1: 1}
CLASSIFICATION = {
    "sst2": Protocol(
        "textattack/bert-base-uncased-SST-2", (GLUE, "sst2", "validation"), (0.46, 0.43, 0.76, 0.72),
        lambda: single("sentence", POLARITY, LENGTHS, numbered=True), ("sentence",), SAME,
    ),
    "imdb": Protocol(
        "textattack/bert-base-uncased-imdb", ("stanfordnlp/imdb", None, "test"), (0.44, 0.44, 0.80, 0.58),
        lambda: single("text", ["neg", "pos"], [*LENGTHS[1:5], 2 * LONGEST]), ("text",), SAME,
    ),
    "yelp": Protocol(
        "fabriceyhc/bert-base-uncased-yelp_polarity", ("fancyzhx/yelp_polarity", None, "test"),
        (0.46, 0.45, 0.82, 0.46), lambda: single("text", ["1", "2"], LENGTHS[1:]), ("text",), SAME,
    ),
    "mnli": Protocol(
        "textattack/bert-base-uncased-MNLI", (GLUE, "mnli", "validation_matched"), (0.49, 0.44, 0.84, 0.56),
        lambda: paired("premise", "hypothesis", ENTAILMENT, PAIRS), ("premise", "hypothesis"),
        {0: 1, 1: 2, 2: 0}, least=0.34,
    ),
    "qqp": Protocol(
        "ModelTC/bert-base-uncased-qqp", (GLUE, "qqp", "validation"), (0.57, 0.41, 0.84, 0.46),
        lambda: paired("question1", "question2", DUPLICATE, PAIRS), ("question1", "question2"),
        SAME, kept_label=1, least=0.3,
    ),
}  # fmt: skip
ANSWERING = {
    "squad1": Protocol(
        "csarron/bert-base-uncased-squad-v1", ("rajpurkar/squad", None, "validation"), (0.45, 0.42, 0.75, 0.71),
        lambda: questions(*ANSWERABLE), ("question", "context"),
    ),
    "squad2": Protocol(
        "ericRosello/bert-base-uncased-finetuned-squad-frozen-v2", ("rajpurkar/squad_v2", None, "validation"),
        (0.45, 0.42, 0.75, 0.71), lambda: questions(*ANSWERABLE, *UNANSWERABLE), ("question", "context"),
    ),
}  # fmt: skip
PROTOCOLS = CLASSIFICATION | ANSWERING

# --- the stand-ins --------------------------------------------------------------------------------------------------


def save_checkpoint(folder: Path, n_classes: int | None) -> Path:
    """A tiny BERT whose classes have no names, like the checkpoints of the paper; None: spans."""
    save_tiny("bert", folder)
    positions = 512 if n_classes is None else LONGEST
    config = BertConfig(**{**SIZE, "max_position_embeddings": positions}, num_labels=n_classes or 2)
    torch.manual_seed(13)
    model = BertForQuestionAnswering(config) if n_classes is None else BertForSequenceClassification(config)
    with torch.no_grad():
        list(model.children())[-1].weight *= 5  # opinions, so that some examples pass the filters and some do not
        look_back(model.bert.embeddings, model.bert.encoder.layer[0].attention.self)
    model.eval().save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, model_max_length=positions).save_pretrained(folder)
    return folder


def look_back(embeddings: Any, attention: Any) -> None:
    """Make the first head look at the token before: positions on a circle, and queries a step behind their keys."""
    step = 2 * math.pi / 12
    circle = step * torch.arange(len(embeddings.position_embeddings.weight))
    embeddings.word_embeddings.weight[:, :4] = embeddings.token_type_embeddings.weight[:, :4] = 0
    ends = [2 * circle.cos(), 2 * circle.sin(), -2 * circle.cos(), -2 * circle.sin()]
    embeddings.position_embeddings.weight[:, :4] = torch.stack(ends, 1)
    attention.query.weight[:8] = attention.key.weight[:8] = 0
    attention.key.weight[:2, :2] = torch.eye(2)
    turn = [[math.cos(step), math.sin(step)], [-math.sin(step), math.cos(step)]]
    attention.query.weight[:2, :2] = 5 * torch.tensor(turn)


def write_treebanks(folder: Path) -> None:
    """Trees over the stand-ins' words: what matters is who attends to whom, not what it means."""
    folder.mkdir(parents=True)
    for seed, name in ((200, "dev"), (300, "test")):
        texts = [words(6, seed + i) for i in range(8)]
        tree = {"head": [3, 3, 4, 0, 4, 4], "deprel": ["det", "amod", "nsubj", "root", "obj", "advmod"]}
        lines = [json.dumps({"text": " ".join(text), "tokens": text, **tree}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))


class Hub:
    """Stands in for the Hub: answers with the rows of an experiment and its checkpoint, and keeps what was asked."""

    def __init__(self, root: Path) -> None:
        sizes = {"two": 2, "three": 3, "spans": None}
        self.folders = {name: save_checkpoint(root / name, n) for name, n in sizes.items()}
        self.data: list[tuple[Any, ...]] = []
        self.models: list[tuple[str, str | None]] = []

    def load_dataset(self, path: str, name: str | None = None, *, split: str, revision: str) -> datasets.Dataset:
        self.data.append((path, name, split, revision))
        (protocol,) = [each for each in PROTOCOLS.values() if each.data == (path, name, split)]
        return protocol.rows()

    def snapshot_download(self, repo_id: str, *, revision: str | None = None, **_: Any) -> str:
        self.models.append((repo_id, revision))
        (protocol,) = [each for each in PROTOCOLS.values() if each.checkpoint == repo_id]
        return str(self.folder_of(protocol))

    def folder_of(self, protocol: Protocol) -> Path:
        kind = "spans" if protocol.classes is None else "three" if len(protocol.classes) == 3 else "two"
        return self.folders[kind]


# --- a run, and what it should have found ---------------------------------------------------------------------------


@dataclass(eq=False)
class Ran:
    """A finished run beside its protocol."""

    protocol: Protocol
    folder: Path
    checkpoint: Path
    asked: tuple[list[Any], list[Any]]  # of the Hub: data, models

    @cache  # noqa: B019 - as many runs as there are experiments
    def table(self, name: str) -> list[dict[str, Any]]:
        return list(pq.read_table(self.folder / f"{name}.parquet").to_pylist())

    def of(self, name: str, method: str) -> list[dict[str, Any]]:
        return [row for row in self.table(name) if row["method"] == method]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "manifest.json").read_text()))

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.protocol.rows())

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(self.checkpoint)

    @cached_property
    def model(self) -> PreTrainedModel:
        kind = BertForSequenceClassification if self.protocol.classes else BertForQuestionAnswering
        return kind.from_pretrained(self.checkpoint).eval()

    @cached_property
    def explainer(self) -> Explainer:
        return Explainer.from_pretrained(self.checkpoint)

    def ids(self, row: dict[str, Any], **options: Any) -> list[int]:
        texts = [row[column] for column in self.protocol.texts]
        return list(self.tokenizer(*texts, **options).input_ids)

    @torch.no_grad()
    def probabilities(self, ids: list[list[int]] | list[int]) -> Tensor:
        """Of the plain model: nothing hidden, no segments."""
        batch = torch.tensor(ids if isinstance(ids[0], list) else [ids])
        logits: Tensor = self.model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits
        return logits.softmax(-1)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ran]]:
    """Runs an experiment once, with the changes given."""
    root = tmp_path_factory.mktemp("paper")
    hub = Hub(root / "checkpoints")
    write_treebanks(root / "data" / "ud_ewt")

    @cache
    def go(name: str, *changes: str) -> Ran:
        overrides = [f"experiment=paper/mask_lrp_{name}", "tracking=none", f"paths.root={root / 'outputs'}", *changes]
        hub.data, hub.models = [], []
        result = run(load_config(overrides), overrides, make_progress(silent=True))
        assert result.exit_code == 0
        return Ran(PROTOCOLS[name], result.folder, hub.folder_of(PROTOCOLS[name]), (hub.data, hub.models))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLIGHT_DATA", str(root / "data"))
        patch.setattr(datasets, "load_dataset", hub.load_dataset)
        patch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
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


def gold_class(it: Ran, row: dict[str, Any]) -> int:
    assert it.protocol.classes is not None
    return it.protocol.classes[row["label"]]


def gold(it: Ran) -> list[int]:
    """The gold class of each example of the run."""
    return [gold_class(it, it.rows[example["row_index"]]) for example in it.table("examples")]


def batch_of(examples: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, N], padded on the right."""
    ids = [torch.tensor(example["input_ids"]) for example in examples]
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD), mask


def close(found: Any, wanted: Any, tolerance: float = 1e-5) -> bool:
    return bool(np.allclose(np.asarray(found), np.asarray(wanted), rtol=tolerance, atol=tolerance))


# --- all experiments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_checkpoint_and_the_split_of_the_paper_are_asked_for(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    ((*data, revision),), ((checkpoint, _),) = it.asked
    assert tuple(data) == it.protocol.data
    assert revision
    assert checkpoint == it.manifest["model"]["id"] == it.protocol.checkpoint
    assert it.manifest["name"] == f"mask_lrp_{name}"


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
    thresholds = dict(zip(("nsubj", "obj", "amod", "advmod"), it.protocol.thresholds, strict=True))
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

    paper = selected(ran("sst2"))
    strict = selected(ran("sst2", "heads.thresholds.advmod=1", "dataset.limit=1", "evaluation.bootstrap_samples=10"))
    assert strict == {role for role in paper if "advmod" not in role[0]} < paper


@pytest.mark.parametrize("name", ["mnli", "squad1"])
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


@pytest.mark.parametrize("name", ["mnli", "qqp"])
def test_unlikely_gold_classes_are_left_out(ran: Callable[..., Ran], name: str) -> None:
    it = ran(name)
    assert min(row["probabilities"][g] for row, g in zip(it.table("predictions"), gold(it), strict=True)) >= (
        it.protocol.least
    )
    assert any("gold class unlikely" in note for note in it.manifest["dataset"]["notes"])


def test_qqp_keeps_duplicates_alone(ran: Callable[..., Ran]) -> None:
    assert {row["label_name"] for row in ran("qqp").table("examples")} == {"duplicate"}


def test_long_reviews_are_cut_to_what_the_checkpoint_takes(ran: Callable[..., Ran]) -> None:
    longest = ran("imdb").table("examples")[-1]
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


@pytest.mark.parametrize("name", ["sst2", "mnli"])
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
    it = ran("squad2")
    assert [example["row_index"] for example in it.table("examples")] == list(range(len(ANSWERABLE)))
    assert any(note.startswith("2 of 7 examples left out: no answer") for note in it.manifest["dataset"]["notes"])
    assert ran("squad1").manifest["dataset"]["n"] == len(ANSWERABLE)


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
