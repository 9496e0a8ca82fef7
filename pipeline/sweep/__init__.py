"""Many configurations at once: what they are, how they run on one driver, and the tables they make."""

from __future__ import annotations
