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
    for name in TEXTS:
        value = record.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
            raise InputError(f"conf error: {where}: {name} must be a list of texts, at least one.")
    oracle = _oracle(record.get("oracle"), len(record["sentences"]), where)
    sentences, references = (tuple(record[name]) for name in TEXTS)
    return Document(str(record.get("id", number)), sentences, references, oracle)


def _oracle(marks: Any, n_sentences: int, where: str) -> tuple[int, ...] | None:
    """Numbers of the sentences that are marked by 1."""
    if marks is None:
        return None
    if (
        not isinstance(marks, list)
        or len(marks) != n_sentences
        or not set(map(type, marks)) <= {int}
        or set(marks) - {0, 1}
    ):
        raise InputError(f"conf error: {where}: oracle must be 0 or 1 for each of the {n_sentences} sentences.")
    return tuple(number for number, mark in enumerate(marks) if mark)
