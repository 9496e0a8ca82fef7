"""Secrets stay out of what is written down."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(://)[^@/\s]*@")


def without_credentials(text: str) -> str:
    """Addresses in `text` without the user and password that may stand in front of a host."""
    return _CREDENTIALS.sub(r"\1", text)
