"""Rows of tiny models for tests of importance."""

from __future__ import annotations

import torch


def batch(rows: int = 5, length: int = 9, *, seed: int = 3, labels: int | None = 2) -> dict[str, torch.Tensor]:
    """Random ids with padding in two of five rows."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 90, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1::3, length - 3 :] = 0
    found = {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}
    return found if labels is None else {**found, "labels": torch.arange(rows) % labels}


def split(given: dict[str, torch.Tensor], *sizes: int) -> list[dict[str, torch.Tensor]]:
    """The same rows in batches of these sizes."""
    parts = {name: value.split(list(sizes)) for name, value in given.items()}
    return [{name: value[i] for name, value in parts.items()} for i in range(len(sizes))]
