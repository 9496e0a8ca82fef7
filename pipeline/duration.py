"""Durations as people write them: `90s`, `10m`, `2h`, `30d`, `2w`, `1h30m`."""

from __future__ import annotations

import re

UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(text: str) -> float:
    """A duration in seconds. Raises ValueError with what is to be written instead."""
    if not re.fullmatch(r"(\d+(\.\d+)?[wdhms])+", text.strip()):
        raise ValueError("is not a time; write 90s, 10m, 2h, 30d or 2w")
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)([wdhms])", text))
