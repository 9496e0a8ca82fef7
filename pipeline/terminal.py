"""Standard output and error on which no text can drive the terminal, and no secret is shown.

Names of models, labels and data sets, and everything else that is printed, may come from somebody else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from attribution.rendering import printable
from pipeline.redact import redacted


def shown(text: str) -> str:
    """Text as it may be shown; its lines and tabs stay."""
    return printable(redacted(text), keep="\n\t")


class Guarded:
    """A text stream that writes what may be shown."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write; returns the number of characters given. Progress bars begin with a carriage return, which stays."""
        start = "\r" if text.startswith("\r") else ""
        self.stream.write(start + shown(text.removeprefix("\r")))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write one by one."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def unguarded(stream: TextIO) -> TextIO:
    """The stream below, for those who colour what they have made printable themselves."""
    return stream.stream if isinstance(stream, Guarded) else stream


@contextmanager
def guarded() -> Iterator[None]:
    """Guard both streams of this process."""
    out, error = (cast(TextIO, Guarded(unguarded(stream))) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(error):
        yield
