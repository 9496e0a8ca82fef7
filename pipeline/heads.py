"""The heads of a run, and the head masks its methods name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from attribution.errors import InputError
from attribution.heads import HeadScores, merge
from attribution.heads.masks import head_mask
from attribution.heads.roles import IMPORTANCE
from attribution.methods.registry import METHODS
from pipeline.config import Config
from pipeline.models import ResolvedModel
from pipeline.runs import resolve_run
from pipeline.stages.identify_heads import CORPORA


def given_heads(config: Config) -> HeadScores | None:
    """Heads of an earlier run or file; None where this run finds its own, or takes all."""
    if config.heads.source != "run" or not config.heads.run:
        return None
    path = Path(config.heads.run)
    if path.suffix != ".parquet":
        path = resolve_run(config.heads.run, Path(config.paths.runs)) / "heads.parquet"
    if not path.is_file():
        raise InputError(f"conf error: heads.run={config.heads.run}: {path} does not exist.")
    return HeadScores.load(path)


def check_masks(config: Config, heads: HeadScores | None, model: ResolvedModel) -> None:
    """InputError for heads or masks that do not fit the model; names of heads yet to be found are left for later."""
    if heads is not None and heads.shape != (model.n_layers, model.n_heads):
        raise InputError(
            f"conf error: heads.run={config.heads.run} has heads of a model with {list(heads.shape)} (layers, heads); "
            f"model {model.name} has [{model.n_layers}, {model.n_heads}]. Name a run of it, or use heads=grammar."
        )
    to_be_found, named = config.heads.source in CORPORA, _named(config, heads, model)
    for label, entry in config.attribution.items():
        if not (to_be_found and isinstance(entry.get("head_mask"), str)):
            _resolved(label, entry, named, model)


def _named(config: Config, heads: HeadScores | None, model: ResolvedModel) -> HeadScores | None:
    """The heads given, and importances that are yet to be found, with the names that a mask may have."""
    roles = [f"{IMPORTANCE}:{label}" for label in config.heads.importance]
    if not roles:
        return heads
    zeros = torch.zeros(model.n_layers, model.n_heads)
    counts, baselines = dict.fromkeys(roles, 0), dict.fromkeys(roles, float("nan"))
    own = HeadScores(
        dict.fromkeys(roles, zeros), baselines, counts, dict.fromkeys(roles, zeros.bool()), dict.fromkeys(roles)
    )
    return own if heads is None else merge(heads, own)


def resolved_methods(
    methods: Mapping[str, Any], heads: HeadScores | None, model: ResolvedModel
) -> dict[str, dict[str, Any]]:
    """{label: {method, every parameter}} with head masks as lists of 0 and 1 [L][H]."""
    return {label: _resolved(label, entry, heads, model) for label, entry in methods.items()}


def _resolved(label: str, entry: Mapping[str, Any], heads: HeadScores | None, model: ResolvedModel) -> dict[str, Any]:
    method = METHODS[entry["method"]]
    full = {"method": method.id, **method.parameters, **entry}
    if isinstance(spec := full.get("head_mask"), str):
        full["head_mask"] = _mask(label, spec, heads, model)
    elif spec is not None:
        _check_shape(label, spec, model)
    return full


def _mask(label: str, spec: str, heads: HeadScores | None, model: ResolvedModel) -> list[list[int]] | None:
    if heads is None:
        if spec in ("all", "none"):
            return torch.full((model.n_layers, model.n_heads), int(spec == "all")).tolist()
        raise InputError(
            f"conf error: attribution.{label}.head_mask={spec} needs heads, but heads.source=all finds none; "
            "choose heads=grammar, heads=treebank or heads=run."
        )
    mask: list[list[int]] = head_mask(spec, heads).int().tolist()
    return mask


def _check_shape(label: str, mask: Any, model: ResolvedModel) -> None:
    try:
        shape = list(torch.tensor(mask).shape)
    except (TypeError, ValueError) as error:
        raise InputError(f"conf error: attribution.{label}.head_mask is not a table of numbers: {error}") from error
    if shape != [model.n_layers, model.n_heads]:
        raise InputError(
            f"conf error: attribution.{label}.head_mask has shape {shape}; "
            f"model {model.name} needs [{model.n_layers}, {model.n_heads}] (layers, heads)."
        )
