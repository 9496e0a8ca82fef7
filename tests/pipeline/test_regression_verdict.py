"""What a verdict says, in each of its forms."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from attribution.errors import InputError
from pipeline.regression.compare import Departure
from pipeline.regression.decide import IMPROVED, PASS, REGRESSION, WARN, Finding
from pipeline.regression.formats import junit, markdown
from pipeline.regression.history import duration, gap
from pipeline.regression.page import page
from pipeline.regression.verdict import EXIT_CODES, INCOMPARABLE, NO_CHAMPION, Drift, Move, Party, Verdict

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)>|`*\x00]]>"


def finding(level: str, method: str = "m", **more: object) -> Finding:
    numbers = (0.5, 0.4, -0.1, -0.2, -0.05, 0.01, 0.03, 0.02, 0.06, 80, 300)
    return Finding("statistical", level, f"{method} aopc fell", method, "aopc", *numbers, **more)


def verdict(*findings: Finding) -> Verdict:
    made = Verdict("nightly", "nightly-1", "2026-11-21T02:00:00+00:00", vary=["code"])
    made.champion = Party("a", "nightly-0", "folder", "2026-11-20T02:00:00+00:00")
    made.add(*findings)
    return made


@pytest.mark.parametrize(
    ("levels", "expected", "code"),
    [
        ([PASS, PASS], PASS, 0),
        ([PASS, IMPROVED], PASS, 0),
        ([PASS, WARN], WARN, 0),
        ([WARN, REGRESSION, PASS], REGRESSION, 2),
        ([], PASS, 0),
    ],
)
def test_the_worst_finding_decides(levels: list[str], expected: str, code: int) -> None:
    made = verdict(*(finding(level) for level in levels))
    assert (made.verdict, made.exit_code) == (expected, code)


def test_what_was_not_compared_is_no_pass() -> None:
    made = verdict()
    made.stop(INCOMPARABLE, "data: fingerprint was a and is b")
    made.add(finding(PASS))
    assert (made.verdict, made.exit_code) == (INCOMPARABLE, 3)
    assert next(made.lines()) == "incomparable: data: fingerprint was a and is b"
    assert {EXIT_CODES[each] for each in (INCOMPARABLE, NO_CHAMPION)} == {3}


def test_lines_leave_passes_out_and_end_with_the_count() -> None:
    lines = list(verdict(finding(PASS), finding(WARN), finding(REGRESSION, "worse")).lines())
    assert lines == [
        "regression: worse aopc fell",
        "warn: m aopc fell",
        "REGRESSION (exit 2): nightly-1 against nightly-0: 1 regression, 1 warn, 1 pass",
    ]


def test_json_is_json_whatever_the_numbers() -> None:
    made = verdict(Finding("golden", REGRESSION, "off", delta=float("inf"), low=float("nan")))
    read = json.loads(made.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert read["findings"][0]["delta"] is read["findings"][0]["low"] is None
    assert (read["exit_code"], read["schema_version"]) == (2, "2.0")


def test_every_field_of_the_document_is_described() -> None:
    text = (ROOT / "docs" / "regression.md").read_text()
    described = set(re.findall(r"^\| `([\w.]+)`", text, re.MULTILINE))
    parts = {"champion": Party, "departures": Departure, "findings": Finding, "moved": Move, "drift": Drift}
    names = {"schema_version", "exit_code", *(field.name for field in fields(Verdict))}
    names |= {f"{part}.{field.name}" for part, kind in parts.items() for field in fields(kind)}
    assert names - described == set()


def test_junit_counts_failures_and_errors() -> None:
    suite = ElementTree.fromstring(junit(verdict(finding(REGRESSION), finding(WARN), finding(PASS))))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "0")
    assert len(suite.findall(".//system-out")) == 1
    stopped = verdict()
    stopped.stop(INCOMPARABLE, HOSTILE)
    suite = ElementTree.fromstring(junit(stopped))[0]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
    assert "<img" in (suite.find(".//error").text or "")  # escaped, so that it is read back as text


def test_markdown_starts_nothing_that_data_names() -> None:
    made = verdict(finding(REGRESSION, HOSTILE))
    made.moved = [Move(HOSTILE, "aopc", "id", 3, 0.5, 0.1, 0.4)]
    text = markdown(made)
    assert "<img" not in text.replace("\\<img", "")
    row = next(line for line in text.splitlines() if line.startswith("| \\<img"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 9


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "src" for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_escapes_and_needs_nothing_else() -> None:
    made = verdict(finding(REGRESSION, HOSTILE), finding(PASS))
    made.moved = [Move("m", "aopc", "id", 3, 0.5, 0.1, 0.4)]
    made.drift, made.first_champion = [Drift("m", "aopc", 0.6, 0.4, -0.2)], made.champion
    nights = [{"night": HOSTILE, "started": "then", "verdict": "warn", "findings": [HOSTILE, HOSTILE]}]
    document = page(made, {"id": f"a text {HOSTILE}"}, nights)
    parser = _Tags()
    parser.feed(document)
    assert not {"img", "script", "link", "iframe"} & set(parser.tags)
    assert "a text <img" in parser.text
    assert "default-src 'none'" in document
    for heading in ("Examples that moved most", "Drift since the first champion", "Previous nights"):
        assert heading in parser.text


def test_the_page_has_no_texts_where_none_are_given() -> None:
    made = verdict(finding(REGRESSION))
    made.moved = [Move("m", "aopc", "id", 3, 0.5, 0.1, 0.4)]
    parser = _Tags()
    parser.feed(page(made, {}, []))
    assert "Examples that moved most" in parser.text
    assert "a text" not in parser.text


# --- nights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("24h", 86400), ("7d", 604800), ("1.5h", 5400), ("30s", 30), ("1w", 604800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration("regression.every", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["24", "h", "-1h", "1h30", "", "24 hours"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"regression\.every"):
        duration("regression.every", text)


@pytest.mark.parametrize(
    ("hours", "words"), [(23, None), (24, None), (30, None), (31, "1 night is missing"), (73, "2 nights are missing")]
)
def test_a_missing_night_is_noticed(hours: float, words: str | None) -> None:
    now = datetime(2026, 11, 21, 3, tzinfo=UTC)
    nights = [{"started": (now - timedelta(hours=hours)).isoformat()}]
    found = gap(nights, now, timedelta(hours=24), timedelta(hours=6))
    assert found is None if words is None else words in (found or "")


def test_no_night_at_all() -> None:
    assert gap([], datetime.now(UTC), timedelta(hours=24), timedelta(0)) == "no night has been run yet"
