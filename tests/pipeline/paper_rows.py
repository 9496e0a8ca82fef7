"""Rows with the columns that data sets have on the Hub, in words the stand-ins have a token for each."""

from __future__ import annotations

import random

import datasets
from datasets import ClassLabel, Features, List, Value
from tiny_models import WORDS

VOCABULARY = [word for word in WORDS if word.isalpha()]
TEXT, NUMBER = Value("string"), Value("int32")
ANSWERS = {"text": List(TEXT), "answer_start": List(NUMBER)}
SQUAD = Features({"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS})


def words(n: int, seed: int) -> list[str]:
    """Words the stand-ins have a token for each."""
    return random.Random(seed).choices(VOCABULARY, k=n)


def single(column: str, names: list[str], lengths: list[int], numbered: bool = False) -> datasets.Dataset:
    """Texts of so many words, labelled in turn."""
    texts = {column: [" ".join(words(n, i + 10)) for i, n in enumerate(lengths)]}
    return labelled(texts, names, numbered)


def paired(first: str, second: str, names: list[str], lengths: list[int]) -> datasets.Dataset:
    """Pairs of so many words together, labelled in turn."""
    texts = {
        first: [" ".join(words(n // 2, i)) for i, n in enumerate(lengths)],
        second: [" ".join(words(n - n // 2, i + 100)) for i, n in enumerate(lengths)],
    }
    return labelled(texts, names, numbered=True)


def labelled(texts: dict[str, list[str]], names: list[str], numbered: bool) -> datasets.Dataset:
    n = len(next(iter(texts.values())))
    columns = {**texts, "label": [i % len(names) for i in range(n)], **({"idx": list(range(n))} if numbered else {})}
    features = {**dict.fromkeys(texts, TEXT), "label": ClassLabel(names=names), **({"idx": NUMBER} if numbered else {})}
    return datasets.Dataset.from_dict(columns, features=Features(features))


def questions(*rows: tuple[int, int, list[tuple[int, int]]]) -> datasets.Dataset:
    """Rows of SQuAD from (words of the question, words of the context, [(first word, words) of each answer])."""
    records = []
    for i, (asked, told, answers) in enumerate(rows):
        context = words(told, i)
        starts = [len(" ".join([*context[:at], ""])) for at, _ in answers]
        found = {"text": [" ".join(context[at : at + n]) for at, n in answers], "answer_start": starts}
        question = " ".join(words(asked, i + 50))
        records.append(
            {"id": str(i), "title": "t", "context": " ".join(context), "question": question, "answers": found}
        )
    return datasets.Dataset.from_list(records, features=SQUAD)
