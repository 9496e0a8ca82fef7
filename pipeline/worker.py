"""What runs beside a model: it keeps models and tables warm and does one task after another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import pyarrow as pa
import torch
from transformers.utils import logging as transformers_logging

from attribution.decoding.coherence import with_body_of
from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.loading import load_language_model
from attribution.model.inputs import Inputs
from attribution.passes import PassCounts
from evaluation.resampling import Resampler
from pipeline.errors import ResultMissing
from pipeline.execution.task import Part, Task
from pipeline.microbatch import inputs_of
from pipeline.parts import compute_in_parts
from pipeline.stages import process
from pipeline.store import Store

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class ModelRef:
    """Which model a task needs, and how it is to be loaded."""

    folder: str
    fingerprint: str
    dtype: str
    device: str
    lm_head: str | None = None  # folder of the checkpoint that hidden states are decoded with
    shuffled: str | None = None  # folder of the same model trained on shuffled labels

    def load(self) -> Explainer:
        """The model behind an explainer. Workers are quiet: the driver shows the progress."""
        transformers_logging.disable_progress_bar()
        dtype = getattr(torch, self.dtype)
        return Explainer.from_pretrained(self.folder, dtype=dtype, device=self.device, lm_head=self.lm_head)

    def load_resampler(self, mask_id: int) -> Resampler:
        """The masked language model that `lm_head` names, which draws tokens."""
        assert self.lm_head is not None, "a configuration without a language model was let through"
        model, _ = load_language_model(self.lm_head, causal=False, local_files_only=True)
        return Resampler(model.to(device=self.device, dtype=getattr(torch, self.dtype)).eval(), mask_id)


def _fitting(task: Task) -> tuple[Part, ...]:
    """The parts in which a task has to be computed on this worker; none where it can be as a whole."""
    return () if task.fits is None else task.fits.parts(len(task.items), task.payload["shard"].model.device)


@dataclass(frozen=True)
class Shard:
    """A microbatch as a worker gets it: which rows of which examples, at which length, for which model."""

    model: ModelRef
    examples_key: str
    rows: tuple[int, ...]
    length: int
    segment_ids: bool


class Recent(Generic[Kept]):
    """The last few things made, by key."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[Any, Kept] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Kept]) -> Kept:
        """What `key` stands for, made if it is not at hand."""
        if key not in self._held:
            self._held[key] = make()
            if len(self._held) > self._size:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]


@dataclass(frozen=True)
class WorkerSettings:
    """Makes the worker of a process; small, so that it travels."""

    store: str

    def __call__(self) -> StageWorker:
        """The worker."""
        return StageWorker(self)


class StageWorker:
    """Does the tasks of all stages. Results go to the store; what is returned is small."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.passes = PassCounts()  # that the task at hand took for perturbed inputs
        self._explainers: Recent[Explainer] = Recent(2)
        self._resamplers: Recent[Resampler] = Recent(1)
        self._examples: Recent[list[dict[str, Any]]] = Recent(2)
        self._kept: Recent[Any] = Recent(4)

    @cached_property
    def store(self) -> Store:
        """Where results go."""
        return Store(self.settings.store)

    def process(self, task: Task) -> dict[str, Any]:
        """Do one task: {sha256: {key of each result: its digest}, parts: in how many it was computed, passes}."""
        self.passes = PassCounts()
        compute = partial(process, task.stage, task.payload, self)
        if task.items:
            tables, parts = compute_in_parts(compute, task.items, task.parts or _fitting(task))
        else:
            tables, parts = compute(slice(None)), 1
        if task.is_probe():
            return {}
        digests = {key: self.store.put(key, table, task.stage).sha256 for key, table in tables.items()}
        return {"sha256": digests, "parts": parts, "passes": asdict(self.passes)}

    def open(self, shard: Shard, rows: slice) -> tuple[Explainer, list[dict[str, Any]], Inputs]:
        """The model, and some rows of a shard with their inputs [B, length]."""
        explainer, examples = self.explainer(shard.model), self.examples(shard.examples_key, shard.rows[rows])
        pad_id = explainer.adapter.pad_id or 0
        return explainer, examples, inputs_of(examples, shard.length, pad_id, segment_ids=shard.segment_ids)

    def explainer(self, ref: ModelRef) -> Explainer:
        """The model of a task, loaded once."""
        return self._explainers.get(ref, ref.load)

    def resampler(self, ref: ModelRef) -> Resampler:
        """The masked language model beside the model of a task, loaded once."""
        mask_id = self.explainer(ref).adapter.mask_id
        if mask_id is None:
            raise InputError("operator=mlm_resample needs a mask token, and this tokenizer has none")
        return self._resamplers.get(ref, lambda: ref.load_resampler(mask_id))

    def shuffled(self, ref: ModelRef) -> Explainer:
        """The same model trained on shuffled labels."""
        assert ref.shuffled is not None, "a configuration without such a model was let through"
        return self.explainer(replace(ref, folder=ref.shuffled, lm_head=None, shuffled=None))

    def before_tuning(self, ref: ModelRef) -> Explainer:
        """The same model with the body that the head's checkpoint has."""
        assert ref.lm_head is not None
        checkpoint = ref.lm_head
        return self._explainers.get((ref, checkpoint), lambda: with_body_of(self.explainer(ref), checkpoint))

    def examples(self, key: str, rows: tuple[int, ...]) -> list[dict[str, Any]]:
        """Rows of the run's examples table."""
        table = self._examples.get(key, lambda: self.read(key, "examples").to_pylist())
        return [table[row] for row in rows]

    def variant(self, ref: ModelRef, key: Any, make: Callable[[Explainer], Explainer]) -> Explainer:
        """What is made of a model, a random one of its kind say, once."""
        return self._explainers.get((ref, key), lambda: make(self.explainer(ref)))

    def kept(self, key: Any, make: Callable[[], Kept]) -> Kept:
        """What several tasks of a stage read, a treebank say, made once."""
        found: Kept = self._kept.get(key, make)
        return found

    def read(self, key: str, stage: str) -> pa.Table:
        """A table that an earlier stage wrote."""
        table = self.store.get(key, stage)
        if table is None:
            raise ResultMissing(f"the {stage} table {key} is not in {self.store.location}; run again to compute it")
        return table
