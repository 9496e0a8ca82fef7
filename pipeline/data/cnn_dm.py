"""CNN/DailyMail as documents with summaries: `article` and `highlights` as the library `datasets` has them.

    python -m pipeline.data.cnn_dm cnn_dailymail.jsonl train.jsonl

marks the sentences that an oracle takes, once, so that no run has to. The lines of the source are what
`datasets.load_dataset("abisee/cnn_dailymail", "3.0.0", split="train").to_json("cnn_dailymail.jsonl")` writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attribution.errors import HeadlightError, InputError
from attribution.words import sentences_of
from evaluation.summaries import oracle_sentences
from pipeline.data.local import read_json_lines

BAD_INPUT = 4
FIELDS = ("article", "highlights")


def document_of(record: Mapping[str, Any], where: str = "a record") -> dict[str, Any]:
    """A document as SciTLDR has them: sentences of the article, its highlights as one reference of a line each."""
    if wrong := [name for name in FIELDS if not isinstance(record.get(name), str) or not record[name].strip()]:
        raise InputError(f"conf error: {where}: {wrong[0]} must be a text; CNN/DailyMail has {' and '.join(FIELDS)}.")
    highlights = [line.strip() for line in record["highlights"].splitlines() if line.strip()]
    about = {"id": str(record["id"])} if "id" in record else {}
    return {**about, "sentences": sentences_of(record["article"]), "references": ["\n".join(highlights)]}


def marked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same with 1 for each sentence that an oracle takes, at most three."""
    taken = oracle_sentences(document["sentences"], document["references"])
    return {**document, "oracle": [int(number in taken) for number in range(len(document["sentences"]))]}


def converted(source: Path) -> Iterator[dict[str, Any]]:
    """The documents of a file; one of whose sentences none helps is left out: nothing can be told by it."""
    with source.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{source}: line {number}"
            for record in read_json_lines(line, where):
                document = marked(document_of(record, where))
                if any(document["oracle"]):
                    yield document


def convert(source: Path, target: Path) -> int:
    """Write the documents of a file, and how many they are; the target appears once it is whole."""
    part, count = target.with_name(target.name + ".part"), 0
    with part.open("w", encoding="utf-8") as file:
        for document in converted(source):
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
            count += 1
    part.replace(target)
    return count


def main(arguments: list[str]) -> int:
    """Convert a file, as the command line asks for it."""
    if len(arguments) != 2:
        print("usage: python -m pipeline.data.cnn_dm SOURCE.jsonl TARGET.jsonl", file=sys.stderr)
        return BAD_INPUT
    try:
        print(f"{arguments[1]}: {convert(*map(Path, arguments))} documents")
    except (HeadlightError, OSError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
