"""Which folders of runs use a store: noted in the store itself, so that `headlight gc` spares what others refer to."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline.errors import StorageError
from pipeline.files import reported
from pipeline.keys import digest
from pipeline.store import Store

logger = logging.getLogger(__name__)

STAGE = "users"  # of the store's tables that name them
_ID = ".{}.id"  # a file of a folder of runs, by which it is known under another path and from another machine


class User(NamedTuple):
    """A folder of runs as one machine sees it."""

    id: str
    host: str
    folder: str

    def __str__(self) -> str:
        return f"{self.folder} ({self.host})"

    def is_here(self) -> bool:
        """Whether this machine sees the folder under that path."""
        return self.id in ids_of(Path(self.folder))


def enrol(store: Store, runs: Path) -> None:
    """Note that the runs of a folder refer to a store's results. A store that cannot be written serves all the same."""
    user = User(_id_of(runs), socket.gethostname(), str(runs.absolute()))
    try:
        store.put(digest(user._asdict()), pa.Table.from_pylist([user._asdict()]), STAGE)
    except StorageError as error:
        logger.warning("%s does not know that %s refers to it: %s", store.location, runs, error)


def users_of(store: Store) -> Iterator[User]:
    """All that are noted."""
    for listed in store.backend.list(STAGE):
        table = store.get(Path(listed.name).stem, STAGE)
        if table is not None:
            yield from (User(**row) for row in table.to_pylist())


def ids_of(runs: Path) -> set[str]:
    """Ids of a folder of runs: several if runs began at the same moment, none if there was none yet."""
    before, after = _ID.split("{}")
    return {path.name.removeprefix(before).removesuffix(after) for path in runs.glob(_ID.format("*"))}


def _id_of(runs: Path) -> str:
    if not (ids := ids_of(runs)):
        ids = {uuid.uuid4().hex}
        with reported(f"paths.runs={runs}", "", "written"):
            runs.mkdir(parents=True, exist_ok=True)
            (runs / _ID.format(*ids)).touch()
    return min(ids)
