"""Durations as people write them: `90s`, `10m`, `2h`, `30d`, `1h30m`."""

from __future__ import annotations

import re

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(text: str) -> float:
    """A duration in seconds. Raises ValueError with what is to be written instead."""
    if not re.fullmatch(r"(\d+(\.\d+)?[dhms])+", text.strip()):
        raise ValueError("is not a duration; write 90s, 10m, 2h or 30d")
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text))
