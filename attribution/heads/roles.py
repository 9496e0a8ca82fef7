"""The names of head roles, and what counts as a head's answer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from attribution.errors import InputError

POSITIONAL = "positional"
SYNTACTIC = "syntactic"
IMPORTANCE = "importance"
DIRECTIONS = ("dep->head", "head->dep")


def positional_role(offset: int) -> str:
    """`positional:-1` is the head that looks at the previous token: offset = key - query."""
    return f"{POSITIONAL}:{offset:+d}"


def syntactic_role(relation: str, direction: str) -> str:
    """`syntactic:nsubj:dep->head` is the head that looks from a subject to its verb."""
    return f"{SYNTACTIC}:{relation}:{direction}"


def is_share(role: str) -> bool:
    """Whether the score of a role is a share of independent cases; others are means over texts."""
    return role.partition(":")[0] in (POSITIONAL, SYNTACTIC)


def kinds_of(roles: Iterable[str]) -> list[str]:
    """Everything that names a role or several: the roles and their prefixes at colons, in order."""
    kinds: dict[str, None] = {}
    for role in roles:
        parts = role.split(":")
        kinds |= dict.fromkeys(":".join(parts[: end + 1]) for end in range(len(parts)))
    return list(kinds)


def select_roles(roles: Sequence[str], kinds: str | Iterable[str] | None) -> list[str]:
    """The roles that `kinds` name (roles or prefixes of them at a colon); all for None. Unknown kind: InputError."""
    if kinds is None:
        return list(roles)
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    known = kinds_of(roles)
    for kind in wanted:
        if kind not in known:
            raise InputError(_unknown(kind, known))
    return [role for role in roles if any(f"{role}:".startswith(f"{kind}:") for kind in wanted)]


def _unknown(kind: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(kind, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"conf error: heads={kind} is not a kind of head in these scores.{hint} They have: {', '.join(known)}."


def answer(weights: Tensor) -> Tensor:
    """Where each row looks: index of the largest weight [..., N] -> [...], -1 where it is shared or zero.

    A head that attends evenly has no answer; taking the first of equals would make it a positional one.
    """
    largest, index = weights.max(dim=-1)
    unique = (weights == largest.unsqueeze(-1)).sum(dim=-1) == 1
    return torch.where(unique & (largest > 0), index, -1)
