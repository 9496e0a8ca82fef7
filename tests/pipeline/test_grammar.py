"""The generated sentences: sound trees, relations between the right words, labels that follow from the words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from pipeline.data.grammar import GeneratedSentence, generate, grammar_treebank, lexicon, morphology
from pipeline.data.grammar.tree import Arc, Node, comma, detokenise, leaf, parse

PREDICATES = {"VERB", "ADJ", "NOUN"}
NOMINALS = {"NOUN", "PRON"}
# relation -> parts of speech of the dependent, of the head, and the side of the head it stands on ("" = either)
RELATIONS: dict[str, tuple[set[str], set[str], str]] = {
    "nsubj": (NOMINALS, PREDICATES, ""),
    "nsubj:pass": (NOMINALS, {"VERB"}, "before"),
    "obj": (NOMINALS, {"VERB"}, ""),
    "amod": ({"ADJ"}, {"NOUN"}, "before"),
    "advmod": ({"ADV", "PART"}, PREDICATES | {"ADV"}, ""),
    "det": ({"DET"}, {"NOUN"}, "before"),
    "det:predet": ({"DET"}, {"NOUN"}, "before"),
    "nmod:poss": ({"PRON"}, {"NOUN"}, "before"),
    "nummod": ({"NUM"}, {"NOUN"}, "before"),
    "compound": ({"NOUN"}, {"NOUN"}, "before"),
    "case": ({"ADP"}, {"NOUN"}, "before"),
    "nmod": ({"NOUN"}, {"NOUN"}, "after"),
    "obl": ({"NOUN"}, {"VERB", "ADJ", "NOUN"}, ""),
    "obl:agent": ({"NOUN"}, {"VERB"}, "after"),
    "cop": ({"AUX"}, {"ADJ", "NOUN"}, "before"),
    "aux": ({"AUX"}, PREDICATES, "before"),
    "aux:pass": ({"AUX"}, {"VERB"}, "before"),
    "expl": ({"PRON"}, {"VERB"}, "before"),
    "mark": ({"SCONJ", "PART"}, PREDICATES, "before"),
    "cc": ({"CCONJ"}, PREDICATES, "before"),
    "conj": (PREDICATES, PREDICATES, "after"),
    "acl:relcl": ({"VERB"}, {"NOUN"}, "after"),
    "advcl": (PREDICATES, PREDICATES, ""),
    "ccomp": (PREDICATES, {"VERB"}, "after"),
    "xcomp": ({"VERB", "ADJ"}, {"VERB"}, "after"),
    "punct": ({"PUNCT"}, PREDICATES | {"ADV"}, ""),
}
FREQUENT_OFFSET = {"nsubj": 0.55, "obj": 0.55, "advmod": 0.55, "amod": 0.75}


@pytest.fixture(scope="module")
def sentences() -> list[GeneratedSentence]:
    return generate(2000, 0)


def test_same_seed_same_sentences_and_prefix() -> None:
    assert generate(60, 3)[:25] == generate(25, 3)
    assert [one.text for one in generate(25, 3)] != [one.text for one in generate(25, 4)]
    assert generate(0, 3) == []


def test_no_sentence_twice_and_labels_balanced(sentences: list[GeneratedSentence]) -> None:
    assert len({one.text for one in sentences}) == len(sentences)
    assert 0.45 < sum(one.label == "positive" for one in sentences) / len(sentences) < 0.55
    assert {one.label for one in sentences} == {"positive", "negative"}


def test_treebank_holds_the_same_trees() -> None:
    for tree, one in zip(grammar_treebank(20, 5), generate(20, 5), strict=True):
        assert tree == (one.text, one.words, one.heads, one.deprels)


def test_trees_have_one_root_and_no_cycle(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        assert len(one.words) == len(one.upos) == len(one.heads) == len(one.deprels)
        assert all(0 <= head <= len(one.words) for head in one.heads)
        assert [head == 0 for head in one.heads] == [relation == "root" for relation in one.deprels]
        assert one.heads.count(0) == 1
        for word in range(1, len(one.words) + 1):
            assert_reaches_root(one, word)


def assert_reaches_root(one: GeneratedSentence, word: int) -> None:
    for _ in one.words:
        if word == 0:
            return
        word = one.heads[word - 1]
    assert word == 0, one.text


def test_trees_are_projective(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        arcs = [sorted((word, head)) for word, head in enumerate(one.heads, start=1) if head]
        crossing = [(a, b) for a in arcs for b in arcs if a[0] < b[0] < a[1] < b[1]]
        assert not crossing, one.text


def test_relations_hold_between_the_right_words(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        for word, (head, relation) in enumerate(zip(one.heads, one.deprels, strict=True), start=1):
            if head:
                dependents, heads, side = RELATIONS[relation]
                assert one.upos[word - 1] in dependents, (relation, one.words[word - 1], one.text)
                assert one.upos[head - 1] in heads, (relation, one.words[word - 1], one.text)
                assert side in ("", "before" if word < head else "after"), (relation, one.text)


def test_all_relations_occur(sentences: list[GeneratedSentence]) -> None:
    assert {relation for one in sentences for relation in one.deprels} == {*RELATIONS, "root"}


def test_function_words_and_punctuation_are_leaves(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        governors = {one.upos[head - 1] for head in one.heads if head}
        assert not governors & {"PUNCT", "DET", "AUX", "ADP", "CCONJ", "SCONJ", "PART"}, one.text


def test_each_verb_has_at_most_one_subject_and_object(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        for relations in (("nsubj", "nsubj:pass", "expl"), ("obj",), ("cop",)):
            heads = [head for head, relation in zip(one.heads, one.deprels, strict=True) if relation in relations]
            existential = "expl" in one.deprels and "expl" in relations
            assert existential or len(heads) == len(set(heads)), one.text


def test_no_relation_sits_at_one_offset(sentences: list[GeneratedSentence]) -> None:
    offsets: dict[str, Counter[int]] = defaultdict(Counter)
    for one in sentences:
        for word, (head, relation) in enumerate(zip(one.heads, one.deprels, strict=True), start=1):
            offsets[relation][word - head] += 1
    for relation, bound in FREQUENT_OFFSET.items():
        counts = offsets[relation]
        assert counts.total() > 1000
        assert counts.most_common(1)[0][1] < bound * counts.total(), (relation, counts.most_common(3))


def test_text_is_the_words_in_order(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        position = 0
        for word in one.words:
            start = one.text.index(word, position)
            assert one.text[position:start] in ("", " ")
            position = start + len(word)
        assert position == len(one.text)


def test_text_is_spelled_as_people_do(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        assert one.text[0].isupper()
        assert one.text[-1] in ".!"
        assert not re.search(r"\s[.,!]|\sn't|\s\s|[.,!]\w|_", one.text), one.text
        assert not re.search(r"\ba [aeio]|\ban [^aeiou]|\ba u(?!s)", one.text), one.text
        repeated = {first for first, second in pairwise(one.words) if first == second}
        assert repeated <= {"had"}, one.text  # the past perfect of have


def test_rationales_are_content_words_or_negators(sentences: list[GeneratedSentence]) -> None:
    for one in sentences:
        assert one.rationale
        assert one.rationale == sorted(set(one.rationale))
        assert {one.upos[index] for index in one.rationale} <= {"ADJ", "NOUN", "VERB", "ADV", "PART", "DET"}
        determiners = {one.words[index] for index in one.rationale if one.upos[index] == "DET"}
        assert determiners <= {"no"}


# --- labels -----------------------------------------------------------------------------------------------------
# Read off the surface with a list of words, knowing nothing of how the sentences are built.

NEGATORS = {"not", "n't", "never", "no", "lack", "lacks", "lacked"}
SIZES = set(lexicon.TOO_MUCH.split())


def polar_words() -> dict[str, int]:
    adjectives = [lexicon.ADJECTIVES, lexicon.MANNERS]
    verbs = [lexicon.FEELINGS, lexicon.EFFECTS, lexicon.SUCCESSES]
    plain = [lexicon.QUALITIES, lexicon.VERDICTS, lexicon.SKILLS, lexicon.COMPARATIVES, lexicon.SIGHS]
    polarity = {word: sign for table in adjectives for (sign, _), words in table.items() for word in words.split()}
    polarity |= {word: sign for table in plain for sign, words in table.items() for word in words.split()}
    polarity |= {word: sign for sign, words in lexicon.REACTIONS.items() for word in words.split()}
    polarity |= {word: 1 for domain in lexicon.DOMAINS for word in domain.good.split()}
    polarity |= {word: -1 for domain in lexicon.DOMAINS for word in domain.bad.split()}
    polarity |= {form: sign for table in verbs for (sign, _), words in table.items() for form in forms(words)}
    idioms = {sign: " ".join(idiom.split("_")[0] for idiom in words.split()) for sign, words in lexicon.IDIOMS.items()}
    polarity |= {form: sign for sign, verbs in idioms.items() for form in forms(verbs)}
    return polarity | {"return": 1, "stay": 1, "come": 1, "leave": -1, "complain": -1}


def forms(verbs: str) -> list[str]:
    inflections = (str, morphology.past, morphology.participle, lambda verb: morphology.present(verb, "he"))
    return [inflect(verb) for verb in verbs.split() for inflect in inflections]


POLARITY = polar_words()
ADVICE = {"try": 1, "trust": 1, "choose": 1, "visit": 1, "recommend": 1} | dict.fromkeys(
    ["avoid", "skip", "shun", "ignore", "miss"], -1
)


def deciding_part(text: str) -> str:
    """Behind but or yet; the main clause beside although."""
    if ", although" in text:
        return text.split(", although")[0]
    if re.match("Although|Though|While", text) or re.search(", (but|yet) ", text):
        return text.rsplit(",", 1)[1]
    return text


def clause_polarity(clause: str) -> int:
    words = re.findall(r"n't|(?:(?!n't)[\w-])+", clause.lower())
    sign, total = 1, 0
    for before, word in pairwise(["", *words]):
        sign = -sign if word in NEGATORS else sign
        imperative = before == "" or before in ("n't", "not", "never")
        polar = POLARITY.get(word, ADVICE.get(word, 0) if imperative else 0)
        total += sign * (-1 if word in SIZES and before == "too" else polar)
    return total


def surface_label(text: str) -> str:
    clauses = re.split(r",| because ", deciding_part(text))
    return "positive" if sum(map(clause_polarity, clauses)) > 0 else "negative"


def test_labels_follow_from_the_words(sentences: list[GeneratedSentence]) -> None:
    wrong = [(one.label, one.text) for one in sentences if surface_label(one.text) != one.label]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The plot was dull, but we loved the ending.", "positive"),
        ("Although the waiter was charming, the soup wasn't good.", "negative"),
        ("I did not think that the room was ugly.", "positive"),
        ("There was no wit in the dialogue because the plot lacked charm.", "negative"),
        ("The rooms were far too small, although the bed was lovely.", "negative"),
    ],
)
def test_the_surface_reading_itself(text: str, label: str) -> None:
    assert surface_label(text) == label


def test_neutral_words_are_neutral() -> None:
    domains = lexicon.DOMAINS
    names = " ".join(f"{one.things} {one.parts} {one.people} {one.use} {one.make}" for one in domains)
    neutral = set(f"{names} {lexicon.NEUTRAL} {lexicon.NEUTRAL_OF_PEOPLE} {lexicon.OPENERS}".replace("_", " ").split())
    assert not neutral & set(POLARITY)
    assert not {word for word, sign in POLARITY.items() if sign > 0} & {
        word for one in domains for word in one.bad.split()
    }


# --- building blocks ---------------------------------------------------------------------------------------------


def test_parse_of_a_hand_made_tree() -> None:
    soup = Node("soup", "NOUN").before(leaf("det", "a", "DET"), leaf("amod", "ugly", "ADJ"))
    root = Node("eat", "VERB").before(
        Arc("nsubj", Node("we", "PRON")), leaf("aux", "did", "AUX"), leaf("advmod", "n't", "PART", evidence=True)
    )
    honestly = Arc("advmod", Node("honestly", "ADV").after(comma()))
    result = parse(root.before(honestly).after(Arc("obj", soup), leaf("punct", ".", "PUNCT")))
    assert result.text == "Honestly, we didn't eat an ugly soup."
    assert result.words == ["Honestly", ",", "we", "did", "n't", "eat", "an", "ugly", "soup", "."]
    assert result.heads == [6, 1, 6, 6, 6, 0, 9, 9, 6, 6]
    assert result.deprels == ["advmod", "punct", "nsubj", "aux", "advmod", "root", "det", "amod", "obj", "punct"]
    assert result.rationale == [4]


def test_muted_keeps_the_words_and_drops_the_evidence() -> None:
    node = Node("dull", "ADJ", evidence=True).before(leaf("advmod", "not", "PART", evidence=True))
    assert [one.word for one in node.muted().words()] == ["not", "dull"]
    assert not any(one.evidence for one in node.muted().words())


def test_detokenise_attaches_clitics() -> None:
    assert detokenise(["It", "is", "n't", "good", ",", "is", "it", "."]) == "It isn't good, is it."


@pytest.mark.parametrize(
    ("verb", "past", "third"),
    [
        ("read", "read", "reads"),
        ("try", "tried", "tries"),
        ("watch", "watched", "watches"),
        ("drag", "dragged", "drags"),
        ("love", "loved", "loves"),
        ("enjoy", "enjoyed", "enjoys"),
        ("have", "had", "has"),
        ("discuss", "discussed", "discusses"),
        ("be", "was", "is"),
    ],
)
def test_inflection(verb: str, past: str, third: str) -> None:
    assert morphology.finite(verb, "past", "he") == past
    assert morphology.finite(verb, "present", "he") == third


@pytest.mark.parametrize(
    ("noun", "agreement"), [("soup", "he"), ("songs", "they"), ("class", "he"), ("children", "they")]
)
def test_agreement(noun: str, agreement: str) -> None:
    assert morphology.agreement(noun) == agreement
