"""The report in a real browser: needs chromium (HEADLIGHT_CHROMIUM or on the path) and playwright."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import build_report

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=window.hijacked=1>"


def opened(browser: Any, folder: Path, attention: int = 0, **options: Any) -> Iterator[Any]:
    """The report's page; fails if anything on it raised, asked, or reached for the network."""
    page, complaints = browser.new_page(**options), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(build_report(folder, texts="full", examples=5, attention=attention).as_uri())
    yield page
    assert page.evaluate("window.hijacked") is None
    assert complaints == []
    page.close()


@pytest.fixture
def page(browser: Any, run_folder: Path) -> Iterator[Any]:
    yield from opened(browser, run_folder)


@pytest.fixture
def qa_page(browser: Any, qa_run_folder: Path) -> Iterator[Any]:
    yield from opened(browser, qa_run_folder)


def test_methods_switch_and_markup_in_tokens_stays_text(page: Any) -> None:
    page.locator("#text-order").select_option("data")
    first = page.locator("#cards .card").first
    before = first.locator(".token").evaluate_all("tokens => tokens.map(t => t.title)")
    page.locator("#text-method").select_option(label="gradcam")
    after = first.locator(".token").evaluate_all("tokens => tokens.map(t => t.title)")
    assert len(before) == len(after)
    assert before != after
    assert HOSTILE in first.locator(".text").inner_text()
    assert page.locator("img").count() == 0


def test_all_methods_of_a_text_are_shown_on_demand(page: Any) -> None:
    page.locator("#text-order").select_option("data")
    page.locator("#cards .card button").first.click()
    assert page.locator("#cards .card .all h4").count() == 8
    assert page.locator("#cards .card .all .text").first.inner_text().count(HOSTILE) == 1
    page.locator("#cards .card button").first.click()
    assert page.locator("#cards .card .all h4").count() == 0


def test_cards_are_ordered_filtered_and_continued(page: Any) -> None:
    assert page.locator("#cards .card").count() == 5
    page.locator("#text-more").click()
    assert page.locator("#cards .card").count() == 10
    values = page.locator("#cards .card .facts").all_inner_texts()
    found = [float(text.split("AOPC")[1].split()[0].replace("−", "-")) for text in values]
    assert found == sorted(found, reverse=True)
    page.locator("#text-find").fill("src=x")
    assert page.locator("#cards .card").count() == 1


def test_undefined_scores_are_said(page: Any) -> None:
    page.locator("#text-order").select_option("data")
    page.locator("#text-method").select_option(label="attcat")
    assert page.locator("#cards .card").nth(2).get_by_text("no defined scores").count() == 1


def test_headings_sort_methods_and_controls_apart(page: Any) -> None:
    def names() -> list[str]:
        return page.locator("#board tbody[data-sort] tr th span:first-child").evaluate_all(
            "all => all.map(e => e.textContent)"
        )

    before = names()
    page.locator("#board thead button").first.click()
    methods = 5
    assert names()[:methods] == before[:methods][::-1]
    assert names()[methods:] == before[methods:][::-1]
    assert page.locator("#board th[aria-sort=ascending]").count() == 1


def test_the_legend_switches_lines_and_the_pointer_reads_values(page: Any) -> None:
    button, line = page.locator(".legend button").first, page.locator("g[data-method=mask_lrp]")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not line.is_visible()
    page.locator(".plot svg").first.hover(position={"x": 200, "y": 100})
    readout = page.locator(".readout").first.inner_text()
    assert "% of the tokens" in readout
    assert "random" in readout
    assert "mask_lrp\t" not in readout


def test_a_head_tells_its_roles_and_a_role_its_scores(page: Any) -> None:
    cell = page.locator("#heads tbody td.syn").first
    cell.hover()
    assert "nsubj: dep → head 0.93 (baseline 0.45, selected)" in page.locator("#head-detail").inner_text()
    page.locator("#head-role").select_option(value="positional:-1")
    assert cell.inner_text() != "nsubj"
    page.locator("#head-role").select_option(value="")
    assert cell.inner_text() == "nsubj"


def test_question_and_context_stand_apart_with_the_answer_marked(qa_page: Any) -> None:
    qa_page.locator("#text-order").select_option("data")
    first = qa_page.locator("#cards .card").first
    assert first.locator(".second").count() == 1
    assert first.locator(".second .gold").count() == 2
    assert "✓ correct" in first.inner_text()


@pytest.mark.parametrize("width", [380, 1200])
def test_nothing_is_wider_than_the_window(browser: Any, run_folder: Path, width: int) -> None:
    for page in opened(browser, run_folder, viewport={"width": width, "height": 800}):
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_texts_are_readable_in_both_schemes(browser: Any, run_folder: Path) -> None:
    """Contrast of the strongest tokens with their background, WCAG 2.2: at least 4.5."""
    contrast = """() => {
      const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
      const light = (c) => { const l = c.slice(0, 3).map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
      const paper = rgb(getComputedStyle(document.body).backgroundColor);
      return Math.min(...[...document.querySelectorAll(".card .token:not(.special)")].map((token) => {
        const style = getComputedStyle(token), [r, g, b, a = 1] = rgb(style.backgroundColor);
        const [x, y] = [light(rgb(style.color)), light([r, g, b].map((v, i) => a * v + (1 - a) * paper[i]))];
        return (Math.max(x, y) + .05) / (Math.min(x, y) + .05);
      }));
    }"""  # noqa: E501
    for scheme in ("light", "dark"):
        for page in opened(browser, run_folder, color_scheme=scheme):
            assert page.evaluate(contrast) >= 4.5


def test_one_head_on_one_text(browser: Any, tmp_path: Path) -> None:
    """Clicks on heads and tokens, and arrow keys, show whom a token attends to."""
    from explore_runs import explored_run

    folder = Path(explored_run(tmp_path))
    for page in opened(browser, folder, attention=2):
        told = page.locator("#attention-told")
        before = told.inner_text()
        page.locator("#attention-head").select_option("1.2")
        assert told.inner_text() != before
        page.locator("#attention .token").nth(2).click()
        assert "“film” (outlined) attends to" in told.inner_text()
        page.keyboard.press("ArrowRight")
        assert "“was” (outlined) attends to" in told.inner_text()
        page.locator("#heads td").nth(6).click()
        assert "Head 0.0" not in told.inner_text()
        page.locator("#attention-text").select_option("1")
        assert page.locator("#attention .token").count() > 8
