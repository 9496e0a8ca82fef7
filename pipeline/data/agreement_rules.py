"""Number agreement in BLiMP: which word agrees with what, found by rules that need no parser.

The five paradigms are made from templates, so that the place of the cue follows from the words. Running this module
writes the cues of a BLiMP file to `agreement.tsv` beside it, from which everybody else reads them:

    python -m pipeline.data.agreement_rules agreement.jsonl
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CUES = Path(__file__).with_name("agreement.tsv")
COLUMNS = ("paradigm", "pair", "target", "cues", "number", "split", "check")
NUMBERS = ("singular", "plural")
SPLIT_SEED = 12  # that of the Value Zeroing code, whose shuffle is of other examples: its halves are not these

DETERMINERS = {
    "a",
    "an",
    "the",
    "this",
    "that",
    "these",
    "those",
    "some",
    "all",
    "every",
    "each",
    "most",
    "many",
    "few",
}
PREPOSITIONS = ("of", "about")  # behind the noun that a distractor is attached to
IRREGULAR = {"won't": ("will", "not"), "can't": ("can", "not")}
PLURAL = {"themselves", "these", "those", "are", "were", "have", "do"}
SINGULAR = {"himself", "herself", "itself", "this", "that", "is", "was", "has", "does"}


@dataclass(frozen=True)
class Pair:
    """A minimal pair word by word, contractions taken apart and without the full stop. Positions are words."""

    good: tuple[str, ...]
    bad: tuple[str, ...]

    @classmethod
    def of(cls, good: str, bad: str) -> Pair:
        """From two sentences."""
        return cls(tuple(words_of(good)), tuple(words_of(bad)))

    @property
    def target(self) -> int | None:
        """The only word in which the two differ; None where it is not one."""
        if len(self.good) != len(self.bad):
            return None
        different = [i for i, (a, b) in enumerate(zip(self.good, self.bad, strict=True)) if a != b]
        return different[0] if len(different) == 1 else None


def words_of(sentence: str) -> list[str]:
    """The words, `isn't` as `is not`; the full stop is left out."""
    words: list[str] = []
    for word in sentence.rstrip(".").split():
        words += IRREGULAR.get(word, (word[:-3], "not") if word.endswith("n't") else (word,))
    return words


def sentence_of(words: Sequence[str]) -> str:
    """The sentence of words taken apart, as models read it."""
    return " ".join(words) + "."


def subject_of_anaphor(words: Sequence[str], target: int) -> tuple[int, ...]:
    """All words of the subject, which the anaphor stands for: a name, or a noun behind its determiner."""
    lower = [word.lower() for word in words]
    start = 3 if lower[:3] == ["a", "lot", "of"] else int(lower[0] in DETERMINERS)
    last = start + 1 if lower[start + 1] == "university" else start  # Harvard University
    return tuple(range(last + 1))


def noun_of_determiner(words: Sequence[str], target: int) -> tuple[int, ...]:
    """The noun, which ends the sentence; adjectives and the first words of compounds stand before it."""
    return (len(words) - 1,)


def noun_before_distractor(words: Sequence[str], target: int) -> tuple[int, ...]:
    """The noun before the first preposition, at which the distractor begins."""
    return (min(i for i, word in enumerate(words[:target]) if i and word in PREPOSITIONS) - 1,)


def noun_before_verb(words: Sequence[str], target: int) -> tuple[int, ...]:
    """The last word of the subject, which the verb follows at once."""
    return (target - 1,)


@dataclass(frozen=True)
class Paradigm:
    """A paradigm's short name, as in the Value Zeroing code, and its rule: (words, target) -> the cue's words."""

    id: str
    cues: Callable[[Sequence[str], int], tuple[int, ...]]


PARADIGMS = {
    "anaphor_number_agreement": Paradigm("ana", subject_of_anaphor),
    "determiner_noun_agreement_2": Paradigm("dna", noun_of_determiner),
    "determiner_noun_agreement_with_adj_2": Paradigm("dnaa", noun_of_determiner),
    "distractor_agreement_relational_noun": Paradigm("darn", noun_before_distractor),
    "regular_plural_subject_verb_agreement_1": Paradigm("rpsv", noun_before_verb),
}


def number_of(good: str, bad: str) -> str:
    """Number of the good word: by the closed classes, else the longer one of two verbs is the singular."""
    if good.lower() in SINGULAR or bad.lower() in PLURAL:
        return "singular"
    if good.lower() in PLURAL or bad.lower() in SINGULAR:
        return "plural"
    return "singular" if len(good) > len(bad) else "plural"


def contradicts(noun: str, number: str) -> bool:
    """Whether a noun is a regular plural and its verb is not: `Those drivers disgusts Dan`."""
    return number == "singular" and noun.islower() and noun.endswith("s") and not noun.endswith(("ss", "us"))


def checksum(good: str, bad: str) -> str:
    """Tells whether a row of the cues is about these two sentences."""
    return hashlib.sha256(f"{good}\n{bad}".encode()).hexdigest()[:8]


def cue_rows(records: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """The rows of `agreement.tsv` for records with `uid`, `pair`, `good` and `bad`.

    Left out are pairs without a target, and those whose good sentence is the wrong one, as of seven in BLiMP.
    """
    rows = [row for record in records if (row := _row(record)) is not None]
    order = list(range(len(rows)))
    random.Random(SPLIT_SEED).shuffle(order)
    train = set(order[: len(rows) // 2])
    return [{**row, "split": "train" if i in train else "test"} for i, row in enumerate(rows)]


def _row(record: dict[str, object]) -> dict[str, object] | None:
    good, bad, paradigm = str(record["good"]), str(record["bad"]), PARADIGMS.get(str(record["uid"]))
    pair = Pair.of(good, bad)
    if paradigm is None or (target := pair.target) is None:
        return None
    cues = paradigm.cues(pair.good, target)
    number = number_of(pair.good[target], pair.bad[target])
    if contradicts(pair.good[cues[-1]], number):
        return None
    about = {"paradigm": paradigm.id, "pair": record["pair"], "check": checksum(good, bad)}
    return {**about, "target": target, "cues": " ".join(map(str, cues)), "number": number}


def write_cues(source: Path, path: Path) -> None:
    """Write the cues of a BLiMP file."""
    records = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(cue_rows(records))


if __name__ == "__main__":
    write_cues(Path(sys.argv[1]), CUES)
