"""The search for heads in chunks: the same heads as in one piece, and no sentence counted twice."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.heads import count_roles, head_distances, positional_heads, syntactic_heads
from pipeline.config import HeadsConfig
from pipeline.counts import arc_counts, arc_table, offset_counts, offset_table
from pipeline.data.corpora import Grammar, Treebank
from pipeline.data.grammar import grammar_treebank
from pipeline.execution import make_progress
from pipeline.head_search import Counted, default_heads
from pipeline.head_sums import distance_table, distances, role_sums, role_table
from pipeline.keys import digest
from pipeline.plan import describe_plan
from pipeline.run import run
from pipeline.schemas import HEAD_COUNTS
from pipeline.stages import identify_heads
from pipeline.stages.identify_heads import REPORT_SEED, batches, count_table, counts_of, searched_relations
from pipeline.validate import load_config

PLAIN = ["attribution.m.method=gradcam", "evaluation.controls=[]", "dataset.limit=2", "heads.sentences=40"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def explainer(model):
    return Explainer.from_pretrained(model, dtype=torch.float64)


def key_of(**content):
    return digest(content)


def lines(sentences):
    rows = [dict(zip(("text", "tokens", "head", "deprel"), sentence, strict=True)) for sentence in sentences]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def treebank(tmp_path):
    """Configuration of a search on a file with the first `n` sentences of the grammar."""

    def make(n, **settings):
        path = tmp_path / f"{n}.jsonl"
        path.write_text(lines(grammar_treebank(n, 0)))
        return HeadsConfig(source="treebank", select=str(path), **settings)

    return make


def keys(config):
    return [count.key for count in counts_of(config, key_of)]


def searched(explainer, config):
    counts = counts_of(config, key_of)
    tables = {count.key: count_table(explainer, count, count.corpus.read()) for count in counts}
    assert all(table.schema == HEAD_COUNTS for table in tables.values())
    return Counted(config, counts, tables, (explainer.adapter.n_layers, explainer.adapter.n_heads)).scores()


@pytest.mark.parametrize("size", [1, 7, 256])
def test_chunks_find_what_the_whole_search_finds(explainer, monkeypatch, size):
    monkeypatch.setattr(identify_heads, "CHUNK", size)
    relations, thresholds = ["obj", "nsubj", "amod"], {"obj": 0.1}
    config = HeadsConfig(sentences=40, relations=relations, thresholds=thresholds, positional_threshold=0.03)
    found = searched(explainer, config)
    select, report = grammar_treebank(40, 0), grammar_treebank(40, REPORT_SEED)
    texts = batches(explainer, [sentence.text for sentence in select])
    told = batches(explainer, [sentence.text for sentence in report])
    positional = positional_heads(explainer, texts, report=told, threshold=0.03)
    syntactic = syntactic_heads(explainer, select, report=report, relations=relations, thresholds=thresholds)
    assert list(found.scores) == [*positional.scores, *syntactic.scores]
    assert found.mask("positional").any()
    assert found.mask("syntactic:obj").any()
    assert found.skipped == {**positional.skipped, **syntactic.skipped}
    for whole in (positional, syntactic):
        for role, scores in whole.scores.items():
            torch.testing.assert_close(found.scores[role], scores, rtol=0, atol=1e-12)
            assert torch.equal(found.selected[role], whole.selected[role])
            assert found.count[role] == whole.count[role]
            assert found.baseline[role] == pytest.approx(whole.baseline[role], nan_ok=True, abs=1e-12)
    for role, reported in {**positional.report, **syntactic.report}.items():
        torch.testing.assert_close(found.report[role], reported, rtol=0, atol=1e-12)


def test_tables_hold_all_that_was_counted(explainer):
    counts = {count.kind: count for count in counts_of(HeadsConfig(sentences=12), key_of)}
    shape = explainer.adapter.n_layers, explainer.adapter.n_heads
    sentences = grammar_treebank(12, REPORT_SEED)
    for kind, read, write in (
        ("syntactic", arc_counts, arc_table),
        ("positional", offset_counts, offset_table),
    ):
        table = count_table(explainer, counts[kind], sentences)
        assert write(read(table, shape)).equals(table)
        assert table["quantity"].to_pylist().count("hits") > 20


def test_tables_hold_all_sums(explainer):
    shape = explainer.adapter.n_layers, explainer.adapter.n_heads
    texts = [sentence.text for sentence in grammar_treebank(12, 0)]
    sums = count_roles(explainer.adapter, batches(explainer, texts))
    back = role_sums(role_table(sums), shape)
    assert back.roles == sums.roles
    assert all(torch.equal(getattr(back, name), getattr(sums, name)) for name in ("total", "squares", "even", "texts"))
    found = head_distances(explainer, batches(explainer, texts))
    again = distances(distance_table(found), shape)
    assert torch.equal(again.total, found.total)
    assert again.texts == found.texts == 12
    assert distance_table(found).num_rows == 12 * 11 / 2 + 1


def test_controls_are_counted_beside_the_model():
    config = HeadsConfig(sentences=8, roles=["positional", "syntactic", "attention", "distance"])
    plain = counts_of(config, key_of)
    assert [(c.kind, c.split) for c in plain] == [
        ("positional", "select"), ("positional", "report"), ("syntactic", "select"), ("syntactic", "report"),
        ("attention", "select"), ("attention", "report"), ("distance", "select"),
    ]  # fmt: skip
    both = counts_of(replace(config, controls=["random_model", "shuffled_trees"], random_seeds=[3, 4]), key_of)
    added = [count for count in both if count not in plain]
    assert [(c.kind, c.split, c.seed) for c in added] == [
        ("syntactic", "shuffled_trees", None), ("syntactic", "random_model:3", 3), ("syntactic", "random_model:4", 4),
        ("attention", "random_model:3", 3), ("attention", "random_model:4", 4),
    ]  # fmt: skip
    assert len({count.key for count in both}) == len(both)


def test_all_relations_are_those_with_enough_cases(treebank):
    named = set(searched_relations(treebank(40, relations=["all"], min_cases=30)))
    fewer = set(searched_relations(treebank(40, relations=["all"], min_cases=60)))
    assert {"nsubj", "det"} <= named > fewer
    with pytest.raises(InputError, match=r"no relation has heads.min_cases=9999 arcs"):
        searched_relations(treebank(40, relations=["all"], min_cases=9999))


def test_what_only_scores_depend_on_counts_nothing_anew(treebank):
    expected = keys(treebank(10))
    assert keys(treebank(10, margin=0.3, thresholds={"obj": 0.2}, positional_threshold=0.5)) == expected
    assert keys(treebank(10, relations=["obj", "amod", "advmod", "nsubj"])) == expected
    positional, syntactic = keys(treebank(10, relations=["obj"]))
    assert positional == expected[0]
    assert syntactic != expected[1]


def test_more_sentences_keep_the_chunks_that_are_whole(treebank, monkeypatch):
    monkeypatch.setattr(identify_heads, "CHUNK", 4)
    fewer, more = set(keys(treebank(10))), set(keys(treebank(20)))
    assert len(fewer) == 2 * 3
    assert len(more) == 2 * 5
    assert len(fewer & more) == 2 * 2  # the third chunk was not full
    assert set(keys(treebank(20, limit=8))) == set(keys(treebank(10, limit=8))) == fewer & more
    assert len(set(keys(HeadsConfig(sentences=8))) & set(keys(HeadsConfig(sentences=12)))) == 4 * 2


def test_another_tree_changes_what_is_counted_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(identify_heads, "CHUNK", 4)
    sentences, path = grammar_treebank(8, 0), tmp_path / "a.jsonl"
    config = HeadsConfig(source="treebank", select=str(path))
    path.write_text(lines(sentences))
    before = keys(config)
    sentences[5] = sentences[5]._replace(deprels=["dep"] * len(sentences[5].words))
    path.write_text(lines(sentences))
    assert [old == new for old, new in zip(before, keys(config), strict=True)] == [True, True, True, False]


def test_equal_chunks_are_counted_once_and_added_as_often_as_they_occur(explainer, tmp_path, monkeypatch):
    once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"
    once.write_text(lines(grammar_treebank(6, 0)))
    twice.write_text(once.read_text() * 2)
    monkeypatch.setattr(identify_heads, "CHUNK", 6)
    config = HeadsConfig(source="treebank", select=str(twice), report=str(once))
    counts = counts_of(config, key_of)
    assert [len(counts), len({count.key for count in counts})] == [6, 2]
    found = searched(explainer, config)
    whole = searched(explainer, HeadsConfig(source="treebank", select=str(once)))
    assert found.count == {role: 2 * count for role, count in whole.count.items()}
    assert all(torch.equal(found.scores[role], whole.scores[role]) for role in whole.scores)


def test_a_treebank_that_changed_is_not_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(lines(grammar_treebank(3, 0)))
    corpus = Treebank.of(str(path), None, "heads.select")
    assert len(corpus.read()) == 3
    path.write_text(lines(grammar_treebank(4, 0)))
    with pytest.raises(InputError, match=r"a.jsonl is not the treebank that the run began with"):
        corpus.read()


def test_chunks_of_the_grammar_are_those_of_its_sentences():
    chunks = Grammar(10, 3).chunks(4)
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 4), (4, 8), (8, 10)]
    assert Grammar(10, 3).read() == grammar_treebank(10, 3)
    assert chunks[0].trees != Grammar(10, 4).chunks(4)[0].trees


def go(overrides):
    return run(load_config(overrides), overrides, make_progress())


def reuse(result):
    return json.loads((result.folder / "manifest.json").read_text())["reuse"]["identify_heads"]


def test_a_run_counts_sentences_and_only_new_ones(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(identify_heads, "CHUNK", 16)
    base = [*tiny_overrides(model, tmp_path), *PLAIN]
    plan = describe_plan(load_config(base)).splitlines()
    assert "identify_heads: 12 results to compute in 12 tasks, 0 at hand" in plan  # 16 + 16 + 8 sentences, four times
    first = go(base)
    assert "identify_heads: 160/160 sentences" in capsys.readouterr().err
    stricter = go([*base, "heads.margin=0.9", "heads.relations=[amod,obj,advmod,nsubj]", "name=stricter"])
    assert reuse(stricter) == {"computed": 0, "reused": 12}
    more = go([*base, "heads.sentences=64", "name=more"])
    assert reuse(more) == {"computed": 8, "reused": 8}
    few, many = (pq.read_table(result.folder / "heads.parquet") for result in (first, more))
    assert max(few["count"].to_pylist()) < max(many["count"].to_pylist())


def test_default_heads_are_counted_once(explainer, tmp_path, monkeypatch):
    config = HeadsConfig(sentences=24)
    monkeypatch.setattr("pipeline.head_search.HeadsConfig", lambda: config)
    found = default_heads(explainer, tmp_path)
    expected = searched(explainer, config)
    assert all(torch.equal(found.scores[role], scores) for role, scores in expected.scores.items())
    monkeypatch.setattr(Grammar, "read", partial(pytest.fail, "read again"))
    again = default_heads(explainer, tmp_path)
    assert again.to_table().equals(found.to_table())
    assert {path.name for path in Path(tmp_path, "store").iterdir()} == {"identify_heads"}
