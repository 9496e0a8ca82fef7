from __future__ import annotations

import re

import pytest

from attribution.rendering import html_fragment, render_ansi, render_html, spaced, written

TOKENS = ["[CLS]", "a", "grip", "##ping", "<img src=x onerror=alert(1)>", "film\x1b[2J", "not", "[SEP]"]
SCORES = [0.0, 0.01, 0.6, 0.4, 0.1, 0.2, -0.5, float("nan")]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORTERM", raising=False)


def without_colour(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_ansi_joins_word_pieces_and_neutralises_control_characters() -> None:
    line = without_colour(render_ansi(TOKENS, SCORES))
    assert line == "[CLS] a gripping <img src=x onerror=alert(1)> film\\x1b[2J not [SEP]"


def test_negative_scores_are_underlined_not_only_blue() -> None:
    line = render_ansi(["good", "bad"], [1.0, -1.0])
    assert line == "\x1b[30;48;5;208mgood\x1b[0m \x1b[4;30;48;5;39mbad\x1b[0m"


def test_truecolor_where_the_terminal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert ";48;2;" in render_ansi(["good"], [1.0])


def test_without_colour_the_scores_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = render_ansi(["good", "and", "bad"], [1.0, 0.01, -0.5], color=False)
    assert plain == "good[+1] and bad[-0.5]"
    monkeypatch.setenv("NO_COLOR", "1")
    assert render_ansi(["good", "and", "bad"], [1.0, 0.01, -0.5]) == plain


def test_html_shows_markup_as_text() -> None:
    page = render_html(TOKENS, SCORES, title="<b>t</b>", subtitle="<script>s</script>")
    assert "<img" not in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_html_tells_signs_apart_without_colour() -> None:
    line = html_fragment(["good", "bad", "nil"], [1.0, -1.0, 0.0])
    assert line.count("2px solid") == 1
    assert line.count("2px dotted") == 1
    assert 'title="-1"' in line


def test_written_spells_tokens_as_their_text_does() -> None:
    text = "It's 😀gripping"
    tokens = ["[CLS]", "it", "'", "s", "ð", "Ł", "grip", "##ping", "[SEP]", "a", "[SEP]"]
    offsets = [(0, 0), (0, 2), (2, 3), (3, 4), (5, 6), (5, 6), (6, 10), (10, 14), (0, 0), (0, 1), (0, 0)]
    texts = [None, *[text] * 7, None, "a film", None]
    expected = [" [CLS]", " It", "'", "s", " 😀", "·", "grip", "ping", " [SEP]", " a", " [SEP]"]
    assert written(tokens, offsets, texts) == expected


def test_spaced_resolves_the_markers_of_each_tokenizer_kind() -> None:
    assert "".join(spaced(["Ġa", "Ġgrip", "ping"])) == " a gripping"
    assert "".join(spaced(["▁a", "▁grip", "ping"])) == " a gripping"
    assert "".join(spaced(["a", "grip", "##ping", "##"])) == " a gripping ##"
    assert spaced([" a", "b"]) == [" a", "b"]


def test_all_zero_scores_stay_uncoloured() -> None:
    assert render_ansi(["a", "b"], [0.0, 0.0]) == "a b"
