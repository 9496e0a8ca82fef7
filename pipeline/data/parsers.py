"""Trees for any text, by a parser installed as an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from attribution.errors import InputError
from pipeline.data.treebanks import Sentence

Parse = Callable[[str], Iterator[Sentence]]
SPACY_MODELS = {"en": "en_core_web_sm", "zh": "zh_core_web_sm"}  # other languages: <language>_core_news_sm
SPACY_RELATIONS = {"dobj": "obj", "nsubjpass": "nsubj:pass", "ROOT": "root"}  # its English labels are not all UD's


def parse(texts: Sequence[str], parser: str = "stanza", language: str = "en") -> list[Sentence]:
    """The trees of all sentences of `texts`. The parser and its model must be on this machine; nothing is fetched."""
    if parser not in PARSERS:
        raise InputError(f"conf error: parser {parser} is not known; choose {', '.join(PARSERS)}.")
    sentences_of = PARSERS[parser](language)
    return [sentence for text in texts for sentence in sentences_of(text)]


def _stanza(language: str) -> Parse:
    stanza = _package("stanza", language)
    try:
        processors = "tokenize,mwt,pos,lemma,depparse"
        pipeline = stanza.Pipeline(language, processors=processors, download_method=None, verbose=False)
    except (FileNotFoundError, ValueError) as error:  # no resources, no model, unknown language
        raise InputError(_no_model("stanza", language, f"stanza.download({language!r})")) from error

    def sentences_of(text: str) -> Iterator[Sentence]:
        for parsed in pipeline(text).sentences:
            words = parsed.words
            yield Sentence(parsed.text, [w.text for w in words], [w.head for w in words], [w.deprel for w in words])

    return sentences_of


def _spacy(language: str) -> Parse:
    spacy = _package("spacy", language)
    model = SPACY_MODELS.get(language, f"{language}_core_news_sm")
    try:
        pipeline = spacy.load(model)
    except OSError as error:
        raise InputError(_no_model("spacy", language, f"spacy.cli.download({model!r})")) from error

    def sentences_of(text: str) -> Iterator[Sentence]:
        for parsed in pipeline(text).sents:
            yield _spacy_sentence(parsed)

    return sentences_of


def _spacy_sentence(parsed: Any) -> Sentence:
    """White space is a token of its own in spaCy, and is no word."""
    words = [token for token in parsed if not token.is_space]
    position = {token.i: number for number, token in enumerate(words, 1)}
    heads = [0 if token.head.i == token.i else position.get(token.head.i, 0) for token in words]
    relations = [SPACY_RELATIONS.get(token.dep_, token.dep_) for token in words]
    return Sentence(parsed.text, [token.text for token in words], heads, relations)


def _package(name: str, language: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"conf error: parsing language {language} with {name} needs the package {name}, which is not installed: "
            f"pip install 'headlight-xai[parsers]'."
        ) from error


def _no_model(name: str, language: str, download: str) -> str:
    return (
        f"conf error: {name} has no model for language {language} on this machine: "
        f'python -c "import {name}; {download}".'
    )


PARSERS: dict[str, Callable[[str], Parse]] = {"stanza": _stanza, "spacy": _spacy}
