"""English inflection, as far as the lexicon needs it."""

from __future__ import annotations

import re

_PAST = {  # past, participle
    "appal": "appalled appalled",
    "build": "built built",
    "buy": "bought bought",
    "choose": "chose chosen",
    "do": "did done",
    "excel": "excelled excelled",
    "feel": "felt felt",
    "find": "found found",
    "have": "had had",
    "hit": "hit hit",
    "light": "lit lit",
    "lose": "lost lost",
    "make": "made made",
    "read": "read read",
    "regret": "regretted regretted",
    "show": "showed shown",
    "say": "said said",
    "see": "saw seen",
    "steal": "stole stolen",
    "stink": "stank stunk",
    "take": "took taken",
    "think": "thought thought",
    "win": "won won",
    "write": "wrote written",
}
_ENDINGS = {  # how a stem changes before an ending; the first pattern that fits
    "s": (("have$", "has"), ("(s|sh|ch|x|o)$", r"\1es"), ("(?<![aeiou])y$", "ies"), ("$", "s")),
    "ed": (
        ("e$", "ed"),
        ("(?<![aeiou])y$", "ied"),
        ("^([^aeiou]+[aeiou])([^aeiouwxy])$", r"\1\2\2ed"),
        ("$", "ed"),
    ),
}
_BE = {"past": {"I": "was", "he": "was", "they": "were"}, "present": {"I": "am", "he": "is", "they": "are"}}
_PLURALS_WITHOUT_S = {"children"}


def _with_ending(stem: str, ending: str) -> str:
    pattern, replacement = next(rule for rule in _ENDINGS[ending] if re.search(rule[0], stem))
    return re.sub(pattern, replacement, stem, count=1)


def past(verb: str) -> str:
    """The simple past: saw."""
    return _PAST[verb].split()[0] if verb in _PAST else _with_ending(verb, "ed")


def participle(verb: str) -> str:
    """The past participle: seen."""
    return _PAST[verb].split()[1] if verb in _PAST else _with_ending(verb, "ed")


def present(verb: str, agreement: str) -> str:
    """The present tense: sees with `he`, see with `I` and `they`."""
    return _with_ending(verb, "s") if agreement == "he" else verb


def finite(verb: str, tense: str, agreement: str) -> str:
    """The finite form of a verb, `be` included. `tense` is past or present."""
    if verb == "be":
        return _BE[tense][agreement]
    return past(verb) if tense == "past" else present(verb, agreement)


def agreement(noun: str) -> str:
    """The pronoun a verb agrees with when `noun`, as spelled, is its subject: he or they."""
    plural = noun in _PLURALS_WITHOUT_S or (noun.endswith("s") and not noun.endswith("ss"))
    return "they" if plural else "he"
