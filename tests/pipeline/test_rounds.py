"""The order in which examples are taken, its rounds, and the clock that a folder keeps."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipeline.looks import RECORD, Looks
from pipeline.rounds import Draw, round_sizes


def examples(n, windows=()):
    """Texts, some of them in three windows."""
    rows = [(f"x{i}", None) for i in range(n) if i not in windows]
    rows += [(f"x{i}-{part}", f"x{i}") for i in windows for part in range(3)]
    return pa.table({"item_id": [row[0] for row in rows], "text_id": pa.array([row[1] for row in rows], pa.string())})


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (1, [1]),
        (12, [12]),
        (40, [12, 25, 40]),
        (100, [12, 25, 50, 100]),
        (130, [12, 25, 50, 100, 125, 130]),
    ],
)
def test_rounds_are_small_at_first_and_grow_by_a_quarter(n, sizes):
    assert round_sizes(n) == sizes


def test_every_text_comes_once_and_all_its_windows_with_it():
    table = examples(60, windows=(3, 30, 57))
    draw = Draw.of(table, 0)
    assert draw.sizes == [12, 25, 50, 60]
    rounds = draw.rounds()
    assert sorted(row for added in rounds for row in added) == list(range(table.num_rows))
    assert draw.reached(2) == sorted(rounds[0] + rounds[1])
    for text in ("x3", "x30", "x57"):
        rows = [row for row, own in enumerate(table["text_id"].to_pylist()) if own == text]
        assert sum(set(rows) <= set(added) for added in rounds) == 1
    assert sorted(draw.order) == list(range(table.num_rows))
    assert draw.order[: len(rounds[0])] != rounds[0]
    assert sorted(draw.order[: len(rounds[0])]) == rounds[0]


def test_the_order_is_drawn_from_the_seed_and_the_ids():
    table = examples(60)
    turned = table.take(list(range(59, -1, -1)))
    assert Draw.of(table, 0).key == Draw.of(turned, 0).key != Draw.of(table, 1).key
    assert [59 - row for row in Draw.of(turned, 0).order] == Draw.of(table, 0).order


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("pipeline.looks.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_time_goes_on_where_a_run_was_cut_off_and_stands_still_where_it_is_repeated(clock, tmp_path):
    draw = Draw.of(examples(120), 0)
    first = Looks(draw, "2m", tmp_path)
    for taken in (10, 11, 12):
        clock.now += taken
        first.end_round(None)
    clock.now += 1000  # in a round that is cut off
    second = Looks(draw, "2m", tmp_path)
    for _ in range(3):
        clock.now += 2  # what is at hand is only read
        second.end_round(None)
    clock.now += 40
    assert second.end_round(None).startswith("100 of 120 examples, 1:13 of 2:00: nothing to judge by.")
    assert second.passed == [10, 21, 33, 73]
    other = Draw.of(examples(121), 0)
    clock.now += 5
    third = Looks(other, "2m", tmp_path)
    clock.now += 5
    assert third.end_round(None) == "12 of 121 examples, 0:05 of 2:00: too few to judge, which takes 100."
    assert json.loads((tmp_path / RECORD).read_text())["order"] == other.key


def test_a_record_that_cannot_be_read_is_none(clock, tmp_path):
    (tmp_path / RECORD).write_text("{")
    looks = Looks(Draw.of(examples(20), 0), "1m", tmp_path)
    clock.now += 3
    looks.end_round(None)
    assert looks.record() == {
        "budget": "1m",
        "stopped": None,
        "of": 20,
        "examples": 12,
        "seconds": 3.0,
        "rounds": [{"examples": 12, "seconds": 3.0}],
    }
