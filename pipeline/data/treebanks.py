"""Dependency trees: CoNLL-U, UD sentences as JSON lines, and the parsed corpora of Mask-LRP (its spec, 1.1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from attribution.errors import InputError
from pipeline.data.local import read_json_lines, read_text


class Sentence(NamedTuple):
    """A sentence and its tree. `heads` are 1-based positions of the governors in `words`, 0 for the root."""

    text: str
    words: list[str]
    heads: list[int]
    deprels: list[str]


def load_treebank(path: str | Path, limit: int | None = None, *, key: str = "heads.select") -> list[Sentence]:
    """The first `limit` sentences of a treebank. `key` is the configuration key that errors name."""
    path = Path(path)
    where = f"{key}={path}"
    if path.suffix.lower() not in READERS:
        raise InputError(f"conf error: {where} must be a treebank ending in one of {', '.join(READERS)}.")
    if not path.is_file():
        raise InputError(f"conf error: {where} does not exist or is not a file.")
    sentences = list(islice(READERS[path.suffix.lower()](read_text(path, where), where), limit))
    if not sentences:
        raise InputError(f"conf error: {where} holds no sentences.")
    for number, sentence in enumerate(sentences, 1):
        _require_tree(sentence, f"{where}: sentence {number}")
    return sentences


def _require_tree(sentence: Sentence, where: str) -> None:
    n = len(sentence.words)
    if not n:
        raise InputError(f"conf error: {where} has no words.")
    if not n == len(sentence.heads) == len(sentence.deprels):
        raise InputError(f"conf error: {where} has {n} words but {len(sentence.heads)} governors.")
    if any(not 0 <= head <= n for head in sentence.heads):
        raise InputError(f"conf error: {where} has a governor outside its {n} words.")


def _conllu(text: str, where: str) -> Iterator[Sentence]:
    lines: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            lines.append(line)
        elif lines:
            yield _conllu_sentence(lines, f"{where}: the sentence before line {number}")
            lines = []


def _conllu_sentence(lines: Sequence[str], where: str) -> Sentence:
    """Syntactic words only: ranges (`1-2`) give the surface text, empty nodes (`1.1`) nothing."""
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    words = [row for row in rows if row[0].isdecimal()]
    comments = (line[1:].partition("=") for line in lines if line.startswith("#"))
    text = next((value.strip() for name, _, value in comments if name.strip() == "text"), None)
    try:
        heads = [int(row[6]) for row in words]
        return Sentence(text or _surface(rows), [row[1] for row in words], heads, [row[7] for row in words])
    except (ValueError, IndexError):
        raise InputError(f"conf error: {where} is not CoNLL-U: ten columns with a governor in the seventh.") from None


def _surface(rows: Sequence[Sequence[str]]) -> str:
    """The text as written, from the forms, the multiword ranges and `SpaceAfter=No`."""
    pieces, covered = [], 0
    for row in rows:
        first, _, last = row[0].partition("-")
        if "." in first or int(first) <= covered:
            continue
        covered = int(last or first)
        pieces.append(row[1] + ("" if "SpaceAfter=No" in row[9] else " "))
    return "".join(pieces).strip()


def _json(text: str, where: str) -> Iterator[Sentence]:
    """JSON lines or one JSON list, of UD sentences or of Mask-LRP's parsed examples."""
    for record in _records(text, where):
        try:
            yield from _record_sentences(record)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"conf error: {where} must hold objects with text, tokens, head and deprel, or with parsed fields "
                f"(lists of words with text, head, deprel): {type(error).__name__} {error}."
            ) from None


def _records(text: str, where: str) -> list[dict[str, Any]]:
    if not text.lstrip().startswith("["):
        return read_json_lines(text, where)
    try:
        records: list[dict[str, Any]] = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"conf error: {where} is not JSON: {error}.") from None
    return records


def _record_sentences(record: Mapping[str, Any]) -> Iterator[Sentence]:
    fields = [name for name in record if "parsed" in name]
    if not fields:
        yield Sentence(record["text"], record["tokens"], list(map(int, record["head"])), record["deprel"])
    for name in fields:
        parsed = record[name]
        flat = bool(parsed) and isinstance(parsed[0], dict)
        yield from _located([parsed] if flat else parsed, _field_text(name, record))


def _field_text(name: str, record: Mapping[str, Any]) -> str:
    """The text that was parsed: `parsed_premise` is of `premise`, `parsed1` of `question1`, `parsed` of the text."""
    stem = name.replace("parsed", "").strip("_")
    usual = (stem, f"question{stem}", f"sentence{stem}") if stem else ("sentence", "text")
    return next((record[key] for key in usual if isinstance(record.get(key), str)), "")


def _located(sentences: Sequence[Sequence[Mapping[str, Any]]], text: str) -> Iterator[Sentence]:
    """Each parsed sentence with its stretch of the text; where words are not found in it, the words with spaces."""
    position = 0
    for parsed in sentences:
        words = [word["text"] for word in parsed]
        span = _find(words, text, position)
        position = span[1] if span else position
        surface = text[slice(*span)] if span else " ".join(words)
        yield Sentence(surface, words, [int(word["head"]) for word in parsed], [word["deprel"] for word in parsed])


def _find(words: Sequence[str], text: str, position: int) -> tuple[int, int] | None:
    """Where the words stand, one after the other with nothing but spaces between, from `position` on."""
    start = None
    for word in words:
        while position < len(text) and text[position].isspace():
            position += 1
        if not text.startswith(word, position):
            return None
        start = position if start is None else start
        position += len(word)
    return None if start is None else (start, position)


READERS: dict[str, Callable[[str, str], Iterator[Sentence]]] = {".conllu": _conllu, ".jsonl": _json, ".json": _json}
