"""Data sets in a file: tsv, csv, jsonl, parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data.agreement import read_agreement
from pipeline.data.cells import Content, Source, read_examples
from pipeline.data.marked_words import read_marked_words, read_sentiment_trees

FORMS: dict[str, Callable[[Source, DatasetConfig], Content]] = {
    "texts": read_examples,
    "agreement": read_agreement,
    "marked_words": read_marked_words,
    "sentiment_trees": read_sentiment_trees,
}
Columns = Mapping[str, Sequence[Any]]  # name -> cells, all of one length


def load_local(config: DatasetConfig) -> Content:
    """The examples of `dataset.path`."""
    if not config.path:
        raise InputError("conf error: dataset=local needs dataset.path=<file>, one of " + ", ".join(READERS) + ".")
    path = Path(config.path)
    where = f"dataset.path={config.path}"
    columns = _reader(path, where)(path, where)
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(f"conf error: {where} has no rows.")
    return FORMS[config.form](Source(path.stem, where, list(columns), columns.__getitem__), config)


def read_text(path: Path, where: str) -> str:
    """The file as UTF-8, without a byte order mark. Names the first byte that is not."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"conf error: {where} is not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start}; "
            f"convert it, e.g. iconv -f latin1 -t utf-8."
        ) from None
    except OSError as error:
        raise InputError(f"conf error: {where} cannot be read: {error.strerror}.") from None


def read_json_lines(text: str, where: str) -> list[dict[str, Any]]:
    """One object a line; empty lines are skipped."""
    return [_object(line, number, where) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _reader(path: Path, where: str) -> Callable[[Path, str], Columns]:
    if path.suffix.lower() not in READERS:
        raise InputError(f"conf error: {where} must end in one of {', '.join(READERS)}.")
    if not path.is_file():
        raise InputError(f"conf error: {where} does not exist or is not a file.")
    return READERS[path.suffix.lower()]


def _read_tsv(path: Path, where: str) -> Columns:
    """A header and tabs; quotes are ordinary characters, as in the GLUE files."""
    lines = [line.rstrip("\r") for line in read_text(path, where).split("\n")]
    return _table([line.split("\t") for line in lines if line], where)


def _read_csv(path: Path, where: str) -> Columns:
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long document
    try:
        return _table(
            [row for row in csv.reader(io.StringIO(read_text(path, where), newline=""), strict=True) if row], where
        )
    except csv.Error as error:
        raise InputError(f"conf error: {where} is not readable as csv: {error}.") from None


def _table(rows: Sequence[Sequence[str]], where: str) -> Columns:
    """Columns from a header row and the rows below it."""
    if not rows:
        return {}
    header, body = rows[0], rows[1:]
    for number, row in enumerate(body, 1):
        if len(row) != len(header):
            raise InputError(
                f"conf error: {where}: row {number} has {len(row)} cells, "
                f"the header {len(header)}: {', '.join(header)}."
            )
    return {name: [row[i] for row in body] for i, name in enumerate(header)}


def _read_jsonl(path: Path, where: str) -> Columns:
    records = read_json_lines(read_text(path, where), where)
    names: Iterable[str] = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _object(line: str, number: int, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"conf error: {where}: line {number} is not JSON: {error.msg} at column {error.colno}."
        ) from None
    if not isinstance(record, dict):
        raise InputError(f"conf error: {where}: line {number} must be a JSON object, not {type(record).__name__}.")
    return record


def _read_parquet(path: Path, where: str) -> Columns:
    try:
        columns: Columns = pq.read_table(path).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"conf error: {where} is not a readable parquet file: {str(error).splitlines()[0]}") from None
    return columns


READERS: dict[str, Callable[[Path, str], Columns]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
