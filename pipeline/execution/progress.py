"""Progress of a stage, shown by the driver alone: rate and time left, in a terminal or as plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from pipeline.terminal import shown, unguarded

LINE_EVERY_S = 10.0

Clock = Callable[[], float]


@dataclass
class Bar:
    """One stage under way: what is done so far, and how fast. Time left follows from effort, not from how many."""

    name: str
    total: float | None
    unit: str
    show: Callable[[Bar], None]
    clock: Clock = time.monotonic
    effort: float | None = None  # of all of it, in any unit; None where each takes as long as the next
    done: float = 0
    spent: float = field(default=0, init=False)  # of the effort
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def advance(self, amount: float = 1, effort: float | None = None) -> None:
        """So much more is done, which took so much of the effort."""
        self.done += amount
        self.spent += amount if effort is None else effort
        self.show(self)

    def pace(self) -> str:
        """Rate, and time left or taken: `12.3 examples/s, 0:40 left`."""
        elapsed = self.clock() - self.started
        rate = self.done / elapsed if elapsed > 0 else 0.0
        return f"{rate:.3g} {self.unit}/s, {self._time(elapsed)}" if rate else self._time(elapsed)

    def line(self) -> str:
        """All of it in one line of text."""
        of_total = "" if self.total is None else f"/{self.total:g}"
        return f"{self.name}: {self.done:g}{of_total} {self.unit}, {self.pace()}"

    def _time(self, elapsed: float) -> str:
        if self.total is None or self.done >= self.total or not self.spent or not elapsed:
            return clock_time(elapsed)
        effort = self.total if self.effort is None else self.effort
        return f"{clock_time(elapsed * (effort - self.spent) / self.spent)} left"


def clock_time(seconds: float) -> str:
    """`0:07`, `12:34` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress(Protocol):
    """Where stages report: `with progress.stage("attribute", total=872) as bar: bar.advance(16)`."""

    def stage(
        self, name: str, total: float | None = None, unit: str = "examples", effort: float | None = None
    ) -> AbstractContextManager[Bar]:
        """Show a stage for as long as the context is open; `total` is None if unknown, `effort` as in `Bar`."""

    def message(self, text: str) -> None:
        """Print one line, above the bars."""


class TerminalProgress:
    """A live bar per stage."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def stage(
        self, name: str, total: float | None = None, unit: str = "examples", effort: float | None = None
    ) -> Iterator[Bar]:
        """Keep the stage's bar on screen."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")
        with Bars(*columns, console=self._console) as bars:
            row = bars.add_task(name, total=total, pace="")
            yield Bar(
                name, total, unit, lambda bar: bars.update(row, completed=bar.done, pace=bar.pace()), effort=effort
            )

    def message(self, text: str) -> None:
        """Print as it is: no markup, no colours, nothing that drives the terminal."""
        self._console.print(shown(text), highlight=False, markup=False)


class LineProgress:
    """One plain line every `every_s` seconds and one at a stage's end, for logs and pipes."""

    def __init__(
        self, write: Callable[[str], None], every_s: float = LINE_EVERY_S, clock: Clock = time.monotonic
    ) -> None:
        self.message = write
        self._every_s, self._clock = every_s, clock

    @contextmanager
    def stage(
        self, name: str, total: float | None = None, unit: str = "examples", effort: float | None = None
    ) -> Iterator[Bar]:
        """Write the stage's lines; the last one also when it is cut short."""
        bar = Bar(name, total, unit, self._occasionally(), self._clock, effort)
        try:
            yield bar
        finally:
            self.message(bar.line())

    def _occasionally(self) -> Callable[[Bar], None]:
        due = self._clock() + self._every_s

        def show(bar: Bar) -> None:
            nonlocal due
            if self._clock() >= due and bar.done != bar.total:  # the end has a line of its own
                due = self._clock() + self._every_s
                self.message(bar.line())

        return show


def make_progress(silent: bool = False, stream: TextIO | None = None) -> Progress:
    """Bars where `stream` (standard error) is a terminal, lines where it is not, nothing where silent."""
    if silent:
        return LineProgress(lambda text: None)
    console = Console(file=unguarded(stream or sys.stderr))
    if console.is_terminal:
        return TerminalProgress(console)
    return LineProgress(lambda text: print(shown(text), file=console.file, flush=True))
