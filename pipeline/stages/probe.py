"""Probe hidden states of one layer for the class, by online coding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import torch

from evaluation.probing import ProbeRecipe, probe_code
from pipeline.execution.task import Task
from pipeline.schemas import PROBES
from pipeline.stages.represent import STAGE as REPRESENT
from pipeline.stages.setting import Setting
from pipeline.worker import StageWorker

STAGE = "probe"


def task_of(
    setting: Setting, layer: int, states: Sequence[str], labels: Mapping[str, int], form: str, seed: int
) -> Task:
    """The task that probes one layer; labels by item, in the order in which they are drawn from."""
    content = {"layer": layer, "states": tuple(states), "labels": dict(labels), "form": form, "seed": seed}
    key = setting.key(STAGE, recipe=asdict(ProbeRecipe(seed=seed)), **content)
    return Task(key, STAGE, {"key": key, **content}, weight=len(labels), results=(key,))


def process(
    *,
    worker: StageWorker,
    rows: slice,
    key: str,
    layer: int,
    states: tuple[str, ...],
    labels: dict[str, int],
    form: str,
    seed: int,
) -> dict[str, pa.Table]:
    """Probe one layer; it has no rows to be divided into."""
    found = pa.concat_tables(worker.read(each, REPRESENT) for each in states)
    by_item = dict(zip(found["item_id"].to_pylist(), found["state"].to_pylist(), strict=True))
    matrix = torch.from_numpy(np.array([by_item[item] for item in labels], dtype=np.float32))
    classes = torch.tensor(list(labels.values()))
    code = probe_code(matrix, classes, n_classes=2, form=form, recipe=ProbeRecipe(seed=seed))
    row = {"layer": layer, "form": form, "n": code.n, "length": code.length, "compression": code.compression}
    return {key: pa.Table.from_pylist([row], schema=PROBES)}
