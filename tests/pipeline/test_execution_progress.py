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


def test_what_is_reused_does_not_count_towards_the_rate():
    lines, clock = [], Clock()
    with LineProgress(lines.append, 10.0, clock).stage("evaluate", total=100) as bar:
        bar.advance(60, reused=True)
        clock.now += 10
        bar.advance(20)
    assert lines[0] == "evaluate: 80/100 examples, 2 examples/s, 0:10 left, 60 reused"


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
        bar.advance(1, reused=True)
    shown = console.file.getvalue()
    assert "attribute" in shown
    assert "2/2" in shown
    assert "1 reused" in shown
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
