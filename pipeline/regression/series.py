"""The folder of a series of nights: `paths.root/regression/<series>`."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.files import write_atomically

FOLDER = "regression"


@dataclass(frozen=True)
class Series:
    """Nights that are compared with one champion, and what is kept of them."""

    root: Path
    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise InputError(
                f"conf error: regression.series={self.name} names a folder: use letters, digits, '.', '-' and '_'."
            )

    @property
    def folder(self) -> Path:
        """Where everything of the series is."""
        return self.root / FOLDER / self.name

    @property
    def nights(self) -> Path:
        """One line for each night, the oldest first."""
        return self.folder / "nights.jsonl"

    @property
    def promotions(self) -> Path:
        """One line for each champion, where the record is not in MLflow."""
        return self.folder / "champions.jsonl"

    @property
    def settings(self) -> Path:
        """Where the champion of the series is recorded."""
        return self.folder / "series.json"

    @property
    def verdict(self) -> Path:
        """The latest verdict, whatever became of the night."""
        return self.folder / "verdict.json"

    @property
    def unfinished(self) -> Path:
        """The night under way: its name, and the store it computes into."""
        return self.folder / "unfinished"

    def snapshot(self, run_id: str) -> Path:
        """The champion's own copy of a run: nothing that happens to the run's folder changes it."""
        return self.folder / "champions" / run_id

    @contextmanager
    def alone(self) -> Iterator[None]:
        """InputError where another process runs a night of the series."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"run error: another night of {self.name} is running ({self.folder}).") from None
            yield


def all_series(root: Path) -> list[Series]:
    """The series below a root."""
    found = sorted((root / FOLDER).glob("*/series.json"))
    return [Series(root, path.parent.name) for path in found]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a file of JSON lines; none where it is missing."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def add_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record; the file is replaced at once, so that no crash leaves half a line."""
    held = path.read_bytes() if path.exists() else b""
    write_atomically(path, held + json.dumps(record, sort_keys=True).encode() + b"\n")
