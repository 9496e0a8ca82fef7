"""How much of each method's attribution falls on special tokens and on punctuation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.report.html import Safe, tag

CONTENT, PUNCTUATION, SPECIAL = range(3)
_KINDS = ("words", "punctuation", "special tokens")


def token_kind(piece: str, special: bool) -> int:
    """Of a token as its text spells it."""
    if special:
        return SPECIAL
    word = piece.strip()
    return PUNCTUATION if word and not any(character.isalnum() for character in word) else CONTENT


def kind_shares(
    scores: Sequence[NDArray[np.float64]], kinds: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64] | None:
    """Mean over examples of each kind's share of sum |score|, [3]; None where no example has scores."""
    rows = [
        np.bincount(kind, np.abs(score), minlength=3) / total
        for score, kind in zip(scores, kinds, strict=True)
        if np.isfinite(total := np.abs(score).sum()) and total > 0
    ]
    return np.mean(rows, axis=0) if rows else None


def share_table(shares: Mapping[str, NDArray[np.float64] | None], tokens: NDArray[np.float64]) -> Safe:
    """A stacked bar and the numbers per method; the first row is the share of tokens, for comparison."""
    headings = [
        tag("th", tag("i", class_=f"swatch kind{kind}"), f" {name}", scope="col", class_="number")
        for kind, name in enumerate(_KINDS)
    ]
    head = tag("tr", tag("th", "Method", scope="col"), tag("td"), headings)
    rows = [_row(label, share) for label, share in shares.items() if share is not None]
    first = tag("tbody", _row("share of the tokens", tokens), class_="reference")
    table = tag("table", tag("thead", head), first, tag("tbody", rows), class_="plain shares")
    return tag("div", table, class_="scroll")


def _row(label: str, share: NDArray[np.float64]) -> Safe:
    parts = [tag("i", class_=f"kind{kind}", style=f"width:{100 * part:.1f}%") for kind, part in enumerate(share)]
    numbers = [tag("td", f"{100 * part:.1f} %", class_="number") for part in share]
    return tag(
        "tr", tag("th", label, scope="row"), tag("td", tag("span", parts, class_="bar"), aria_hidden="true"), numbers
    )
