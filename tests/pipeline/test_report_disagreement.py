"""The texts on which methods differ most: in the report and on the page of `headlight compare`."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.report.build import render
from pipeline.runs import Run

SECTION = re.compile(r'id="disagreement">(.*?)</section>', re.S)


@pytest.fixture
def opposed(make_run):
    """A run in which `gradcam` gives the opposite of `mask_lrp` on the fourth text and the same on all others."""
    folder = make_run("opposed", n=8, methods=["mask_lrp", "gradcam", "random"])
    path = folder / "attributions.parquet"
    rows = pq.read_table(path).to_pylist()
    scores = {row["item_id"]: row["scores"] for row in rows if row["method"] == "mask_lrp"}
    fourth = Run(folder).table("examples")["item_id"][3].as_py()
    for row in rows:
        if row["method"] == "gradcam":
            sign = -1 if row["item_id"] == fourth else 1
            row["scores"] = [sign * score for score in scores[row["item_id"]]]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    return folder


def test_the_text_with_opposite_maps_comes_first_side_by_side(opposed):
    (section,) = SECTION.findall(render(Run(opposed), "full", 3))
    first = section.split("<li")[1]
    assert "<b>#3</b>" in first
    assert "of these two −1.00" in first
    assert re.findall("<h4>(\\w+)", first) == ["mask_lrp", "gradcam"]
    assert first.count("AOPC") == 2
    assert "random" not in section
    assert "[CLS]" not in section
    assert "<img" not in section  # texts are shown, never interpreted


def test_no_more_texts_than_the_report_may_show(opposed):
    (section,) = SECTION.findall(render(Run(opposed), "none", 3))
    assert "<li" not in section
    (section,) = SECTION.findall(render(Run(opposed), "sample", 2))
    assert section.count("<li") == 2


def test_methods_are_in_a_tree_of_who_says_the_same(opposed):
    for texts in ("full", "none"):
        (section,) = SECTION.findall(render(Run(opposed), texts, 3))
        assert "Who says the same" in section
        assert section.count("<path") == 1  # two methods join once
        assert re.findall(r"<td>([^<]+)</td>", section) == ["1.00", "0.75", "0.75", "1.00"]  # 7 of 8 texts agree


def test_one_method_alone_has_none_to_differ_from(make_run):
    assert not SECTION.findall(render(Run(make_run("alone", methods=["gradcam", "random"])), "full", 3))


def test_compare_writes_a_page(opposed, make_run, tmp_path, capsys):
    page = tmp_path / "verdict.html"
    assert main(["compare", str(opposed), str(make_run("other")), "--page", str(page)]) == 0
    assert f"page: {page}" in capsys.readouterr().out
    content = page.read_text("utf-8")
    assert content.count("Where methods differ") == 2
    assert content.count("Win matrix") == 3  # of each, and over both
    assert "Over all runs" in content
    assert "<script>" not in content
    assert main(["compare", str(opposed), "--page", str(tmp_path / "none" / "verdict.html")]) == 4
    assert "verdict.html cannot be written: No such file or directory" in capsys.readouterr().err
