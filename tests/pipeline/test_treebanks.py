"""Trees from every format give the same sentences; parsers are optional."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from attribution.errors import InputError
from pipeline.data.parsers import parse
from pipeline.data.treebanks import Sentence, load_treebank

CONLLU = """\
# sent_id = 1
# text = I don't see (it).
1\tI\tI\tPRON\t_\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_
4\tsee\tsee\tVERB\t_\t_\t0\troot\t_\t_
4.1\tseen\tsee\tVERB\t_\t_\t_\t_\t4:dep\t_
5\t(\t(\tPUNCT\t_\t_\t6\tpunct\t_\tSpaceAfter=No
6\tit\tit\tPRON\t_\t_\t4\tobj\t_\tSpaceAfter=No
7\t)\t)\tPUNCT\t_\t_\t6\tpunct\t_\tSpaceAfter=No
8\t.\t.\tPUNCT\t_\t_\t4\tpunct\t_\t_

# text = Go.
1\tGo\tgo\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
2\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_
"""
FIRST = Sentence(
    "I don't see (it).",
    ["I", "do", "n't", "see", "(", "it", ")", "."],
    [4, 4, 4, 0, 6, 4, 6, 4],
    ["nsubj", "aux", "advmod", "root", "punct", "obj", "punct", "punct"],
)
SECOND = Sentence("Go.", ["Go", "."], [0, 1], ["root", "punct"])


def ud_json(sentence: Sentence) -> dict[str, object]:
    text, words, heads, deprels = sentence
    return {"text": text, "tokens": words, "head": heads, "deprel": deprels}


def parsed(sentence: Sentence) -> list[dict[str, object]]:
    rows = zip(sentence.words, sentence.heads, sentence.deprels, strict=True)
    return [{"id": i, "text": w, "head": h, "deprel": d} for i, (w, h, d) in enumerate(rows, 1)]


BOTH = "I don't see (it). Go."
FORMATS = {
    "conllu": ("conllu", CONLLU),
    "conllu without text": ("conllu", "\n".join(line for line in CONLLU.split("\n") if not line.startswith("#"))),
    "UD lines": ("jsonl", "\n".join(json.dumps(ud_json(s)) for s in (FIRST, SECOND))),
    "parsed, one sentence a line": (
        "json",
        "\n".join(
            json.dumps({"id": i, "sentence": s.text, "label": 0, "parsed": parsed(s)})
            for i, s in enumerate((FIRST, SECOND))
        ),
    ),
    "parsed, many sentences": ("json", json.dumps({"text": BOTH, "parsed": [parsed(FIRST), parsed(SECOND)]})),
    "parsed pair": (
        "jsonl",
        json.dumps(
            {
                "premise": FIRST.text,
                "hypothesis": "Go.",
                "parsed_premise": [parsed(FIRST)],
                "parsed_hypothesis": [parsed(SECOND)],
            }
        ),
    ),
    "parsed questions": (
        "jsonl",
        json.dumps(
            {"question1": FIRST.text, "question2": "Go.", "parsed1": [parsed(FIRST)], "parsed2": [parsed(SECOND)]}
        ),
    ),
    "parsed question and context": (
        "json",
        json.dumps(
            [
                {
                    "question": FIRST.text,
                    "context": "Go.",
                    "question_parsed": [parsed(FIRST)],
                    "context_parsed": [parsed(SECOND)],
                }
            ]
        ),
    ),
}


def write(folder: Path, ending: str, content: str) -> Path:
    path = folder / f"trees.{ending}"
    path.write_text(content)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_trees(name: str, tmp_path: Path) -> None:
    assert load_treebank(write(tmp_path, *FORMATS[name])) == [FIRST, SECOND]


def test_limit_stops_early(tmp_path: Path) -> None:
    assert load_treebank(write(tmp_path, "conllu", CONLLU + "\nbroken\n"), limit=1) == [FIRST]


def test_words_not_in_the_text_are_joined_by_spaces(tmp_path: Path) -> None:
    record = {"sentence": "I do not see it.", "parsed": parsed(FIRST)}
    assert load_treebank(write(tmp_path, "json", json.dumps(record)))[0].text == "I do n't see ( it ) ."


PROBLEMS = {
    "ending": ("txt", "x", r"heads.select=.*trees.txt must be a treebank ending in one of .conllu, .jsonl, .json"),
    "empty": ("conllu", "\n\n", "holds no sentences"),
    "not conllu": ("conllu", "1\tGo\n", "the sentence before line 2 is not CoNLL-U"),
    "governor": (
        "jsonl",
        json.dumps(ud_json(SECOND._replace(heads=[0, 7]))),
        "sentence 1 has a governor outside its 2 words",
    ),
    "lengths": ("jsonl", json.dumps(ud_json(SECOND._replace(heads=[0]))), "has 2 words but 1 governors"),
    "no words": ("jsonl", '{"text": "", "tokens": [], "head": [], "deprel": []}', "sentence 1 has no words"),
    "columns": ("jsonl", '{"text": "Go."}', "must hold objects with text, tokens, head and deprel.*KeyError 'tokens'"),
    "not json": ("json", "[1,", "is not JSON"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(name: str, tmp_path: Path) -> None:
    ending, content, message = PROBLEMS[name]
    with pytest.raises(InputError, match=message):
        load_treebank(write(tmp_path, ending, content))


def test_missing_treebank_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"heads.report=.*gone.conllu does not exist"):
        load_treebank(tmp_path / "gone.conllu", key="heads.report")


@pytest.mark.parametrize("parser", ["stanza", "spacy"])
def test_missing_parser_names_the_extra_and_the_language(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, parser, None)
    with pytest.raises(InputError, match=rf"language de with {parser}.*headlight-xai\[parsers\]"):
        parse(["Geh."], parser, "de")


def test_missing_stanza_model_names_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipeline(language: str, **settings: object) -> None:
        assert settings["download_method"] is None  # nothing is fetched unasked
        raise FileNotFoundError("Resources file not found")

    monkeypatch.setitem(sys.modules, "stanza", stub("stanza", Pipeline=pipeline))
    with pytest.raises(
        InputError, match=r"stanza has no model for language de on this machine: .*stanza.download\('de'\)"
    ):
        parse(["Geh."], "stanza", "de")


def test_stanza_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [SimpleNamespace(**word) for word in parsed(SECOND)]
    document = SimpleNamespace(sentences=[SimpleNamespace(text="Go.", words=words)])
    monkeypatch.setitem(
        sys.modules, "stanza", stub("stanza", Pipeline=lambda language, **settings: lambda text: document)
    )
    assert parse(["Go.", "Go."]) == [SECOND, SECOND]


def test_spacy_spaces_are_no_words_and_labels_are_universal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("See", 0, "ROOT"), ("  ", 0, "dep"), ("it", 0, "dobj")]
    tokens = [SimpleNamespace(i=i + 5, text=t, dep_=d, is_space=t.isspace()) for i, (t, _, d) in enumerate(rows)]
    for token, (_, head, _) in zip(tokens, rows, strict=True):
        token.head = tokens[head]

    class Span(list):  # type: ignore[type-arg]
        text = "See   it"

    document = SimpleNamespace(sents=[Span(tokens)])
    monkeypatch.setitem(sys.modules, "spacy", stub("spacy", load=lambda model: lambda text: document))
    assert parse(["See   it"], "spacy") == [Sentence("See   it", ["See", "it"], [0, 1], ["root", "obj"])]


def stub(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def test_unknown_parser() -> None:
    with pytest.raises(InputError, match="parser nltk is not known; choose stanza, spacy"):
        parse([], "nltk")


# relation -> count and the most frequent offset of its governor with its rate, as measured on UD_English-EWT v2.16
EWT_DEV = {"nsubj": (1958, 1, 0.365), "obj": (1211, -2, 0.358), "amod": (1326, 1, 0.747), "advmod": (1353, 1, 0.458)}


@pytest.mark.realdata
@pytest.mark.parametrize("file", ["en_ewt-ud-dev.conllu", "dev.jsonl"])
def test_ewt_counts(file: str) -> None:
    if "HEADLIGHT_DATA" not in os.environ:
        pytest.skip("HEADLIGHT_DATA is not set")
    sentences = load_treebank(Path(os.environ["HEADLIGHT_DATA"], "ud_ewt", file))
    assert (len(sentences), sum(len(s.words) for s in sentences)) == (2001, 25147)
    offsets: dict[str, Counter[int]] = {relation: Counter() for relation in EWT_DEV}
    for sentence in sentences:
        for position, (head, relation) in enumerate(zip(sentence.heads, sentence.deprels, strict=True), 1):
            if relation in offsets:
                offsets[relation][head - position] += 1
    for relation, (count, offset, rate) in EWT_DEV.items():
        found = offsets[relation]
        assert found.total() == count
        assert found.most_common(1)[0][0] == offset
        assert found[offset] / count == pytest.approx(rate, abs=5e-4)
