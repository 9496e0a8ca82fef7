"""A verdict as JUnit XML, which build servers list, and as Markdown. Neither holds a text of the data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from pipeline.regression.decide import REGRESSION, WARN, Finding, title
from pipeline.regression.verdict import BAD_INPUT, FAILED, INCOMPARABLE, NO_CHAMPION, Verdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHOWN = 10  # examples


def junit(verdict: Verdict) -> str:
    """One test case for the comparison itself and one for each finding.

    A regression is a failure, a night that could not be compared an error; a warning passes and says so in its output.
    """
    suite = ElementTree.Element("testsuite", name=_xml(f"headlight.{verdict.series}"), timestamp=verdict.started)
    whole = _case(suite, verdict, "comparison")
    if verdict.verdict in (FAILED, INCOMPARABLE, NO_CHAMPION, BAD_INPUT):
        _say(whole, "error", verdict.verdict, "\n".join(verdict.reasons))
    for finding in verdict.findings:
        case = _case(suite, verdict, _name(finding))
        if finding.level == REGRESSION:
            _say(case, "failure", finding.gate, finding.text)
        elif finding.level == WARN:
            ElementTree.SubElement(case, "system-out").text = _xml(f"warning: {finding.text}")
    suite.set("tests", str(len(suite)))
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(len(suite.findall(f".//{kind}"))))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=False) + "\n"


def _case(suite: ElementTree.Element, verdict: Verdict, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_xml(f"headlight.{verdict.series}"), name=_xml(name))


def _say(case: ElementTree.Element, kind: str, what: str, text: str) -> None:
    first = next(iter(text.splitlines()), what)
    ElementTree.SubElement(case, kind, type=_xml(what), message=_xml(first)).text = _xml(text)


def _name(finding: Finding) -> str:
    return " ".join(part for part in (finding.gate, finding.method, finding.metric) if part)


def _xml(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def markdown(verdict: Verdict) -> str:
    """For a pull request or a chat."""
    return "\n".join(_markdown(verdict)) + "\n"


def _markdown(verdict: Verdict) -> Iterator[str]:
    yield f"# {_escaped(verdict.series)}: {verdict.verdict}"
    yield ""
    yield f"{_escaped(verdict.summary())}."
    for heading, lines in (("Reasons", verdict.reasons), ("Notes", verdict.notes)):
        if lines:
            yield from ("", f"## {heading}", "", *(f"- {_escaped(line)}" for line in lines))
    if verdict.loud:
        yield from ("", "## Findings", "", *(f"- **{f.level}** {_escaped(f.text)}" for f in verdict.loud))
    differing = [departure for departure in verdict.departures if departure.kind != "machine"]
    if differing:
        yield from ("", "## What differs", "", *(f"- {_escaped(str(departure))}" for departure in differing))
    if verdict.compared:
        yield from (
            "",
            "## Comparisons",
            "",
            "| | champion | candidate | change | interval | alarm line | tolerance | |",
        )
        yield "|---|---:|---:|---:|---|---:|---:|---|"
        yield from (_row(finding) for finding in verdict.compared)
    if verdict.moved:
        yield from ("", "## Examples that moved most", "", "| | row | champion | candidate |", "|---|---:|---:|---:|")
        yield from (
            f"| {_escaped(title(m.method, m.metric))} | {m.row_index} | {m.champion:.4g} | {m.candidate:.4g} |"
            for m in verdict.moved[:_SHOWN]
        )


def _row(finding: Finding) -> str:
    numbers = f"{finding.champion:.4g} | {finding.candidate:.4g} | {finding.delta:+.4g}"
    interval = f"[{finding.low:+.4g}, {finding.high:+.4g}]"
    expected = f"{finding.line:.3g} | {finding.tolerance:g}"
    return f"| {_escaped(finding.title)} | {numbers} | {interval} | {expected} | {finding.level} |"


def _escaped(text: str) -> str:
    """Text that starts nothing in Markdown or HTML, and stays on its line."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
