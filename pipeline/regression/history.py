"""Nights as they come: the file of them, and what is missing between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attribution.errors import InputError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(key: str, text: str) -> timedelta:
    """A span such as 90m, 24h or 7d; InputError naming the configuration's key."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(text).strip())
    if match is None:
        raise InputError(f"conf error: {key}={text} is not a span of time. Write a number and s, m, h, d or w: 24h.")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})


def gap(nights: Sequence[Mapping[str, Any]], now: datetime, every: timedelta, late: timedelta) -> str | None:
    """What to say where the last night is longer ago than a night may be late; None where it is not."""
    if not nights:
        return "no night has been run yet"
    last = datetime.fromisoformat(str(nights[-1]["started"]))
    if now - last <= every + late:
        return None
    missing = max(1, round((now - last) / every) - 1)
    return (
        f"{missing} {'night is' if missing == 1 else 'nights are'} missing: the last began {last.isoformat()}, "
        f"{_spelled(now - last)} before {now.isoformat()}; one is due every {_spelled(every)}"
    )


def _spelled(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.3g} days" if hours >= 48 else f"{hours:.3g} hours"
