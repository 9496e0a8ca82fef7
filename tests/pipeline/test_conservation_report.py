"""What conservative methods conserve is a table of the run and a section of its report, and only where there is one."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import save_tiny

from attribution import Explainer
from attribution.conservation import FACTS, conservation
from pipeline.conservation import conservation_table, conserved_facts
from pipeline.execution import make_progress
from pipeline.report import build_report
from pipeline.run import run
from pipeline.runs import Run
from pipeline.schemas import CONSERVATION
from pipeline.validate import load_config

COMMON = [
    "explain.hide_separators=true",
    "evaluation.controls=[]",
    "evaluation.metrics=[aopc]",
    "attribution.plain.method=gradcam",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


def folder_of(model, where, *methods):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        overrides = [*tiny_overrides(model, where), *COMMON, *methods]
        result = run(load_config(overrides), overrides, make_progress(silent=True))
        assert result.exit_code == 0
        return result.folder.resolve()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    where = tmp_path_factory.mktemp("conservation")
    return folder_of(model, where, "attribution.whole.method=lrp_ah_ln", "attribution.half.method=attn_lrp")


def test_the_table_is_what_the_facts_of_all_examples_say(folder, model):
    table = pq.read_table(folder / "conservation.parquet")
    assert table.schema.equals(CONSERVATION)
    rows = {row.pop("method"): row for row in table.to_pylist()}
    assert set(rows) == {"whole", "half"}
    assert rows["whole"]["n"] == len(TEXTS)
    assert abs(rows["whole"]["lost"]) < 1e-4
    assert abs(rows["half"]["lost"]) > 1e-3
    attributions = Run(folder).table("attributions").to_pylist()
    sums = [sum(row["scores"]) for row in attributions if row["method"] == "whole"]
    relevance = conserved_facts(Run(folder).table("attributions"))["whole"]["relevance"]
    assert relevance.tolist() == pytest.approx(sums, abs=1e-5)


def test_the_numbers_are_those_of_the_explainer(folder, model):
    run_ = Run(folder)
    examples = {row["item_id"]: row["input_ids"] for row in run_.table("examples").to_pylist()}
    explainer = Explainer.from_pretrained(model)
    for row in run_.table("attributions").to_pylist():
        if row["method"] != "half":
            continue
        ids = torch.tensor([examples[row["item_id"]]])
        mask = (ids != explainer.tokenizer.sep_token_id).long()  # separators are hidden while explaining
        scored = explainer.scored_many(ids, mask, methods={"m": "attn_lrp"}, target=row["target"])["m"]
        known = {fact["name"]: fact["value"] for fact in row["facts"]}
        assert known == {name: pytest.approx(scored.facts[name].item(), abs=1e-4) for name in FACTS}


def test_the_report_shows_a_row_and_a_point_for_each_text(folder):
    page = build_report(folder, texts="none", examples=3).read_text()
    section = page[page.index('id="conservation"') :].split("</section>")[0]
    assert section.count("<figure>") == 2
    assert section.count("<circle ") == 2 * len(TEXTS)
    assert ">whole<" in section
    assert ">plain<" not in section


def test_a_run_without_such_a_method_has_neither(model, tmp_path):
    folder = folder_of(model, tmp_path)
    assert not (folder / "conservation.parquet").exists()
    assert 'id="conservation"' not in build_report(folder, texts="none", examples=3).read_text()


def test_examples_that_are_not_finite_are_left_out(folder):
    table = Run(folder).table("attributions")
    rows = [row for row in table.to_pylist() if row["method"] == "whole"]
    rows[0]["facts"] = [{**fact, "value": float("nan")} for fact in rows[0]["facts"]]
    broken = type(table).from_pylist(rows, schema=table.schema)
    (row,) = conservation_table(broken).to_pylist()
    assert row["n"] == len(TEXTS) - 1
    kept = {name: values.tolist() for name, values in conserved_facts(broken)["whole"].items()}
    assert row["slope"] == pytest.approx(conservation(kept).slope)
