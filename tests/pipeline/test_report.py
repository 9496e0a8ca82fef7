from __future__ import annotations

import base64
import html.parser
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.report import build_report
from pipeline.report.curves import mean_curves
from pipeline.report.finding import finding
from pipeline.report.html import Safe, data_script, interval, join, number, signed, tag
from pipeline.report.shares import kind_shares, token_kind
from pipeline.report.texts import Texts
from pipeline.runs import Run
from pipeline.standing import Standing, best, is_control

HOSTILE = "<img src=x onerror=window.hijacked=1>"
MakeRun = Callable[..., Path]


class Elements(html.parser.HTMLParser):
    """Every element of a page with its attributes, and the text of each script and style."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page(folder: Path, texts: str = "full", examples: int = 5) -> str:
    return build_report(folder, texts=texts, examples=examples).read_text()


def embedded(content: str, name: str) -> Any:
    return json.loads(re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', content, re.S)[0])


def visible(content: str) -> str:
    """The page's own text, without markup, styles and scripts."""
    content = re.sub(r"<(script|style).*?</\1>", "", content, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", " ", content))


@pytest.mark.parametrize("task", ["run_folder", "qa_run_folder"])
def test_the_page_needs_nothing_but_itself(task: str, request: pytest.FixtureRequest) -> None:
    found = Elements(page(request.getfixturevalue(task))).found
    assert not [name for name, _ in found if name in {"link", "iframe", "object", "embed", "img", "base"}]
    assert not [
        attributes for _, attributes in found if "src" in attributes or any(key.startswith("on") for key in attributes)
    ]
    assert all(attributes["href"].startswith("#") for name, attributes in found if name == "a")


def test_hostile_text_is_text_wherever_it_stands(run_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    record = json.loads((folder / "manifest.json").read_text())
    record |= {"name": HOSTILE, "failures": [{"item": HOSTILE}]}
    record["dataset"] |= {"notes": [HOSTILE], "name": HOSTILE}
    record["model"]["labels"] = {"0": HOSTILE, "1": "</script><b>x</b>"}
    (folder / "manifest.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(f"name: '{HOSTILE}'\n")
    content = page(folder)
    assert "<img" not in content
    assert "</script><b>" not in content
    assert content.count("&lt;img src=x onerror=window.hijacked=1&gt;") >= 5
    assert embedded(content, "text-data")["labels"]["0"] == HOSTILE


def test_texts_full_embeds_all_and_sample_only_as_many_as_asked(run_folder: Path) -> None:
    assert len(embedded(page(run_folder, "full"), "text-data")["items"]) == 12
    assert len(embedded(page(run_folder, "sample", 4), "text-data")["items"]) == 4


def test_texts_none_leaves_no_token_of_the_data(run_folder: Path) -> None:
    content = page(run_folder, "none")
    words = {
        word
        for text in pq.read_table(run_folder / "examples.parquet")["text"].to_pylist()
        for word in re.findall(r"\w{6,}", text)
    }
    assert len(words) > 8
    assert not [word for word in words if word in content]
    assert "report.texts=none" in content


def test_sample_texts_hold_the_best_and_the_worst_case_of_a_method(run_folder: Path) -> None:
    data = embedded(page(run_folder, "sample", 4), "text-data")
    rows = [
        row
        for row in Run(run_folder).table("values").to_pylist()
        if (row["method"], row["metric"]) == ("mask_lrp", "aopc")
    ]
    values = data["values"][data["methods"].index("mask_lrp")]
    assert max(values) == pytest.approx(max(row["value"] for row in rows), rel=5e-3)
    assert min(values) == pytest.approx(min(row["value"] for row in rows), rel=5e-3)


def test_embedded_scores_are_those_of_the_table(run_folder: Path) -> None:
    data, run = embedded(page(run_folder), "text-data"), Run(run_folder)
    packed, start = np.frombuffer(base64.b64decode(data["base64"]), "<i2").astype(float), 0
    expected = {(row["method"], row["item_id"]): row["scores"] for row in run.table("attributions").to_pylist()}
    items = run.table("examples").to_pylist()
    for m, method in enumerate(data["methods"]):
        for i, item in enumerate(data["items"]):
            scores, scale = packed[start : start + len(item["t"])], data["scales"][m * len(data["items"]) + i]
            start += len(item["t"])
            truth = np.array(expected[method, items[item["i"]]["item_id"]])
            if np.isnan(truth).any():
                assert (scores == -32768).all()
            else:
                np.testing.assert_allclose(scores / 32767 * scale, truth, rtol=6e-3, atol=scale * 2e-5)
    assert start == len(packed)


def test_tokens_are_joined_as_the_text_spells_them(run_folder: Path) -> None:
    item = embedded(page(run_folder), "text-data")["items"][0]
    text = Run(run_folder).table("examples")["text"][0].as_py()
    assert "".join(item["t"]) == f" [CLS] {text} [SEP]"
    assert item["k"][0] == item["k"][-1] == "s"
    pieces = [item["t"][i - 1].lstrip() + item["t"][i] for i, joined in enumerate(item["j"]) if joined == "1"]
    assert pieces
    assert all(piece in text for piece in pieces)


def test_question_answering_shows_context_and_gold_answer(qa_run_folder: Path) -> None:
    content = page(qa_run_folder)
    item = embedded(content, "text-data")["items"][0]
    assert item["t"][item["b"]].strip() == "A"
    assert item["g"] == [item["b"] + 1, item["b"] + 2]
    assert "has the best answer recall" in visible(content)


def test_the_first_sentence_comes_from_the_numbers(run_folder: Path) -> None:
    run = Run(run_folder)
    row = next(
        r
        for r in run.table("metrics").to_pylist()
        if (r["method"], r["metric"], r["against"]) == ("mask_lrp", "aopc", None)
    )
    expected = f"mask_lrp has the best AOPC ({row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}])"
    assert expected in visible(page(run_folder))


def measured(method: str, value: float, half: float, against: str | None = None, metric: str = "aopc") -> Standing:
    return Standing(method, metric, value, value - half, value + half, 10, 0, against)


def test_a_difference_whose_interval_holds_zero_is_not_called_better() -> None:
    entries = [
        measured("mask_lrp", 0.41, 0.02),
        measured("gradcam", 0.3, 0.02),
        measured("mask_lrp", 0.01, 0.015, "mask_lrp_random_*"),
        measured("mask_lrp", 0.2, 0.05, "random"),
    ]
    assert finding(entries, {}) == [
        "mask_lrp has the best AOPC (0.410 [0.390, 0.430]); clear of the next, gradcam (0.300).",
        "mask_lrp beats random scores by 0.200 [0.150, 0.250].",
        "mask_lrp is not distinguishable from random head masks (difference 0.010 [−0.005, 0.025]).",
    ]


def test_single_random_masks_are_counted() -> None:
    differences = ((0.1, 0.01), (0.0, 0.01), (-0.1, 0.01))
    entries = [measured("mask_lrp", 0.4, 0.02)]
    entries += [
        measured("mask_lrp", value, half, f"mask_lrp_random_{i}") for i, (value, half) in enumerate(differences)
    ]
    expected = "mask_lrp beats 1 of 3 random head masks, is worse than 1, not distinguishable from 1."
    assert finding(entries, {})[-1] == expected


def test_a_loss_is_called_one() -> None:
    entries = [measured("a", 0.3, 0.02), measured("a", -0.1, 0.02, "random")]
    assert finding(entries, {})[1] == "a is worse than random scores by 0.100 [0.080, 0.120]."


def test_masks_of_any_name_are_compared_with_random_masks() -> None:
    entries = [measured("both", 0.4, 0.02), measured("nsubj", 0.3, 0.02)]
    entries += [measured(label, 0.1, 0.01, "mask_lrp_random_*") for label in ("both", "nsubj")]
    assert finding(entries, {})[1:] == ["both beats random head masks by 0.100 [0.090, 0.110]."]


def test_a_falling_metric_is_reported_as_a_gain() -> None:
    entries = [measured("a", -2.0, 0.1, metric="log_odds"), measured("a", -1.5, 0.1, "random", metric="log_odds")]
    assert finding(entries, {})[1] == "a beats random scores by 1.500 [1.400, 1.600]."


def test_controls_are_never_the_best_method() -> None:
    entries = [measured("random", 0.9, 0.1), measured("lrp_random_1", 0.8, 0.1), measured("gradcam", 0.1, 0.01)]
    leader = best(entries, {})
    assert leader is not None
    assert leader.method == "gradcam"
    assert is_control("mine", {"methods": {"mine": {"method": "mask_lrp", "params": {"head_mask": "random(3)"}}}})
    assert not is_control("mine", {"methods": {"mine": {"method": "mask_lrp", "params": {"head_mask": "both"}}}})


def test_the_leaderboard_marks_direction_best_and_controls(run_folder: Path) -> None:
    content = page(run_folder)
    table = re.findall(r'<table class="board" id="board">.*?</table>', content, re.S)[0]
    assert 'data-direction="↑" aria-sort="descending"' in table
    assert 'data-direction="↓"' in table
    assert table.index(">mask_lrp<") < table.index(">Controls<") < table.index(">random<")
    assert table.count('class="tag best"') == 4
    assert 'class="tag" title="the same whatever class is explained">class-blind' in table


def test_heads_stand_in_a_grid_and_in_a_table(run_folder: Path) -> None:
    content = page(run_folder)
    chosen = [row for row in Run(run_folder).table("heads").to_pylist() if row["selected"]]
    assert f"{len(chosen)} selected roles of heads" in content
    assert "nsubj: dep → head" in visible(content)
    grid = np.array(embedded(content, "head-scores")["positional:-1"])
    assert grid.shape == (4, 6)
    assert grid.max() == pytest.approx(0.93)


def test_a_run_without_optional_tables_has_a_report(run_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    for name in ("heads", "curves", "values", "metrics"):
        (folder / f"{name}.parquet").unlink()
    content = page(folder)
    assert "No method was scored." in content
    assert '<section id="curves">' not in content


def test_a_large_run_stays_within_the_budget(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(n=30)
    monkeypatch.setattr("pipeline.report.texts.BUDGET", 20_000)
    content = page(folder)
    shown = len(embedded(content, "text-data")["items"])
    assert 5 < shown < 30
    assert f"{shown} of 30 texts are in this page." in content
    assert len(re.findall(r'id="text-data">(.*?)</script>', content, re.S)[0]) < 22_000


def test_notes_name_truncation_and_undefined_scores(run_folder: Path) -> None:
    text = visible(page(run_folder))
    assert "7 tokens were cut off" in text
    assert "attcat has no defined scores for 1 of 12 texts" in text


def test_the_report_is_replaced_as_a_whole(run_folder: Path) -> None:
    assert page(run_folder) == page(run_folder)
    assert [path.name for path in run_folder.glob("*.new")] == []


def test_mean_curves_average_over_examples_and_start_at_the_intact_input() -> None:
    rows = [
        {
            "method": "m",
            "curve": "aopc",
            "operator": "mask",
            "intact_probability": [p],
            "levels": [0.5, 1.0],
            "probabilities": [p / 2, 0.0],
        }
        for p in (0.8, 0.6)
    ]
    (curve,) = mean_curves(pa.Table.from_pylist(rows))
    np.testing.assert_allclose(curve.mean, [0.7, 0.35, 0.0])
    np.testing.assert_allclose(curve.levels, [0, 0.5, 1])
    np.testing.assert_allclose(curve.half[0], 1.96 * np.std([0.8, 0.6], ddof=1) / 2**0.5)


def test_mean_curves_take_start_and_end_together_and_bear_shorter_texts() -> None:
    common = {"method": "m", "curve": "aopc", "operator": "mask"}
    rows = [
        common | {"intact_probability": [1.0, 0.5], "levels": [0.5, 1.0], "probabilities": [0.4, 0.2, 0.1, 0.1]},
        common | {"intact_probability": [1.0, 1.0], "levels": [0.5], "probabilities": [0.5, 0.5]},
    ]
    (curve,) = mean_curves(pa.Table.from_pylist(rows))
    np.testing.assert_allclose(curve.mean, [0.875, 0.4, 0.1])


def test_a_curve_of_kept_tokens_ends_at_the_intact_input() -> None:
    row = {"method": "m", "curve": "sufficiency", "operator": "mask", "intact_probability": [0.9]}
    (curve,) = mean_curves(pa.Table.from_pylist([row | {"levels": [0.1, 0.5], "probabilities": [0.2, 0.6]}]))
    np.testing.assert_allclose(curve.levels, [0.1, 0.5, 1.0])
    np.testing.assert_allclose(curve.mean, [0.2, 0.6, 0.9])


def test_shares_of_kinds() -> None:
    kinds = [
        token_kind(piece, special)
        for piece, special in ((" [CLS]", True), (" film", False), (".", False), ("n't", False))
    ]
    assert kinds == [2, 0, 1, 0]
    shares = kind_shares([np.array([2.0, -1.0, 1.0, 0.0]), np.full(4, np.nan)], [np.array(kinds)] * 2)
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5])


def test_shares_of_a_method_leave_out_undefined_scores(run_folder: Path) -> None:
    scores, kinds = Texts.of(Run(run_folder), "aopc").of_method("attcat")
    assert len(scores) == len(kinds) == 12
    shares = kind_shares(scores, kinds)
    assert shares is not None
    assert shares.sum() == pytest.approx(1)


def test_text_is_escaped_unless_built_here() -> None:
    assert tag("p", "<b>", Safe("<i></i>"), ["&", None], title='"x"', hidden=True, lang=None) == (
        '<p title="&quot;x&quot;" hidden>&lt;b&gt;<i></i>&amp;</p>'
    )
    assert join("<", tag("br")) == "&lt;<br></br>"
    assert "</script>" not in data_script({"a": "</script>"})[:-9]


def test_numbers_are_written_for_reading() -> None:
    assert (number(-0.5), number(float("nan")), signed(0.25, 2)) == ("−0.500", "–", "+0.25")
    assert interval(float("nan"), 1.0) == ""
