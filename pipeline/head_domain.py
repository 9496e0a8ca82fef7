"""Whether roles were found on text like that which is explained: in its language, with its words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from attribution.errors import InputError
from pipeline.config import Config, HeadsConfig
from pipeline.heads import given_path
from pipeline.prepare import Prepared
from pipeline.runs import read_manifest
from pipeline.stages.identify_heads import selecting_corpus

KNOWN_ENOUGH = 0.5  # share of the words of the texts, below which the report warns
SELECTED = "heads were selected on"  # begins the sentence, by which a later run finds it
GRAMMAR = "en"  # the language of the built-in grammar
CODE = re.compile(r"[a-z]{2,3}(-\w+)*")  # en, pt-BR
_UNIVERSAL = re.compile(r"([a-z]{2,3})_\w+-ud-")  # how Universal Dependencies name their files


def head_domain(config: Config, prepared: Prepared) -> str:
    """A sentence for the report: where the trees are from, what share of the texts' words they know, and in what they
    differ, as far as that is known.
    """
    columns = (prepared.whole[name].to_pylist() for name in ("text", "text_b"))
    explained = _words(text or "" for column in columns for text in column)
    known = _words(sentence.text for sentence in selecting_corpus(config.heads).read())
    share = len(explained & known) / max(1, len(explained))
    where = "the built-in grammar" if config.heads.select is None else Path(config.heads.select).name
    told = f"{SELECTED} {where}, which has {share:.0%} of the words of the explained texts"
    return "; ".join([told, *_doubts(tree_language(config.heads), config.dataset.language, share)])


def given_domain(config: Config) -> str | None:
    """The same for heads of an earlier run: what that said of its own texts; None where this run finds its own."""
    path = given_path(config)
    if path is None:
        return None
    said = next((f': "{note}"' for note in _notes(path.parent) if note.startswith(SELECTED)), "")
    return f"heads are those of {config.heads.run}" + (said or ", which does not say on what text they were selected")


def _notes(folder: Path) -> list[str]:
    try:
        notes: list[str] = read_manifest(folder)["dataset"]["notes"]
    except InputError:  # a table of heads may lie anywhere
        return []
    return notes


def tree_language(heads: HeadsConfig) -> str | None:
    """The language of the trees: as declared, as the file is named, or that of the grammar; None: unknown."""
    if heads.language is not None or heads.select is None:
        return heads.language or GRAMMAR
    named = _UNIVERSAL.match(Path(heads.select).name)
    return None if named is None else named[1]


def _doubts(trees: str | None, texts: str | None, share: float) -> Iterator[str]:
    """What speaks against taking what a head does on the trees for what it does on the texts."""
    unknown = [key for key, value in (("heads", trees), ("dataset", texts)) if value is None]
    if trees is not None and texts is not None and _base(trees) != _base(texts):
        yield f"the trees are in language {trees}, the texts in {texts}: heads may do something else on these texts"
        return
    if unknown:
        keys = " and ".join(f"{each}.language" for each in unknown)
        yield f"whether both are in one language is not known ({keys} not given)"
    if share < KNOWN_ENOUGH:
        yield "that is little: where language or domain differ, heads may do something else on these texts"


def _base(language: str) -> str:
    return language.partition("-")[0]


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text.casefold())}
