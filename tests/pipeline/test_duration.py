from __future__ import annotations

import pytest

from pipeline.duration import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("30d", 2592000), ("2w", 1209600), ("1h30m", 5400), ("0.5s", 0.5)],
)
def test_durations(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "10 minutes", "-3s", "1h30"])
def test_what_is_no_duration_is_told_how_to_be_one(text):
    with pytest.raises(ValueError, match="write 90s, 10m, 2h, 30d or 2w"):
        seconds(text)
