from __future__ import annotations

import itertools
import json
import os
import random
from pathlib import Path

import pytest
import torch

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.heads import syntactic_heads
from attribution.heads.alignment import locate_words
from attribution.heads.arcs import governor_offsets
from attribution.heads.syntactic import offset_baseline

RELATIONS = ("nsubj", "obj", "amod", "advmod")

# What heads at offsets -1, 0, +1, +2 find in the three sentences of `treebank`, counted by hand on the tokens
#   [CLS] the small dog barked loudly . [SEP]
#   [CLS] she really likes old books . [SEP]
#   [CLS] we often see red un ##happy cats . [SEP]
# dep->head, e.g. +1: nsubj dog-barked; amod small-dog, old-books, but red-un and un-##happy miss; advmod really-likes,
# often-see. +2: nsubj she-likes, we-see; amod un-cats. head->dep, e.g. -1: nsubj barked-dog; amod dog-small, books-old,
# cats-##happy; advmod likes-really, see-often. +2: obj likes-books.
HITS = {
    "dep->head": {"nsubj": [0, 0, 1, 2], "obj": [0, 0, 0, 0], "amod": [0, 0, 2, 1], "advmod": [1, 0, 2, 0]},
    "head->dep": {"nsubj": [1, 0, 0, 0], "obj": [0, 0, 0, 1], "amod": [3, 0, 0, 0], "advmod": [2, 0, 1, 0]},
}
TOTALS = {"nsubj": 3, "obj": 2, "amod": 4, "advmod": 3}
BASELINES = {"nsubj": 2 / 3, "obj": 1 / 2, "amod": 3 / 4, "advmod": 2 / 3}


@pytest.mark.parametrize("argmax", ["words", "tokens"])
def test_hand_count(fixed_offsets, treebank, argmax):
    found = syntactic_heads(fixed_offsets(-1, 0, 1, 2), treebank, argmax=argmax)
    for direction, relation in itertools.product(HITS, RELATIONS):
        role = f"syntactic:{relation}:{direction}"
        assert found.scores[role][0].tolist() == [hits / TOTALS[relation] for hits in HITS[direction][relation]], role
        assert found.count[role] == TOTALS[relation]
        assert found.baseline[role] == BASELINES[relation]
    assert not found.mask().any()  # too few arcs to beat a baseline by a margin


def test_thresholds_select_by_themselves(fixed_offsets, treebank):
    found = syntactic_heads(fixed_offsets(-1, 0, 1, 2), treebank, thresholds=dict.fromkeys(RELATIONS, 0.5))
    assert found.mask("syntactic:nsubj").tolist() == [[False, False, False, True]]
    assert found.mask("syntactic:obj").tolist() == [[False] * 4]  # 1 of 2 does not exceed a half
    assert found.mask("syntactic:amod:dep->head").tolist() == [[False] * 4]
    assert found.mask("syntactic:amod:head->dep").tolist() == [[True, False, False, False]]
    assert found.mask().tolist() == [[True, False, True, True]]


def test_margin_over_the_baseline_and_enough_arcs(fixed_offsets, treebank):
    explainer = fixed_offsets(-1)  # finds 3 of 4 amod dependents, exactly the baseline
    amod = {"relations": ["amod"], "min_count": 4}
    assert not syntactic_heads(explainer, treebank, margin=0.0, **amod).mask().any()
    assert syntactic_heads(explainer, treebank, margin=-0.01, **amod).mask("syntactic:amod:head->dep").all()
    assert not syntactic_heads(explainer, treebank, margin=-0.01, relations=["amod"], min_count=5).mask().any()
    assert syntactic_heads(explainer, treebank * 25, margin=-0.01, relations=["amod"]).mask().all()


def test_report_split_selects_nothing(fixed_offsets, treebank):
    found = syntactic_heads(fixed_offsets(1, 2), treebank[:1], report=treebank[1:], relations=["nsubj"])
    assert found.scores["syntactic:nsubj:dep->head"].tolist() == [[1, 0]]
    assert found.report["syntactic:nsubj:dep->head"].tolist() == [[0, 1]]
    assert found.baseline["syntactic:nsubj:dep->head"] == 1


def test_uniform_head_finds_nothing(fixed_offsets, treebank):
    found = syntactic_heads(fixed_offsets(None), [s for s in treebank if "unhappy" not in s[1]])
    assert not any(score.any() for score in found.scores.values())


def generated(n: int, seed: int):
    """Sentences of random words, some of several pieces, with random trees."""
    draw = random.Random(seed)
    vocabulary = ["the", "dog", "dogs", "unhappy", "cats", "very", "red", "books", "unhappys", "see"]
    for _ in range(n):
        words = draw.choices(vocabulary, k=draw.randint(2, 9))
        heads = [draw.choice([0, *range(1, i), *range(i + 1, len(words) + 1)]) for i in range(1, len(words) + 1)]
        yield " ".join(words), words, heads, draw.choices(["nsubj", "obj", "amod", "nsubj:pass"], k=len(words))


def brute_force(explainer, treebank, relation, direction, argmax):
    """Hits [L][H] and arcs, sentence by sentence, in plain loops over the model's own attention."""
    tokenizer, model = explainer.adapter.tokenizer, explainer.adapter.model
    hits, arcs = torch.zeros(2, 3, dtype=torch.double), 0
    for text, words, heads, relations in treebank:
        encoding = tokenizer(text, return_offsets_mapping=True)
        attention = model(torch.tensor([encoding["input_ids"]]), output_attentions=True).attentions
        ends = list(itertools.accumulate(len(word) + 1 for word in words))
        word_of = [None if a == b else sum(end <= a for end in ends) for a, b in encoding["offset_mapping"]]
        for dependent, (head, name) in enumerate(zip(heads, relations, strict=True)):
            if name != relation or head == 0:
                continue
            arcs += 1
            here, there = (dependent, head - 1) if direction == "dep->head" else (head - 1, dependent)
            for layer, number in itertools.product(range(2), range(3)):
                row = attention[layer][0, number, word_of.index(here)].tolist()
                if argmax == "tokens":
                    looked = word_of[row.index(max(row))]
                else:
                    mass = {w: 0.0 for w in range(len(words)) if w != here}
                    for weight, word in zip(row, word_of, strict=True):
                        if word in mass:
                            mass[word] += weight
                    looked = max(mass, key=mass.__getitem__)
                hits[layer, number] += looked == there
    return hits, arcs


@pytest.mark.parametrize("argmax", ["words", "tokens"])
def test_equals_loops_on_a_random_model(tiny, argmax):
    treebank = list(generated(40, seed=3))
    found = syntactic_heads(tiny, treebank, relations=["nsubj", "obj", "nsubj:pass"], argmax=argmax)
    for relation, direction in itertools.product(["nsubj", "nsubj:pass"], HITS):
        hits, arcs = brute_force(tiny, treebank, relation, direction, argmax)
        role = f"syntactic:{relation}:{direction}"
        assert found.count[role] == arcs > 20
        torch.testing.assert_close(found.scores[role], hits / arcs)


def test_order_and_batches_do_not_matter(tiny, monkeypatch):
    treebank = list(generated(30, seed=4))
    expected = syntactic_heads(tiny, treebank)
    monkeypatch.setattr("attribution.heads.arcs._MAX_BATCH", 3)
    found = syntactic_heads(tiny, treebank[::-1])
    assert found.count == expected.count
    assert all(torch.equal(found.scores[role], expected.scores[role]) for role in expected.scores)


def test_what_cannot_be_used_is_counted(fixed_offsets, treebank):
    long = (" ".join(["dog"] * 70), ["dog"] * 70, [0] * 70, ["root"] * 70)
    elsewhere = ("we see cats", ["we", "sea", "cats"], [2, 0, 2], ["nsubj", "root", "obj"])
    merged = ("books see", ["boo", "ks", "see"], [3, 3, 0], ["amod", "nsubj", "root"])
    found = syntactic_heads(fixed_offsets(1), [*treebank, long, elsewhere, merged])
    assert found.skipped == {"too long": 1, "not aligned": 1, "arcs at words without a token of their own": 1}
    assert found.count["syntactic:nsubj:dep->head"] == TOTALS["nsubj"]
    assert found.count["syntactic:amod:dep->head"] == TOTALS["amod"] + 1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"relations": ["dobj"]}, r"heads.relations=dobj cannot be counted .* nsubj"),
        ({"relations": []}, r"heads.relations=\[\] must list"),
        ({"relations": "nsubj"}, r"heads.relations=nsubj must list"),
        ({"thresholds": {"nsbj": 0.4}}, r"heads.thresholds.nsbj is not among heads.relations: nsubj"),
        ({"argmax": "pieces"}, r"reading=row argmax=pieces .* reading=row argmax=tokens"),
    ],
)
def test_errors_name_the_key(fixed_offsets, treebank, keywords, message):
    with pytest.raises(InputError, match=message):
        syntactic_heads(fixed_offsets(1), treebank, **keywords)


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        (("a dog", ["a", "dog"], [2], ["det", "root"]), "sentence 1 has 2 words, 1 governors and 2 relations"),
        (("a dog", ["a", "dog"], [3, 0], ["det", "root"]), "sentence 1 names governor 3; governors are 1 to 2"),
        (("a dog", ["a", "dog"], [-2, 0], ["det", "root"]), "sentence 1 names governor -2"),
    ],
)
def test_malformed_trees_are_refused(fixed_offsets, sentence, message):
    with pytest.raises(InputError, match=message):
        syntactic_heads(fixed_offsets(1), [sentence])


def test_needs_sentences_and_a_fast_tokenizer(fixed_offsets, treebank):
    explainer = fixed_offsets(1)
    with pytest.raises(InputError, match="treebank has no sentences"):
        syntactic_heads(explainer, [])
    explainer.adapter.tokenizer = None
    with pytest.raises(InputError, match="needs a fast tokenizer"):
        syntactic_heads(explainer, treebank)


def ud_ewt(split: str):
    if "HEADLIGHT_DATA" not in os.environ:
        pytest.skip("HEADLIGHT_DATA is not set")
    path = Path(os.environ["HEADLIGHT_DATA"], "ud_ewt", f"{split}.jsonl")
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [(row["text"], row["tokens"], row["head"], row["deprel"]) for row in rows]


PUBLISHED = {
    "dev": {"nsubj": (1, 0.365), "obj": (-2, 0.358), "amod": (1, 0.747), "advmod": (1, 0.458), "xcomp": (-2, 0.562)},
    "test": {"nsubj": (1, 0.345), "obj": (-2, 0.350), "amod": (1, 0.746), "advmod": (1, 0.502), "det": (1, 0.576)},
}


@pytest.mark.realdata
@pytest.mark.parametrize("split", PUBLISHED)
def test_baselines_of_ud_english_ewt(split):
    treebank = ud_ewt(split)
    for relation, (offset, share) in PUBLISHED[split].items():
        found = offset_baseline(governor_offsets(treebank, relation))
        assert (found[0], round(found[1], 3)) == (offset, share), relation


@pytest.mark.realdata
def test_every_sentence_of_ud_english_ewt_is_located():
    treebank = ud_ewt("dev") + ud_ewt("test")
    assert len(treebank) == 4078
    for text, words, _, _ in treebank:
        spans = locate_words(text, words)
        assert ["".join(text[a:b].split()) for a, b in spans] == ["".join(word.split()) for word in words]


@pytest.mark.realdata
@pytest.mark.slow
def test_a_trained_encoder_has_syntactic_heads():
    if "HEADLIGHT_MODELS" not in os.environ:
        pytest.skip("HEADLIGHT_MODELS is not set")
    explainer = Explainer.from_pretrained(Path(os.environ["HEADLIGHT_MODELS"], "minilm-sst2"))
    found = syntactic_heads(explainer, ud_ewt("dev")[:300], report=ud_ewt("test")[:300])
    layer, head, score = found.best["syntactic:nsubj:dep->head"]
    assert found.mask("syntactic:nsubj:dep->head")[layer, head]
    assert score > found.baseline["syntactic:nsubj:dep->head"] + 0.1
    assert abs(found.report["syntactic:nsubj:dep->head"][layer, head] - score) < 0.1
