"""Head masks by name: the heads found, parts of them, and their controls."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.roles import POSITIONAL, SYNTACTIC
from attribution.heads.scores import HeadScores

CHOICES = (
    "syntactic, positional, both, all, none, relation(nsubj), role(next), top(importance:gate_grad, 0.25), "
    "bottom(entropy, 10), random(seed[, of]), corrupted(rate, seed[, of]), where `of` is one of the first nine and "
    "`both` by default"
)
_KINDS: dict[str, tuple[str, ...]] = {
    "syntactic": (SYNTACTIC,),
    "positional": (POSITIONAL,),
    "both": (POSITIONAL, SYNTACTIC),
}
_NAME, _SIZE = r"[^\s(),]+", r"0?\.\d+|[1-9]\d*"
_FOUND = rf"(?:relation|role)\(\s*{_NAME}\s*\)"
_SCORED = rf"(?:top|bottom)\(\s*{_NAME}\s*,\s*(?:{_SIZE})\s*\)"
_PLAIN = rf"syntactic|positional|both|all|none|{_FOUND}|{_SCORED}"
_BY_SCORE = re.compile(rf"(?P<end>top|bottom)\(\s*(?P<role>{_NAME})\s*,\s*(?P<size>{_SIZE})\s*\)")
_OF = rf"(?:,\s*(?P<of>{_PLAIN})\s*)?"
_RANDOM = re.compile(rf"random\(\s*(?P<seed>\d+)\s*{_OF}\)")
_CORRUPTED = re.compile(rf"corrupted\(\s*(?P<rate>0|1|1\.0|0?\.\d+)\s*,\s*(?P<seed>\d+)\s*{_OF}\)")


def check_spec(spec: str) -> str | None:
    """What is wrong with the spelling of a head mask, or None; whether its heads were found only `head_mask` knows."""
    patterns = (re.compile(_PLAIN), _RANDOM, _CORRUPTED)
    if any(pattern.fullmatch(spec.strip()) for pattern in patterns):
        return None
    return f"conf error: head_mask={spec} is not a head mask. Choose one of: {CHOICES}."


def head_mask(spec: str, scores: HeadScores) -> Tensor:
    """The heads a name stands for, bool [L, H]. A misspelled name, or heads that were not looked for: InputError.

    `role(next)`: the selected heads of a role or kind of roles. `top(role, n)` and `bottom(role, n)`: the heads with
    the largest or smallest scores, selected or not, `n` of them or, below 1, this share. `random(seed, of)` draws, in
    each layer, as many heads as `of` has there, since a head's layer decides what it can do; `corrupted(rate, seed,
    of)` adds a share `rate` of the heads outside `of` (Mask-LRP's ablation, without its double counting).
    """
    spec = spec.strip()
    if problem := check_spec(spec):
        raise InputError(problem)
    if match := _RANDOM.fullmatch(spec):
        return _random(_plain(match["of"] or "both", scores), int(match["seed"]))
    if match := _CORRUPTED.fullmatch(spec):
        return _corrupted(_plain(match["of"] or "both", scores), float(match["rate"]), int(match["seed"]))
    return _plain(spec, scores)


def _plain(spec: str, scores: HeadScores) -> Tensor:
    if spec in ("all", "none"):
        return torch.full(scores.shape, spec == "all")
    if spec in _KINDS:
        return scores.mask(_KINDS[spec])
    if match := _BY_SCORE.fullmatch(spec):
        return _by_score(scores, match["role"], match["size"], largest=match["end"] == "top")
    kind, _, name = spec.removesuffix(")").partition("(")
    return scores.mask(name.strip() if kind == "role" else f"{SYNTACTIC}:{name.strip()}")


def _by_score(scores: HeadScores, role: str, size: str, *, largest: bool) -> Tensor:
    """The heads with the largest or smallest score of one role; of equals the first."""
    if role not in scores.scores:
        known = ", ".join(scores.scores)
        raise InputError(f"conf error: head_mask: {role} is not scored in these heads. They have: {known}.")
    flat = scores.scores[role].flatten()
    if not bool(flat.isfinite().all()):
        raise InputError(f"conf error: head_mask: the scores of {role} are not finite.")
    number = round(float(size) * len(flat)) if "." in size else int(size)
    if number > len(flat):
        raise InputError(f"conf error: head_mask: {number} heads of {role} are asked for, but there are {len(flat)}.")
    order = flat.argsort(descending=largest, stable=True)
    return torch.zeros(len(flat), dtype=torch.bool).index_fill(0, order[:number], True).view(scores.shape)


def _random(mask: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros_like(mask)
    for layer, heads in enumerate(mask):
        drawn[layer, torch.randperm(len(heads), generator=generator)[: int(heads.sum())]] = True
    return drawn


def _corrupted(mask: Tensor, rate: float, seed: int) -> Tensor:
    outside = (~mask).flatten().nonzero().squeeze(1)
    order = torch.randperm(len(outside), generator=torch.Generator().manual_seed(seed))
    corrupted = mask.flatten().clone()
    corrupted[outside[order[: round(len(outside) * rate)]]] = True
    return corrupted.view_as(mask)
