"""Objects as files of a folder, each beside a JSON file with its facts."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from attribution.errors import InputError
from pipeline.backends import Backend, Facts, Held, Listed
from pipeline.files import reported, write_atomically

FEW = 4  # names that are asked for one by one; for more of them the folder is listed


class Folder:
    """The JSON file is written first, so the object's appearance is what commits it.

    A reader never sees an object that is still on its way, and whatever a crash leaves behind counts as absent.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)
        self._setting = f"paths.store={root}"

    def check(self) -> None:
        """A folder that is not there yet is made by the first write."""
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"conf error: paths.store={self.root} is a file; give a folder.")

    def write_once(self, name: str, data: bytes, facts: Facts) -> bool:
        """Of two that write at the same moment both write, and the later replaces the other's files whole."""
        path = self.root / name
        if path.exists():
            return False
        with reported(self._setting, name, "written"):
            write_atomically(_facts_path(path), json.dumps(facts, sort_keys=True).encode() + b"\n")
            write_atomically(path, data)
        return True

    def read(self, name: str) -> Held | None:
        """The file, and what its JSON says."""
        path = self.root / name
        with reported(self._setting, name, "read"):
            try:
                return Held(path.read_bytes(), _facts(path))
            except FileNotFoundError:
                return None

    def present(self, folder: str, names: Collection[str]) -> set[str]:
        """Files that are not empty and have their JSON."""
        parent = self.root / folder
        there = set(names) if len(names) <= FEW else _listed_names(parent)
        return {name for name in names if name in there and _is_whole(parent / name)}

    def list(self, folder: str = "") -> Iterator[Listed]:
        """Every file but those with facts; what a crash left under a temporary name too."""
        for parent, _, names in os.walk(self.root / folder):
            for name in names:
                path = Path(parent, name)
                if path.suffix != ".json" and (status := _status(path)):
                    yield Listed(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)

    def delete(self, *names: str) -> None:
        """The object first: facts without it mean nothing."""
        for name in names:
            with reported(self._setting, name, "deleted"):
                (self.root / name).unlink(missing_ok=True)
                _facts_path(self.root / name).unlink(missing_ok=True)


def open_backend(location: str) -> Backend:
    """A folder under its absolute path: workers have their own working directory."""
    return Folder(Path(location).absolute())


def _facts_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _facts(path: Path) -> Facts:
    """The facts of an object; none if they are missing or unreadable."""
    try:
        facts = json.loads(_facts_path(path).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _listed_names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _is_whole(path: Path) -> bool:
    status = _status(path)
    return bool(status and status.st_size) and _facts_path(path).exists()


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
