"""Score against cost as a picture: every method can be read."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.cost_figure import apart

PLACES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 100)), min_size=1, max_size=30)


@given(PLACES)
def test_labels_do_not_lie_on_each_other_and_move_down_alone(places):
    labels = apart(places, width=100, height=12)
    assert all(abs(x - u) >= 100 or abs(y - v) >= 12 for (x, y), (u, v) in combinations(labels, 2))
    assert all(new[0] == old[0] and new[1] >= old[1] for new, old in zip(labels, places, strict=True))


def test_labels_with_room_stay():
    assert apart([(0, 0), (0, 12), (100, 5)], width=100, height=12) == [(0, 0), (0, 12), (100, 5)]
