"""The explorer in a real browser: needs chromium (HEADLIGHT_CHROMIUM or on the path) and playwright."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
import pytest
from explore_runs import explored_run
from pattern_runs import go

from attribution.explainer import Explainer
from attribution.model.inputs import Inputs
from attribution.patterns import PatternFile, pattern_relevance
from attribution.patterns.predicates import read_predicate
from pipeline.explore.saving import Notebook
from pipeline.explore.server import guarded, listen, opened
from pipeline.runs import Run

pytestmark = pytest.mark.browser
ASKED = "409 (Conflict)"  # the server asks before it replaces a file, which Chromium calls an error
PATIENCE = 120_000  # ms: the machine may be busy
BEFORE = {"offset": [-3, -1]}
BUILT = {"and": [BEFORE, {"not": {"key": "special"}}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(explored_run(tmp_path_factory.mktemp("explored")))


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on a port of its own."""
    import uvicorn

    save = tmp_path_factory.mktemp("found") / "patterns.yaml"
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    app = guarded(opened(Run(folder), 200), Notebook(save), host="127.0.0.1", port=port, token=None)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    yield from opened_page(browser, address)


def opened_page(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page; fails if anything on it raised, complained, or asked another server."""
    page, complaints = browser.new_page(**options), []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.extend([told.text] * (told.type == "error" and ASKED not in told.text)))
    page.on(
        "request", lambda asked: complaints.append(asked.url) if not asked.url.startswith((address, "blob:")) else None
    )
    page.goto(address)
    page.locator("body[data-ready=yes]").wait_for()
    page.locator("#keys table").wait_for()
    yield page
    assert page.evaluate("() => window.hijacked === undefined")
    assert complaints == []
    page.close()


def cell(page: Any, layer: int, head: int) -> Any:
    return page.locator(f"#grid tbody tr:nth-child({layer + 1}) td[role=gridcell]").nth(head)


def shot(page: Any, name: str) -> None:
    """Pictures for people, where somebody asks for them."""
    if folder := os.environ.get("HEADLIGHT_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def numbers(text: str) -> list[float]:
    return [float(each.replace("−", "-")) for each in re.findall(r"[−-]?\d*\.\d+", text)]


def test_from_a_head_to_a_pattern_that_runs(page: Any, folder: Path, tmp_path: Path) -> None:
    """Open, pick a head, click tokens, build a predicate, save it, and put it into the model by a run."""
    cell(page, 1, 2).click()
    assert cell(page, 1, 2).get_attribute("aria-selected") == "true"
    page.locator("#chosen").get_by_text("Head 1.2").wait_for()

    explainer = Explainer.from_pretrained(Run(folder).config["model"]["path"], device="cpu")
    page.locator("#strip .token").nth(3).click()
    page.locator("#text-hint").get_by_text("“was” attends").wait_for()
    given = explainer.tokenizer(["the film was good ."], return_tensors="pt")
    row = explainer.adapter.attentions(Inputs.from_mapping(given))[1][0, 2, 3]
    page.locator(f"#strip .token[title='good  {row[4]:.3f}']").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator("#text-hint").get_by_text("“good” attends").wait_for()

    builder = page.locator("#builder")
    builder.get_by_label("from").fill("-3")
    builder.get_by_role("button", name="Add a block").click()
    block = builder.locator(".block").nth(1)
    block.get_by_label("kind of block").select_option("key")
    block.get_by_label("of class").select_option("special")
    block.get_by_label("not", exact=True).check()
    page.locator("#relevance").get_by_text("offset −3 to −1 and not (key is special)").wait_for()
    page.locator("#relevance .gauge").wait_for()
    texts = [text["text"] for text in Run(folder).table("examples").to_pylist()]
    batch = explainer.tokenizer(texts, padding=True, return_tensors="pt")
    wanted = float(pattern_relevance(explainer.adapter, [batch], {"": read_predicate(BUILT)}, seeds=()).scores[0, 1, 2])
    shown = page.locator("#relevance .gauge tr").last.inner_text()
    assert numbers(shown.split("\t", 1)[1])[0] == pytest.approx(wanted, abs=6e-4)
    assert page.locator("#metric").input_value() == "live"
    page.locator("#extremes .texts button").nth(1).click()

    page.get_by_role("button", name="Switch off").click()
    page.locator("#sides > div").nth(1).wait_for()
    page.get_by_role("button", name="undo head 1.2").click()

    page.locator("#pattern-name").fill("behind")
    page.locator("#pattern-why").fill("<b>words</b> look back")
    page.locator("#seen").click()
    page.locator("#keep-it").click()
    page.locator("#kept").get_by_text("<b>words</b> look back").wait_for()
    page.locator("#person").fill("Ann")
    page.locator("#chosen-why").fill("seen in all texts")
    page.locator("#save-it").click()
    told = page.locator("#saved .done").inner_text()
    shot(page, "explorer-wide")

    saved = Path(told.removeprefix("Saved to ").split(";")[0])
    file = PatternFile.load(saved)
    assert file.patterns["behind"].seen_in == ("1.2",)
    assert file.patterns["behind"].why == "<b>words</b> look back"
    assert (file.chosen_by.person, file.chosen_by.why) == ("Ann", "seen in all texts")
    assert file.plain()["patterns"]["behind"]["pred"] == BUILT

    page.locator("#save-it").click()  # what is there is not replaced unasked
    page.locator("#replace").get_by_role("button", name="Keep it").click()
    page.locator("#saved").get_by_text("Nothing was replaced.").wait_for()
    page.locator("#save-it").click()
    page.locator("#replace").get_by_role("button", name="Replace it").click()
    page.locator("#saved .done").wait_for()

    done = go(overrides(folder, tmp_path / "out", saved))
    arms = Run(done.folder).table("arms").to_pylist()
    assert {"base", "patterns", "random_patterns", "random_heads"} <= {arm["arm"] for arm in arms}


def overrides(folder: Path, root: Path, patterns: Path) -> list[str]:
    """The run that was explored once more, with what was found in it."""
    config = Run(folder).config
    return [
        "model=local", f"model.path={config['model']['path']}", "dataset=local",
        f"dataset.path={config['dataset']['path']}",
        "heads=all", "attribution=none", "+attribution.ixg=input_x_gradient", "evaluation.metrics=[aopc]",
        "evaluation.controls=[]", "tracking=none", "errors.method=null", "++model.label_map.positive=1",
        "++model.label_map.negative=0", f"paths.root={root}", f"patterns.path={patterns}", "patterns.random_seeds=[0]",
        "patterns.in_place=true", "patterns.control_seeds=[0]",
    ]  # fmt: skip


def test_heads_by_keyboard(page: Any) -> None:
    cell(page, 0, 0).click()
    for key, (layer, head) in (("ArrowDown", (1, 0)), ("ArrowRight", (1, 1)), ("ArrowUp", (0, 1)), ("ArrowUp", (0, 1))):
        page.keyboard.press(key)
        page.locator("#chosen").get_by_text(f"Head {layer}.{head}").wait_for()
        assert cell(page, layer, head).evaluate("(cell) => cell === document.activeElement")


def test_heads_by_rank(page: Any) -> None:
    """From the highest value down to the lowest, and up again."""
    page.locator("#metric").select_option("run:importance:gate_grad")
    with page.expect_download() as saved:
        page.locator("#csv").click()
    table = pa_csv.read_csv(saved.value.path())
    column = table["run:importance:gate_grad"].to_numpy()
    order = [(int(table["layer"][at].as_py()), int(table["head"][at].as_py())) for at in np.argsort(-column)]
    cell(page, *order[0]).click()
    for layer, head in order[1:]:
        page.locator("#lower").click()
        page.locator("#chosen").get_by_text(f"Head {layer}.{head}").wait_for()
    page.locator("#lower").click()  # nothing is lower
    page.locator("#higher").click()
    page.locator("#chosen").get_by_text("Head {}.{}".format(*order[-2])).wait_for()


def test_how_much_of_each_row_a_pattern_holds(page: Any, folder: Path) -> None:
    cell(page, 1, 2).click()
    page.locator("#colours").select_option("mass")
    page.locator("#text-hint").get_by_text("of this row").wait_for()
    explainer = Explainer.from_pretrained(Run(folder).config["model"]["path"], device="cpu")
    given = explainer.tokenizer(["the film was good ."], return_tensors="pt")
    attention = explainer.adapter.attentions(Inputs.from_mapping(given))[1][0, 2]
    wanted = attention.diagonal(-1)  # offset -1, which the page begins with: of the second token and all after it
    for at, mass in enumerate(wanted, start=1):
        page.locator(f"#strip .token:nth-child({at + 1})[title$='  {mass:.3f}']").wait_for()


def test_views_levels_and_special_tokens(page: Any) -> None:
    for view in ("maps", "text", "offsets"):
        page.locator("#view").select_option(view)
        page.locator("#grid canvas").nth(11).wait_for()
    page.locator("#document").select_option("5")
    page.locator("#strip .token").nth(19).wait_for()
    whole = page.locator("#strip .token").count()
    page.locator("#level").select_option("word")
    page.locator("#text-hint").get_by_text("added up over its tokens").wait_for()
    words = page.locator("#strip .token").count()
    assert words < whole
    page.locator("#specials").check()
    page.locator("#text-hint").get_by_text("Special tokens are hidden").wait_for()
    assert page.locator("#strip .token").count() == words - 2
    page.locator("#renormalise").check()
    page.locator("#text-hint").get_by_text("these are not the model's weights").wait_for()


def test_numbers_leave_the_page_as_tables_and_pictures(page: Any) -> None:
    with page.expect_download() as saved:
        page.locator("#csv").click()
    rows = Path(saved.value.path()).read_text().splitlines()
    assert len(rows) == 1 + 12
    assert rows[0].startswith("layer,head,")
    assert "run:importance:gate_grad" in rows[0]
    with page.expect_download() as saved:
        page.locator("#svg").click()
    picture = Path(saved.value.path()).read_text()
    assert picture.startswith("<svg ")
    assert picture.count("<rect") == 1 + 12


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_of_the_explorer_is_wider_than_the_window(browser: Any, address: str, width: int) -> None:
    for page in opened_page(browser, address, viewport={"width": width, "height": 800}):
        page.get_by_role("button", name="Add a group").first.click()
        page.locator("#numbers").check()
        page.locator("details summary").evaluate_all(
            "(all) => all.forEach((each) => { each.parentElement.open = true; })"
        )
        page.locator("#relevance .gauge").wait_for()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        shot(page, f"explorer-{width}")


def test_all_that_can_be_worked_has_a_name_and_shows_its_focus(page: Any) -> None:
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, select, textarea, [tabindex]")]
      .filter((each) => each.offsetParent && !(each.ariaLabel || each.labels?.length || each.textContent.trim() || each.title))
      .map((each) => each.outerHTML)""")  # noqa: E501
    assert unnamed == []
    page.locator("#metric").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
