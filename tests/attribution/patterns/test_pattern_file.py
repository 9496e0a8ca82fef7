from __future__ import annotations

import pytest

from attribution.errors import InputError
from attribution.patterns import PatternFile

FULL = """
schema: 1
patterns:
  match:
    {pred: {same_token: {casefold: true, exclude_types: [special, non_alpha]}}, why: "names repeat", seen_in: ["3.7"]}
  intra: {pred: {same_segment: sentence}, mode: mask, empty: self}
  prev: {pred: {offset: -1}, mode: fix}
  band: {pred: {and: [{offset: [-3, 3]}, {not: {key: punctuation}}, {or: [{query: first}, {query: special}]}]}}
  subject: {pred: {dependency: {relation: nsubj, direction: head->dep}}}
inject:
  target: student
  assign: {strategy: per_layer_cycle, order: [match, intra, prev], heads_per_pattern: 2}
  layers: [0, 2]
chosen_by: {person: "R. Reader", date: 2026-11-21, evidence: [gr.parquet]}
"""


def _load(tmp_path, text):
    path = tmp_path / "patterns.yaml"
    path.write_text(text)
    return PatternFile.load(path)


def test_what_is_written_reads_the_same(tmp_path):
    found = _load(tmp_path, FULL)
    found.save(tmp_path / "again.yaml")
    assert PatternFile.load(tmp_path / "again.yaml") == found
    assert found.patterns["prev"].edge == "self"
    assert found.patterns["match"].edge == "original"
    assert found.inject.layers == (0, 2)
    assert found.chosen_by.date == "2026-11-21"
    assert found.patterns["match"].seen_in == ("3.7",)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("schema: 1", "schema: 2", r"patterns.yaml.schema=2 .* write 1"),
        ("schema: 1", "", "lacks schema"),
        ("same_segment: sentence", "same_segment: sentense", r"intra.pred.same_segment=sentense .* mean sentence\?"),
        ("mode: fix", "mode: fixed", r"prev.mode=fixed is not known. Did you mean fix"),
        ("mode: fix", "mod: fix", r"prev has the key 'mod'.* Did you mean mode\?"),
        ("casefold: true", "casefold: 1", r"same_token.casefold=1 must be true or false"),
        ("offset: -1", "offset: one", r"prev.pred.offset='one' must be a whole number"),
        ("offset: -1", "offset: true", r"offset=True must be a whole number"),
        ("[-3, 3]", "[3, -3]", r"offset=\[3, -3\] must be one number, or a range"),
        ("[-3, 3]", "[1, 2, 3]", r"must be one number, or a range"),
        ("{offset: -1}", "{offset: -1, key: special}", r"prev.pred must have one block and has offset, key; join"),
        ("{offset: -1}", "{offset: -1, offset: -2}", "offset comes twice"),
        ("key: punctuation", "key: verb", r"band.pred.and\[1\].not.key=verb is not known"),
        ("relation: nsubj, ", "", r"dependency lacks relation"),
        ("direction: head->dep", "direction: up", r"direction=up is not known"),
        ("order: [match, intra, prev]", "order: [mach]", r"inject.assign names mach.* Did you mean match\?"),
        ("order: [match, intra, prev], ", "", r"strategy=per_layer_cycle needs order"),
        ("per_layer_cycle", "by_relevance", r"strategy=by_relevance and target=student take no order"),
        ("heads_per_pattern: 2", "heads_per_pattern: 0", "heads_per_pattern=0 must be at least 1"),
        ('seen_in: ["3.7"]', "seen_in: [3.7]", r"seen_in\[0\]=3.7 must be a text"),
        ('seen_in: ["3.7"]', "seen_in: [l3h7]", r"'l3h7' must be a head"),
        (
            "strategy: per_layer_cycle, order: [match, intra, prev]",
            "strategy: map, heads: {}",
            "student take no layers",
        ),
        ("layers: [0, 2]", "pal: {heads: 2}", "target=student take no pal"),
        ("layers: [0, 2]", "layers: [a]", r"layers\[0\]='a' must be a whole number"),
        ("target: student", "target: studnt", r"target=studnt .* mean student\?"),
        ("schema: 1", "schema: 1\n- x", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, before, after, message):
    assert before in FULL
    with pytest.raises(InputError, match=message):
        _load(tmp_path, FULL.replace(before, after, 1))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        PatternFile.load(tmp_path / "no.yaml")
