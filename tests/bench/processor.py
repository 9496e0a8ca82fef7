"""The processor that numbers were measured on."""

from __future__ import annotations

from pathlib import Path


def processor() -> str:
    """Its name; `a processor` where the system does not tell."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "a processor")
