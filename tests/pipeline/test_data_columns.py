"""Which column is what."""

from __future__ import annotations

import pytest

from attribution.errors import InputError
from pipeline.config import ColumnsConfig
from pipeline.data.columns import find_roles

# columns -> (task, text, text_b, label, answers), as public data sets name them
LAYOUTS = {
    "sst2": (["idx", "sentence", "label"], ("classification", "sentence", None, "label", None)),
    "imdb": (["text", "label"], ("classification", "text", None, "label", None)),
    "mnli": (["premise", "hypothesis", "label", "idx"], ("classification", "premise", "hypothesis", "label", None)),
    "qqp": (["question1", "question2", "label", "idx"], ("classification", "question1", "question2", "label", None)),
    "mrpc": (["sentence1", "sentence2", "label", "idx"], ("classification", "sentence1", "sentence2", "label", None)),
    "qnli": (["question", "sentence", "label", "idx"], ("classification", "question", "sentence", "label", None)),
    "snli": (["premise", "hypothesis", "gold_label"], ("classification", "premise", "hypothesis", "gold_label", None)),
    "squad": (
        ["id", "title", "context", "question", "answers"],
        ("question_answering", "question", "context", None, "answers"),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layouts(name: str) -> None:
    columns, expected = LAYOUTS[name]
    roles = find_roles(columns, ColumnsConfig())
    assert (roles.task, roles.text, roles.text_b, roles.label, roles.answers) == expected


def test_given_columns_win_over_guesses() -> None:
    roles = find_roles(["premise", "hypothesis", "label", "stars"], ColumnsConfig(text="hypothesis", label="stars"))
    assert (roles.text, roles.text_b, roles.label, roles.note) == ("hypothesis", None, "stars", None)


def test_question_and_context_may_be_a_pair_for_a_classifier() -> None:
    roles = find_roles(["question", "context", "label"], ColumnsConfig(text="question", text_b="context"))
    assert (roles.task, roles.text, roles.text_b) == ("classification", "question", "context")


def test_the_other_half_of_a_pair_is_guessed() -> None:
    roles = find_roles(["premise", "hypothesis"], ColumnsConfig(text_b="hypothesis"))
    assert (roles.text, roles.text_b, roles.note) == ("premise", "hypothesis", "columns guessed: text=premise")


def test_second_text_without_a_first() -> None:
    with pytest.raises(InputError, match=r"dataset.columns.text cannot be guessed from the columns foo, bar"):
        find_roles(["foo", "bar"], ColumnsConfig(text_b="bar"))
