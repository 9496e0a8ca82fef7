"""The folder of a private Ray cluster: closed to other users, and with a path that is short enough for sockets.

Ray makes its own folder writable for everybody, so it gets one inside a folder that nobody else can enter.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attribution.errors import InputError

logger = logging.getLogger(__name__)

RAY = "r"  # Ray's own folder, inside
_PREFIX = "hl-"
_LONGEST = 103 if sys.platform == "darwin" else 107  # bytes that the path of a socket may have
_SOCKET = f"/{_PREFIX}12345678/{RAY}/session_2026-11-20_10-00-00_123456_4194304/sockets/plasma_store"
_PATIENCE_S = 10.0


def private_folder() -> Path:
    """A new folder (mode 0700) below RAY_TMPDIR, or where temporary files go. InputError if none is short enough.

    Not below the home folder: that may be on a network, where sockets and logs are slow or impossible.
    """
    places = list(_places())
    for place in places:
        if len(os.fsencode(f"{place}{_SOCKET}")) <= _LONGEST:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    raise InputError(
        f"conf error: {places[0]} is too long a path for Ray's sockets, which take {_LONGEST} bytes with all that Ray "
        f"adds; set RAY_TMPDIR to a folder of {_LONGEST - len(_SOCKET)} bytes at most."
    )


def _places() -> Iterator[Path]:
    """Without symbolic links: what they lead to counts, and would not be seen in the length."""
    if given := os.environ.get("RAY_TMPDIR"):
        yield Path(given).resolve()
    else:
        yield Path(tempfile.gettempdir()).resolve()
        yield Path("/tmp").resolve()


def remove(folder: Path) -> None:
    """Take a folder away, though Ray's last processes may still write to it for a moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if time.monotonic() > deadline:
                logger.warning("%s cannot be removed: %s", folder, error)
                return
            time.sleep(0.1)
