"""Whether roles were found on text like that which is explained."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.config import HeadsConfig
from pipeline.prepare import Prepared
from pipeline.stages.identify_heads import CORPORA, SELECT

KNOWN_ENOUGH = 0.5  # share of the words of the texts, below which the report warns


def head_domain(config: HeadsConfig, prepared: Prepared) -> str:
    """A sentence for the report: where the trees are from, and what share of the texts' words they know."""
    corpus = CORPORA[config.source](config)[SELECT]
    assert corpus is not None, "validated: there is something to select on"
    columns = (prepared.whole[name].to_pylist() for name in ("text", "text_b"))
    explained = _words(text or "" for column in columns for text in column)
    share = len(explained & _words(sentence.text for sentence in corpus.read())) / max(1, len(explained))
    where = "the built-in grammar" if config.select is None else Path(config.select).name
    other = "" if share >= KNOWN_ENOUGH else "; if language or domain differ, so may what heads do on these texts"
    return f"heads were selected on {where}, which has {share:.0%} of the words of the explained texts{other}"


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text.casefold())}
