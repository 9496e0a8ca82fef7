"""Runs that measure patterns on sentences with dependency trees, in place of the texts that are explained."""

from __future__ import annotations

import json

import pytest
from explore_runs import write_treebank
from pattern_runs import go, table, write_patterns
from tiny_experiment import tiny_overrides

from attribution.errors import HeadlightError, InputError
from attribution.patterns import pattern_relevance
from attribution.patterns.parsed import tree_batches
from attribution.patterns.predicates import read_predicate
from pipeline.data.treebanks import load_treebank
from pipeline.plan import describe_plan
from pipeline.stages import measure_patterns
from pipeline.validate import load_config

PATTERNS = {
    "object": {"pred": {"and": [{"dependency": {"relation": "det", "direction": "head->dep"}}, {"offset": -1}]}},
    "prev": {"pred": {"offset": -1}},
    "subject": {"pred": {"dependency": {"relation": "nsubj"}}},
}


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parsed")
    return [
        *tiny_overrides(model, folder), "heads=all", f"paths.root={folder / 'outputs'}", "+attribution.random=random",
        f"patterns.path={write_patterns(folder, patterns=PATTERNS, inject=None)}", "patterns.random_seeds=[0]",
        f"patterns.trees={write_treebank(folder)}", "evaluation.metrics=[aopc]", "evaluation.controls=[]",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(base):
    return go(base).folder


@pytest.mark.parametrize("queries", ["all", "applicable"])
def test_relevance_is_the_librarys(done, base, explainer, queries):
    (path,) = [line.partition("=")[2] for line in base if line.startswith("patterns.trees=")]
    batches, names = tree_batches(explainer.adapter, load_treebank(path))
    patterns = {name: read_predicate(each["pred"]) for name, each in PATTERNS.items()}
    wanted = pattern_relevance(explainer.adapter, batches, patterns, seeds=(0,), relations=names, queries=queries)
    found = [row for row in table(done, "patterns") if row["queries"] == queries]
    expected = wanted.to_table().to_pylist()
    assert len(found) == len(expected) > 0
    assert max(row["relevance"] for row in found if row["pattern"] == "subject") > 0
    for row, other in zip(found, expected, strict=True):
        assert [row[name] for name in ("pattern", "layer", "head", "documents")] == [
            other[name] for name in ("pattern", "layer", "head", "documents")
        ]
        for name in ("relevance", "standard_error", "uniform", "random_bar"):
            assert row[name] == pytest.approx(other[name], abs=1e-5)


def test_it_is_said_on_which_sentences(done):
    notes = json.loads((done / "manifest.json").read_text())["dataset"]["notes"]
    assert "patterns were measured on 2 sentences of trees.conllu" in notes
    assert "sentences left out of trees.conllu (too long, or their words are not in them): 1" in notes


def test_nothing_is_measured_twice_and_other_trees_are_other_results(base, tmp_path):
    done = go([*base, "name=again"]).folder
    assert json.loads((done / "manifest.json").read_text())["reuse"]["measure_patterns"]["computed"] == 0
    changed = tmp_path / "trees.conllu"
    changed.write_text(
        write_treebank(tmp_path).read_text().replace("nsubj", "obj").replace("det", "nsubj").replace("obj", "det")
    )
    fresh = [*base, "name=other", f"patterns.trees={changed}"]
    assert json.loads((go(fresh).folder / "manifest.json").read_text())["reuse"]["measure_patterns"]["computed"] > 0


def test_a_plan_knows_the_sentences(base, tmp_path):
    told = describe_plan(load_config([*base, f"paths.root={tmp_path}"]))
    (line,) = [each for each in told.splitlines() if each.startswith("measure_patterns")]
    assert line == "measure_patterns: 12 results to compute in 4 tasks, 0 at hand"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["patterns.in_place=true"], r"patterns\.in_place=true: .*dependency det needs trees.*can only be measured"),
        (["patterns.path=null"], "patterns.path is missing; patterns.trees needs it"),
        (["patterns.trees=none.conllu"], "patterns.trees=none.conllu does not exist; give a file"),
        (["patterns.trees_limit=0"], "patterns.trees_limit=0 must be at least 1"),
    ],
)
def test_what_trees_do_not_help_is_refused(base, changes, message):
    with pytest.raises(InputError, match=message):
        go([*base, *changes])


def test_a_sentence_that_cannot_be_computed_is_an_error_that_says_so(base, tmp_path, monkeypatch):
    measured = measure_patterns.process

    def process(*, rows, shard, **payload):
        if 1 in shard.rows[rows]:
            raise ValueError("too sour")
        return measured(rows=rows, shard=shard, **payload)

    monkeypatch.setattr(measure_patterns, "process", process)
    with pytest.raises(HeadlightError, match=r"measure_patterns: text \w+ cannot be computed: ValueError: too sour"):
        go([*base, f"paths.root={tmp_path}"])


def test_a_relation_that_no_sentence_has_is_refused(base, tmp_path):
    mistyped = {"subject": {"pred": {"not": {"dependency": {"relation": "nsub"}}}}}
    path = write_patterns(tmp_path, patterns=mistyped, inject=None)
    with pytest.raises(InputError, match=r"patterns\.subject: patterns\.trees has no relation nsub; choose .*nsubj"):
        go([*base, f"patterns.path={path}"])
