"""The model of an arm: what it is made of, made on a worker, and written as files where it is kept."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase

from attribution.explainer import Explainer
from attribution.patterns.models import inject
from attribution.patterns.schema import PatternFile
from attribution.patterns.students import StudentShape, sentence_scorer_of, sentence_student, student_of
from pipeline.schemas import MODEL_FILES

OWN, SENTENCES = "own", "sentences"  # heads: that of the model of the run, or one that scores sentences


@dataclass(frozen=True)
class Making:
    """How a model is made; `file`: its patterns and their heads as a file has them, None without any."""

    head: str
    shape: StudentShape | None  # None: it begins as the model of the run, but for a head of another kind
    seed: int  # of all that is drawn
    file: Mapping[str, Any] | None


def made(explainer: Explainer, making: Making, begins: PreTrainedModel | None = None) -> PreTrainedModel:
    """The model, on the device of the one it is made from, which stays as it is; `begins`: a trained one that takes
    the place of what would be drawn.
    """
    model = _plain(explainer.model, making) if begins is None else begins.to(explainer.model.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(making.seed)  # of what projected attention is drawn from
        return model if making.file is None else inject(model, explainer.tokenizer, PatternFile.read(making.file))


def _plain(model: PreTrainedModel, making: Making) -> PreTrainedModel:
    if making.head == SENTENCES:
        if making.shape is None:
            return sentence_scorer_of(model, seed=making.seed)
        return sentence_student(model.config, making.shape, seed=making.seed).to(model.device)
    return copy.deepcopy(model) if making.shape is None else student_of(model, making.shape, seed=making.seed)


def sentence_scorer_in(files: pa.Table) -> PreTrainedModel:
    """The scorer of sentences that `files_of` wrote."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in zip(files["name"].to_pylist(), files["data"].to_pylist(), strict=True):
            Path(folder, name).write_bytes(data)
        found: PreTrainedModel = AutoModelForTokenClassification.from_pretrained(folder, use_safetensors=True)
        return found


def files_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> pa.Table:
    """What stock `from_pretrained` reads, as a table of files."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).iterdir() if path.is_file())
        columns = {"name": [path.name for path in files], "data": [path.read_bytes() for path in files]}
        return pa.table(columns, schema=MODEL_FILES)
