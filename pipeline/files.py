"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StorageError

FULL = "; free some space, for instance by `headlight gc`"
ADVICE = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EFBIG: FULL}


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all, whatever happens to the process.

    Not synced to the disk: that takes ten times as long as all the rest, and what a power cut damages is found by its
    hash and computed again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def reported(setting: str, name: str, done: str) -> Iterator[None]:
    """Tell an error of the disk as a `StorageError`; `setting` is the key of the configuration and its value."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "")
        raise StorageError(f"{setting}: {name} cannot be {done}: {error.strerror or error}{advice}") from error
