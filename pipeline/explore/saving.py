"""What a person has found: `patterns.yaml`, never replaced unasked, and a log of decisions that only grows."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from attribution.patterns.schema import Chosen, PatternFile
from pipeline.explore.asked import Decision, Save
from pipeline.files import reported, write_atomically

SHOWN = 50  # entries of the log


class Occupied(InputError):
    """There is a file already, and nobody has agreed to replace it."""


@dataclass
class Notebook:
    """A file of patterns and, beside it, the log of how they came about."""

    path: Path
    evidence: tuple[str, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def log(self) -> Path:
        """One decision on a line, as JSON."""
        return self.path.with_name(f"{self.path.name}.log.jsonl")

    def there(self) -> dict[str, Any] | None:
        """The file that is there: its digest and, where it can be read, its patterns, else what is wrong with it."""
        if not self.path.exists():
            return None
        digest = self._digest()
        try:
            return {"digest": digest, "file": PatternFile.load(self.path).plain()}
        except InputError as error:
            return {"digest": digest, "problem": str(error)}

    def save(self, asked: Save) -> dict[str, Any]:
        """Write the patterns. `Occupied` where there is another file than the one that may be replaced."""
        now = datetime.now(UTC)
        chosen = Chosen(asked.person, now.date().isoformat(), asked.why, self.evidence)
        made = PatternFile(dict(asked.patterns), asked.inject, chosen)
        file = PatternFile.read(made.plain(), self.path.name)  # what cannot be read is not written
        with self._lock:
            self._check_free(asked.replaces)
            with reported(f"--save {self.path}", self.path.name, "written"):
                write_atomically(self.path, file.text().encode())
            digest = self._digest()
            self._append({"did": "saved", "person": asked.person, "digest": digest, "replaced": asked.replaces,
                          "why": asked.why, "file": file.plain()}, now)  # fmt: skip
        return {"path": str(self.path), "log": str(self.log), "digest": digest}

    def decide(self, asked: Decision) -> None:
        """Write a decision down."""
        entry = {"did": asked.decision, "person": asked.person, "head": asked.head, "pattern": asked.pattern}
        with self._lock:
            self._append({**entry, "why": asked.why}, datetime.now(UTC))

    def decisions(self) -> list[dict[str, Any]]:
        """The end of the log, the latest last; a line that somebody else broke is passed over."""
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        return [found for line in lines[-SHOWN:] if (found := _read(line)) is not None]

    def _check_free(self, agreed: str | None) -> None:
        there = self.there()
        if there is None or there["digest"] == agreed:
            return
        names = ", ".join(there.get("file", {}).get("patterns", {})) or "what is no file of patterns"
        raise Occupied(f"{self.path} is there already, with {names}; save again to replace it.")

    def _digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def _append(self, entry: Mapping[str, Any], now: datetime) -> None:
        line = json.dumps({"when": now.isoformat(timespec="seconds"), **entry}, ensure_ascii=False) + "\n"
        with reported(f"--save {self.path}", self.log.name, "written"):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            number = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(number, line.encode())
            finally:
                os.close(number)


def _read(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
