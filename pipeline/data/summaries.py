"""Documents with summaries: JSON lines of sentences, references and, where known, the sentences an oracle takes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from attribution.errors import InputError
from pipeline.data.local import read_json_lines, read_text

TEXTS = ("sentences", "references")


class Document(NamedTuple):
    """A document as its sentences. `oracle`: numbers of the sentences that are the best extract, None if not known."""

    id: str
    sentences: tuple[str, ...]
    references: tuple[str, ...]
    oracle: tuple[int, ...] | None


def load_documents(path: str | Path, limit: int | None = None, *, key: str = "dataset.path") -> list[Document]:
    """The first `limit` documents of a file, as SciTLDR has them. `key` is the configuration key that errors name."""
    path, where = Path(path), f"{key}={path}"
    if not path.is_file():
        raise InputError(f"conf error: {where} does not exist or is not a file.")
    records = read_json_lines(read_text(path, where), where)
    found = [_document(record, f"{where}: document {at}", at) for at, record in enumerate(islice(records, limit), 1)]
    if not found:
        raise InputError(f"conf error: {where} holds no documents.")
    return found


def _document(record: dict[str, Any], where: str, number: int) -> Document:
    """Empty sentences, of which SciTLDR has one, are left out."""
    sentences, references = (_texts(record, name, where) for name in TEXTS)
    marks = _marks(record.get("oracle"), len(sentences), where)
    kept = [place for place, sentence in enumerate(sentences) if sentence.strip()]
    oracle = None if marks is None else tuple(at for at, place in enumerate(kept) if marks[place])
    return Document(str(record.get("id", number)), tuple(sentences[place] for place in kept), tuple(references), oracle)


def _texts(record: dict[str, Any], name: str, where: str) -> list[str]:
    value = record.get(name)
    texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if not texts or not any(each.strip() for each in value or ()):
        raise InputError(f"conf error: {where}: {name} must be a list of texts, at least one.")
    return list(value or ())


def _marks(marks: Any, n_sentences: int, where: str) -> list[int] | None:
    """1 for each sentence that the oracle takes, 0 for the others."""
    if marks is None:
        return None
    known = isinstance(marks, list) and set(map(type, marks)) <= {int} and not set(marks) - {0, 1}
    if not known or len(marks) != n_sentences:
        raise InputError(f"conf error: {where}: oracle must be 0 or 1 for each of the {n_sentences} sentences.")
    return list(marks)
