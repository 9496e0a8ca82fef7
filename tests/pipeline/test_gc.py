"""What a collection deletes and, above all, what it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.cli import main
from pipeline.errors import StorageError
from pipeline.folder import RunFolder
from pipeline.store import Store
from pipeline.users import enrol

DAY = 24 * 3600
TABLE = pa.table({"item_id": ["a"]})


def key(text):
    return hashlib.sha256(text.encode()).hexdigest()


def age(path, days):
    """Make a file or folder as old as that."""
    for each in [*path.rglob("*"), path]:
        os.utime(each, times=(time.time() - days * DAY,) * 2)


@pytest.fixture
def root(tmp_path):
    return tmp_path


@pytest.fixture
def result(root):
    """`result("name", days)` puts a result of that age into the store and gives its path."""

    def make(name, days):
        stored = Store(root / "store").put(key(name), TABLE, "evaluate")
        path = root / "store" / stored.name
        age(path, days)
        return path

    return make


@pytest.fixture
def made_run(make_run):
    """`made_run("name", days, ["result", ...])`: a run of that age; `results=None`: it noted no results."""

    def make(name, days, results=()):
        folder = make_run(name, n=2, methods=("gradcam", "random"))
        (folder / "run_key").write_text(name)
        manifest = json.loads((folder / "manifest.json").read_text())
        created = datetime.now(UTC) - timedelta(days=days)
        finished = created + timedelta(minutes=1)
        manifest |= {"created": created.isoformat(), "finished": finished.isoformat()}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        if results is not None:
            RunFolder(folder).write_results({"evaluate": [key(each) for each in results]})
        age(folder, days)
        return folder

    return make


def collect(root, *arguments):
    return main(["gc", "--root", str(root), *arguments])


def test_without_an_age_only_results_go_that_no_run_refers_to(root, result, made_run, capsys):
    run = made_run("first", 90, ["used"])
    used, unused, new = result("used", 90), result("unused", 2), result("new", 0.5)
    assert collect(root, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "runs: 0 of 1 would be deleted\nresults: 1 of 3 would be deleted" in printed
    assert f"{unused.stat().st_size} B would be freed" in printed
    assert unused.exists()
    assert collect(root) == 0
    assert "results: 1 of 3 deleted" in capsys.readouterr().out
    assert (used.exists(), unused.exists(), new.exists(), run.exists()) == (True, False, True, True)
    assert not unused.with_suffix(".json").exists()


def test_old_runs_go_with_their_results_but_for_those_to_keep(root, result, made_run, capsys):
    old, kept, young = made_run("old", 40, ["a", "b"]), made_run("kept", 40, ["b", "c"]), made_run("young", 3, ["d"])
    a, b, c, d, lately = *(result(name, 40) for name in "abcd"), result("e", 20)
    assert collect(root, "--older", "30d", "--keep", "kept") == 0
    assert "runs: 1 of 3 deleted: old" in capsys.readouterr().out
    assert [path.exists() for path in (old, kept, young)] == [False, True, True]
    assert [path.exists() for path in (a, b, c, d, lately)] == [False, True, True, True, True]


def test_a_run_that_noted_no_results_keeps_those_of_its_time(root, result, made_run):
    made_run("before", 40, None)
    own, other = result("own", 40), result("other", 60)
    assert collect(root, "--older", "50d") == 0
    assert (own.exists(), other.exists()) == (True, False)
    assert collect(root) == 0
    assert own.exists()


def test_what_may_be_in_progress_is_left_even_where_a_short_age_is_given(root, result):
    claimed = root / "runs" / "in_progress"
    claimed.mkdir(parents=True)
    (claimed / "run_key").write_text("k")
    age(claimed, 0.5)
    recent = result("recent", 0.5)
    assert collect(root, "--older", "1h") == 0
    assert claimed.exists()
    assert not recent.exists()  # asked for
    age(claimed, 2)
    assert collect(root, "--older", "1h") == 0
    assert not claimed.exists()


def test_what_is_not_ours_is_left(root, result, capsys):
    result("unused", 9)
    notes, run = root / "store" / "notes.txt", root / "runs" / "holiday"
    run.mkdir(parents=True)
    for path in (notes, run / "photo.jpg", root / "store/evaluate/ab/table.parquet"):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("mine")
        age(path, 900)
    age(run, 900)
    left = root / "store/evaluate/ab" / f".{key('x')}.parquet.{'0' * 32}.tmp"
    left.write_text("half")
    age(left, 900)
    assert collect(root, "--older", "1d") == 0
    assert "left alone: 2 files there that are not Headlight's" in capsys.readouterr().out
    assert notes.exists()
    assert (run / "photo.jpg").exists()
    assert not left.exists()  # what a crash left


def test_a_folder_that_is_no_store_is_refused(root, capsys):
    (root / "photos").mkdir()
    (root / "photos" / "cat.jpg").write_text("mine")
    assert collect(root, "--store", str(root / "photos"), "--older", "0m") == 4
    assert "is not a store of Headlight's" in capsys.readouterr().err
    assert (root / "photos" / "cat.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older", "soon"], "--older soon is not a time; write 90s, 10m, 2h, 30d or 2w"),
        (["--keep", "nobody"], "nobody is not a run"),
    ],
)
def test_wrong_arguments_delete_nothing(root, result, capsys, arguments, message):
    unused = result("unused", 9)
    assert collect(root, *arguments) == 4
    assert message in capsys.readouterr().err
    assert unused.exists()


def test_a_sweep_is_kept_with_its_runs(root, result, made_run):
    cells = [made_run(f"sweep.{name}", 40, [name]) for name in "ab"]
    a, other = result("a", 40), result("other", 40)
    sweep = root / "sweeps" / "mine"
    sweep.mkdir(parents=True)
    jobs = [{"folder": os.path.relpath(cell, sweep)} for cell in cells] + [{"folder": None}]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    assert collect(root, "--keep", "mine", "--older", "30d") == 0
    assert [path.exists() for path in (*cells, a, other)] == [True, True, True, False]


def test_a_bucket_is_collected_too(root, s3, made_run, capsys):
    store = Store(s3)
    for name in ("used", "unused"):
        store.put(key(name), TABLE, "evaluate")
    made_run("first", 0.1, ["used"])
    assert collect(root, "--store", s3) == 0
    assert len(list(store.backend.list())) == 2  # nothing is older than a day
    assert collect(root, "--store", s3, "--older", "0m", "--keep", "first") == 0
    assert store.held([key("used"), key("unused")], "evaluate") == {key("used")}


@pytest.fixture
def shared(root, tmp_path_factory, make_run):
    """A store that the runs of `root` and those of somebody else use; gives the other's folder of runs and a result."""
    other = tmp_path_factory.mktemp("other") / "runs"
    store = Store(root / "store")
    for runs in (root / "runs", other):
        enrol(store, runs)
    folder = make_run("theirs", n=2, methods=("gradcam", "random")).rename(other / "theirs")
    (folder / "run_key").write_text("theirs")
    RunFolder(folder).write_results({"evaluate": [key("theirs")]})
    paths = [root / "store" / store.put(key(name), TABLE, "evaluate").name for name in ("theirs", "nobody's")]
    for path in paths:
        age(path, 90)
    age(other, 90)
    return other, *paths


def test_what_runs_in_another_folder_refer_to_stays(root, shared, capsys):
    other, theirs, nobodys = shared
    assert collect(root, "--older", "30d") == 0
    assert (theirs.exists(), nobodys.exists()) == (True, False)
    assert (other / "theirs").exists()
    assert "results: 1 of 2 deleted" in capsys.readouterr().out


def test_nothing_goes_where_others_cannot_be_seen(root, shared, capsys):
    other, theirs, nobodys = shared
    other.rename(other.with_name("gone"))
    assert collect(root) == 4
    assert f"runs in {other} ({socket.gethostname()}) may refer to these results" in capsys.readouterr().err
    assert collect(root, "--dry-run") == 0
    assert "would be refused without --alone" in capsys.readouterr().out
    assert (theirs.exists(), nobodys.exists()) == (True, True)
    assert collect(root, "--alone") == 0
    assert (theirs.exists(), nobodys.exists()) == (False, False)


def test_a_folder_of_runs_is_known_from_another_machine_and_after_it_moved(root, result, made_run, monkeypatch):
    store = Store(root / "store")
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    enrol(store, root / "runs")
    monkeypatch.undo()
    (root / "new").mkdir()
    (root / "runs").rename(root / "new" / "runs")
    unused = result("unused", 9)
    assert collect(root / "new", "--store", str(root / "store")) == 0
    assert not unused.exists()


def test_a_store_that_is_only_read_serves_all_the_same(root, monkeypatch, caplog):
    def full(name, data, facts):
        raise StorageError("read-only")

    store = Store(root / "store")
    monkeypatch.setattr(store.backend, "write_once", full)
    enrol(store, root / "runs")
    assert f"does not know that {root / 'runs'} refers to it: read-only" in caplog.text


def test_nothing_to_collect(tmp_path, capsys):
    assert collect(tmp_path / "nothing") == 0
    assert "results: 0 of 0 deleted" in capsys.readouterr().out
    assert not Path(tmp_path / "nothing").exists()
