"""A result together with its text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from attribution.rendering import render_html


@dataclass(frozen=True)
class Explanation:
    """Scores of one text's tokens (or words) for one target.

    tokens, word_ids, offsets, scores have one entry per shown unit; special tokens have word id -1. Offsets are
    characters (start, end) in the text, or the second text, the token belongs to. target, prediction: class, label,
    start and end of an answer, or token id. probabilities: of every class; of start and end; or of the predicted and
    the explained token.
    """

    text: str
    tokens: list[str]
    word_ids: list[int]
    offsets: list[tuple[int, int]]
    scores: list[float]
    method: str
    params: dict[str, Any]
    target: int | tuple[int, int]
    prediction: int | tuple[int, int]
    probabilities: list[float]
    text_b: str | None = None
    n_tokens: int = 0  # explained, special ones counted
    truncated: int = 0  # that were cut off
    windows: int = 1  # in which a long text was explained
    problem: str | None = None  # what is wrong with scores that are not finite, and where that began

    @property
    def truncated_share(self) -> float:
        """The share of the text's tokens that was cut off, special ones counted."""
        return self.truncated / (self.truncated + self.n_tokens) if self.truncated else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON."""
        return asdict(self)

    def to_html(self) -> str:
        """A complete page with the coloured text; everything from the text is escaped."""
        subtitle = f"target {self.target}, prediction {self.prediction}"
        return render_html(self.tokens, self.scores, title=self.method, subtitle=subtitle)
