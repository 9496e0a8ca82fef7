"""What a fresh computation is: the same experiment with other seeds, and other examples where both sides can be run."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from attribution.methods.registry import METHODS
from pipeline.config import Config
from pipeline.regression.compare import Departure

_SEEDED = (  # head masks that are drawn; group 2 is the seed
    re.compile(r"(random\(\s*)(\d+)(.*)"),
    re.compile(r"(corrupted\([^,]+,\s*)(\d+)(.*)"),
)


def fresh_config(config: Config, offset: int, skip: int = 0) -> Config:
    """The experiment with `offset` added to every seed it has, and `skip` more examples passed over."""
    fresh = copy.deepcopy(config)
    fresh.seed += offset
    fresh.evaluation.seed += offset
    fresh.dataset.skip += skip
    fresh.attribution = {label: _reseeded(entry, offset) for label, entry in fresh.attribution.items()}
    fresh.tracking = replace(fresh.tracking, store="none")
    return fresh


def _reseeded(entry: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """A method's parameters with another seed, where it or its head mask has one."""
    reseeded, defaults = dict(entry), METHODS[entry["method"]].parameters
    if "seed" in defaults:
        reseeded["seed"] = entry.get("seed", defaults["seed"]) + offset
    if isinstance(mask := entry.get("head_mask"), str):
        for pattern in _SEEDED:
            mask = pattern.sub(lambda found: f"{found[1]}{int(found[2]) + offset}{found[3]}", mask)
        reseeded["head_mask"] = mask
    return reseeded


def can_resample(differences: Collection[Departure]) -> bool:
    """Whether the champion can be computed here as it was: by this code and these versions, on such a device."""
    return not [found for found in differences if found.kind not in ("model", "machine")]


def fresh_examples(config: Config, number: int) -> int:
    """How many examples round `number`, from 0, passes over to reach unseen ones; 0 without a limit."""
    return (config.dataset.limit or 0) * (number + 1)


def of_the_night(config: Config, name: str, store: str) -> Config:
    """The experiment as a night runs it: under its own name, computing everything anew, without secrets."""
    series = config.regression.series or config.name
    settings = replace(config.regression, series=series, webhook=None)
    return replace(config, name=name, paths=replace(config.paths, store=store), regression=settings)
