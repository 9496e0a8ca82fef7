"""What a machine says of itself before work is sent to it: its versions, its code, and whether it has what it needs.

The driver asks itself and every node of a cluster the same, so this imports next to nothing.
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

from pipeline.keys import digest, source_digest, versions

PROBES = "probe"  # the store's stage under which asker and asked leave each other a line


@dataclass(frozen=True)
class Question:
    """What a node is asked. Paths are as its workers will use them."""

    modules: tuple[str, ...]  # whose code has to be the same everywhere
    folders: dict[str, str] = field(default_factory=dict)  # a setting, as it is written -> the folder it names
    store: str | None = None
    read: str = ""  # what the asker has put into the store
    write: str = ""  # what the node is to put there
    cuda: bool = False  # whether workers compute on its GPUs

    def to(self, node: str) -> Question:
        """The same question with an answer of its own in the store."""
        return replace(self, write=digest({"asked": self.read, "node": node}))


class Answer(TypedDict):
    """Plain values, which every version can read."""

    versions: dict[str, str]
    code: str
    folders: dict[str, dict[str, int] | None]  # files and their sizes; None where there is no such folder
    store: str | None  # what is wrong with it
    free_bytes: int | None  # where the store is, if that is a folder
    cuda: bool  # whether torch finds a GPU; not looked for where none is needed


def describe_node(question: Question) -> Answer:
    """The answer of the machine this runs on."""
    python = {"python": platform.python_version(), "ray": version("ray")}
    return Answer(
        versions=python | versions(),
        code=source_digest(question.modules),
        folders={key: _files(Path(folder)) for key, folder in question.folders.items()},
        store=_store_problem(question) if question.store else None,
        free_bytes=_free_bytes(question.store),
        cuda=question.cuda and _finds_cuda(),
    )


def _finds_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def leave(store: str, key: str) -> None:
    """Put a line into the store."""
    import pyarrow as pa

    from pipeline.store import Store

    Store(store).put(key, pa.table({"probe": [key]}), PROBES)


def finds(store: str, key: str) -> bool:
    """Whether the store has this line."""
    from pipeline.store import Store

    table = Store(store).get(key, PROBES)
    return table is not None and table["probe"].to_pylist() == [key]


def _store_problem(question: Question) -> str | None:
    store = str(question.store)
    try:
        leave(store, question.write)
        found = finds(store, question.read)
    except Exception as error:  # of a file system or an object store; what it says is passed on
        return f"cannot be used: {type(error).__name__}: {' '.join(str(error).split())}"
    return None if found else "is not the folder the driver has under this path; it has to be one that all nodes share"


def _free_bytes(store: str | None) -> int | None:
    if not store or "://" in store:
        return None
    folder = next(path for path in (Path(store), *Path(store).parents) if path.exists())
    return shutil.disk_usage(folder).free


def _files(folder: Path) -> dict[str, int] | None:
    if not folder.is_dir():
        return None
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
