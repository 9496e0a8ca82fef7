"""Experiments of papers run whole on stand-ins: rows with the Hub's columns, tiny checkpoints.

What a run leaves behind is there to be compared with its protocol computed anew: from the rows, the tokenizer and the
plain model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from paper_rows import words
from tiny_models import SIZE, save_tiny
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


@dataclass(frozen=True)
class Protocol:
    """What a paper did: checkpoint and data, and which of its rows it used."""

    checkpoint: str
    data: tuple[str, str | None, str]  # id, subset, split
    rows: Callable[[], datasets.Dataset]
    texts: tuple[str, ...]  # columns
    classes: dict[int, int] | None = None  # label of the data -> class of the checkpoint
    kept_label: int | None = None
    least: float = 0.0  # probability of the gold class


def save_checkpoint(folder: Path, n_classes: int | None, longest: int = LONGEST) -> Path:
    """A tiny BERT whose classes have no names, like the checkpoints of the paper; None: spans."""
    save_tiny("bert", folder)
    positions = 512 if n_classes is None else longest
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

    def __init__(self, root: Path, protocols: Mapping[str, Protocol], longest: int) -> None:
        self.protocols = list(protocols.values())
        sizes = {"two": 2, "three": 3, "spans": None}
        self.folders = {name: save_checkpoint(root / name, n, longest) for name, n in sizes.items()}
        self.data: list[tuple[Any, ...]] = []
        self.models: list[tuple[str, str | None]] = []

    def load_dataset(self, path: str, name: str | None = None, *, split: str, revision: str) -> datasets.Dataset:
        self.data.append((path, name, split, revision))
        (protocol,) = [each for each in self.protocols if each.data == (path, name, split)]
        return protocol.rows()

    def snapshot_download(self, repo_id: str, *, revision: str | None = None, **_: Any) -> str:
        self.models.append((repo_id, revision))
        (protocol,) = [each for each in self.protocols if each.checkpoint == repo_id]
        return str(self.folder_of(protocol))

    def folder_of(self, protocol: Protocol) -> Path:
        kind = "spans" if protocol.classes is None else "three" if len(protocol.classes) == 3 else "two"
        return self.folders[kind]


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
    def logits(self, ids: list[list[int]] | list[int]) -> Tensor:
        """Of the plain model: nothing hidden, no segments."""
        batch = torch.tensor(ids if isinstance(ids[0], list) else [ids])
        logits: Tensor = self.model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits
        return logits

    def probabilities(self, ids: list[list[int]] | list[int]) -> Tensor:
        """Of the plain model, too."""
        return self.logits(ids).softmax(-1)


@contextmanager
def paper_runs(root: Path, protocols: Mapping[str, Protocol], longest: int = LONGEST) -> Iterator[Callable[..., Ran]]:
    """Runs an experiment `paper/...` once, with the changes given."""
    hub = Hub(root / "checkpoints", protocols, longest)
    write_treebanks(root / "data" / "ud_ewt")

    @cache
    def go(name: str, *changes: str) -> Ran:
        overrides = [f"experiment=paper/{name}", "tracking=none", f"paths.root={root / 'outputs'}", *changes]
        hub.data, hub.models = [], []
        result = run(load_config(overrides), overrides, make_progress(silent=True))
        assert result.exit_code == 0
        return Ran(protocols[name], result.folder, hub.folder_of(protocols[name]), (hub.data, hub.models))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLIGHT_DATA", str(root / "data"))
        patch.setattr(datasets, "load_dataset", hub.load_dataset)
        patch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
        yield go


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
