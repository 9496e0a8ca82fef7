"""Number agreement: cues by rule, the file of them, and examples made of both."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from tiny_models import save_tiny
from transformers import AutoTokenizer

from attribution import InputError
from pipeline.config import DatasetConfig
from pipeline.data import load_dataset
from pipeline.data.agreement_rules import COLUMNS, CUES, Pair, checksum, contradicts, cue_rows, number_of, write_cues
from pipeline.data.masking import differing_token

# Paradigm, number of the pair (-1: not its own), right and wrong sentence, target, cue, number; sentences of BLiMP.
ANA = "anaphor_number_agreement"
PAIRS = [
    (ANA, 0, "Susan revealed herself.", "Susan revealed themselves.", "herself", "Susan", "singular"),
    (
        ANA, 1, "Renee hasn't hurt herself.", "Renee hasn't hurt themselves.", "herself", "Renee",
        "singular",
    ),
    (
        ANA, 6, "A lot of girls had bothered themselves.", "A lot of girls had bothered himself.",
        "themselves", "A lot of girls", "plural",
    ),
    (
        "determiner_noun_agreement_2", -1, "The Impressionists observe these waitresses.",
        "The Impressionists observe this waitresses.", "these", "waitresses", "plural",
    ),
    (
        "determiner_noun_agreement_with_adj_2", -1, "Some sweater stuns this out in the open teenager.",
        "Some sweater stuns these out in the open teenager.", "this", "teenager", "singular",
    ),
    (
        "distractor_agreement_relational_noun", -1, "The grandson of the teachers isn't singing.",
        "The grandson of the teachers weren't singing.", "is", "grandson", "singular",
    ),
    (
        "distractor_agreement_relational_noun", -1, "The prints of that high school are impressing Helen.",
        "The prints of that high school was impressing Helen.", "are", "prints", "plural",
    ),
    (
        "regular_plural_subject_verb_agreement_1", -1, "A lot of adults listen to Stacy.",
        "A lot of adults listens to Stacy.", "listen", "adults", "plural",
    ),
    (
        "regular_plural_subject_verb_agreement_1", -1, "Guy has walked through a bank.",
        "Guy have walked through a bank.", "has", "Guy", "singular",
    ),
]  # fmt: skip


def record(paradigm, pair, good, bad):
    return {"uid": paradigm, "pair": pair, "good": good, "bad": bad}


@pytest.mark.parametrize(("paradigm", "pair", "good", "bad", "target", "cue", "number"), PAIRS)
def test_a_rule_for_each_paradigm(paradigm, pair, good, bad, target, cue, number):
    (row,) = cue_rows([record(paradigm, pair, good, bad)])
    words = Pair.of(good, bad).good
    assert words[row["target"]] == target
    assert " ".join(words[int(word)] for word in row["cues"].split()) == cue
    assert (row["number"], row["check"]) == (number, checksum(good, bad))


def test_pairs_that_differ_in_more_than_a_word_or_say_the_wrong_thing_are_left_out():
    assert cue_rows([record("determiner_noun_agreement_2", 0, "Sue saw this cup.", "Sue saw these old cup.")]) == []
    assert cue_rows([record("determiner_noun_agreement_2", 0, "Sue saw this cup.", "Sue sees these cup.")]) == []
    assert cue_rows([record("wh_island", 0, "Sue saw this cup.", "Sue saw these cup.")]) == []
    wrong = "Those drivers disgusts Dan.", "Those drivers disgust Dan."
    assert cue_rows([record("regular_plural_subject_verb_agreement_1", 0, *wrong)]) == []
    assert not contradicts("actress", "singular")
    assert not contradicts("James", "singular")


def test_of_two_verbs_the_longer_one_is_the_singular():
    assert (number_of("passes", "pass"), number_of("try", "tries"), number_of("were", "is")) == (
        "singular", "plural", "plural",
    )  # fmt: skip


def test_contractions_come_apart():
    assert Pair.of("It won't and can't.", "It isn't and didn't.").good == ("It", "will", "not", "and", "can", "not")
    assert Pair.of("a isn't", "a isn't").target is None


def test_the_file_has_places_and_no_text():
    rows = list(csv.DictReader(CUES.open(encoding="utf-8"), delimiter="\t"))
    assert tuple(rows[0]) == COLUMNS
    assert CUES.stat().st_size < 200_000
    assert Counter(row["paradigm"] for row in rows) == {
        "ana": 1000,
        "dna": 1000,
        "dnaa": 1000,
        "darn": 1000,
        "rpsv": 993,
    }
    assert Counter(row["split"] for row in rows) == {"train": 2496, "test": 2497}
    values = {name: {row[name] for row in rows} for name in ("number", "target", "cues")}
    assert values["number"] == {"singular", "plural"}
    assert all(place.isdigit() for name in ("target", "cues") for cell in values[name] for place in cell.split())


@pytest.mark.realdata
def test_the_rules_reproduce_the_file(tmp_path):
    if "HEADLIGHT_DATA" not in os.environ:
        pytest.skip("HEADLIGHT_DATA is not set")
    write_cues(Path(os.environ["HEADLIGHT_DATA"]) / "blimp" / "agreement.jsonl", tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_bytes() == CUES.read_bytes()


@pytest.fixture
def published(tmp_path):
    """The pairs above, three of them by their number in BLiMP, under the published names."""
    rows = [{"UID": p[0], "pairID": str(p[1]), "sentence_good": p[2], "sentence_bad": p[3]} for p in PAIRS]
    path = tmp_path / "blimp.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_examples_carry_what_is_asked_and_their_cues(published):
    dataset = load_dataset(DatasetConfig(source="local", form="agreement", path=str(published), split="all"))
    assert dataset.task == "masked_token"
    assert dataset.label_names == ["singular", "plural"]
    first, third, second = dataset.examples
    assert third.text == "Renee has not hurt herself."
    assert (first.text, first.foil, first.group) == ("Susan revealed herself.", "Susan revealed themselves.", "ana")
    assert [first.text[slice(*span)] for span in (first.asked, *first.rationale)] == ["herself", "Susan"]
    assert [second.text[slice(*span)] for span in second.rationale] == ["A", "lot", "of", "girls"]
    assert dataset.notes == ["3 of 9 pairs are of split all and have a cue by rule"]


def test_the_halves_share_nothing(published):
    halves = [
        load_dataset(DatasetConfig(source="local", form="agreement", path=str(published), split=split)).examples
        for split in ("train", "test")
    ]
    assert [[example.row_index for example in half] for half in halves] == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ('{"text": "a"}\n', {}, "has no columns UID, pairID, sentence_good, sentence_bad"),
        (None, {"split": "dev"}, "dataset.split=dev is not a split of agreement; choose test, train, all"),
    ],
)
def test_what_is_wrong_is_named(published, text, options, message):
    if text is not None:
        published.write_text(text)
    config = DatasetConfig(**{"source": "local", "form": "agreement", "path": str(published), **options})
    with pytest.raises(InputError, match=message):
        load_dataset(config)


def test_other_sentences_under_a_known_number_are_not_taken(published):
    published.write_text(published.read_text().replace("Susan", "Sue"))
    dataset = load_dataset(DatasetConfig(source="local", form="agreement", path=str(published), split="all"))
    assert [example.row_index for example in dataset.examples] == [1, 2]


def test_the_only_token_that_differs(tmp_path):
    assert differing_token([1, 5, 2], [1, 6, 2]) == 1
    assert differing_token([1, 5, 2], [1, 5, 2]) is None
    assert differing_token([1, 5, 2], [1, 6, 3]) is None
    assert differing_token([1, 5, 2], [1, 5, 5, 2]) is None
    tokenizer = AutoTokenizer.from_pretrained(save_tiny("bert", tmp_path))
    ids = [tokenizer(text)["input_ids"] for text in ("the film is good", "the film was good", "the film zzz good")]
    assert differing_token(ids[0], ids[1]) == 3
    assert differing_token(ids[0], ids[2]) is None
