from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.execution.progress import LineProgress, TerminalProgress, clock_time, make_progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text


def test_lines_come_every_ten_seconds_and_at_the_end():
    lines, clock = [], Clock()
    with LineProgress(lines.append, 10.0, clock).stage("attribute", total=100) as bar:
        for _ in range(25):
            clock.now += 1
            bar.advance(4)
    assert lines == [
        "attribute: 40/100 examples, 4 examples/s, 0:15 left",
        "attribute: 80/100 examples, 4 examples/s, 0:05 left",
        "attribute: 100/100 examples, 4 examples/s, 0:25",
    ]


def test_the_end_is_said_once():
    lines, clock = [], Clock()
    with LineProgress(lines.append, 10.0, clock).stage("attribute", total=8) as bar:
        clock.now += 20
        bar.advance(8)
    assert lines == ["attribute: 8/8 examples, 0.4 examples/s, 0:20"]


def test_time_left_is_that_of_the_effort_left():
    lines, clock = [], Clock()
    with LineProgress(lines.append, 10.0, clock).stage("evaluate", total=3, effort=7) as bar:
        for effort in (1, 2, 4):
            clock.now += 10 * effort
            bar.advance(1, effort)
    assert lines == [
        "evaluate: 1/3 examples, 0.1 examples/s, 1:00 left",
        "evaluate: 2/3 examples, 0.0667 examples/s, 0:40 left",
        "evaluate: 3/3 examples, 0.0429 examples/s, 1:10",
    ]


def test_a_stage_cut_short_says_how_far_it_came():
    lines, clock = [], Clock()

    def download():
        with LineProgress(lines.append, 10.0, clock).stage("download", unit="MB") as bar:
            bar.advance(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download()
    assert lines == ["download: 3 MB, 0:00"]


def test_a_terminal_shows_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    progress = TerminalProgress(console)
    with progress.stage("attribute", total=2) as bar:
        progress.message("[not markup]")
        bar.advance(1)
        bar.advance(1)
    shown = console.file.getvalue()
    assert "attribute" in shown
    assert "2/2" in shown
    assert "[not markup]" in shown


@pytest.mark.parametrize(("silent", "expected"), [(False, "hello\nstage: 1/1 x, "), (True, "")])
def test_a_pipe_gets_lines_unless_silent(silent, expected):
    stream = io.StringIO()
    progress = make_progress(silent, stream)
    progress.message("hello")
    with progress.stage("stage", total=1, unit="x") as bar:
        bar.advance()
    assert stream.getvalue().startswith(expected)
    assert bool(stream.getvalue()) is not silent
