"""The folder of a private Ray cluster: nobody else gets in, its sockets fit, and it goes with the cluster."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray

from attribution.errors import HeadlightError, InputError
from pipeline.config import ClusterConfig
from pipeline.execution import ray_folder
from pipeline.execution.ray_cluster import connect
from pipeline.execution.ray_folder import private_folder, remove


@pytest.fixture(autouse=True)
def no_setting(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)


def sockets(folder):
    return [path for path in folder.rglob("*") if path.is_socket()]


def test_a_private_cluster_is_closed_to_others_and_leaves_nothing(tmp_path, monkeypatch):
    """Started below a symbolic link."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as real:
        link = tmp_path / "a link with a name that alone would be too long for a socket, were it not followed"
        link.symlink_to(real)
        monkeypatch.setenv("RAY_TMPDIR", str(link))
        with connect(ClusterConfig("ray", workers=1, cpus_per_worker=0.5)):
            (folder,) = Path(real).iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert folder.owner() == Path(real).owner()
            assert len(sockets(folder)) >= 2
            assert ray._private.worker._global_node.get_session_dir_path().startswith(f"{folder}/")
            assert ray.get(ray.remote(lambda: os.getpid()).options(num_cpus=0.5).remote(), timeout=120) != os.getpid()
        assert list(Path(real).iterdir()) == []


def test_a_start_that_takes_too_long_is_tried_again_and_leaves_nothing_behind(monkeypatch, caplog):
    """A machine under load: the first time Ray does not find its own node, and its 30 seconds are over at once."""
    times, clock = [], iter(range(0, 100_000, 40))
    late = SimpleNamespace(monotonic=lambda: next(clock), sleep=time.sleep, time=time.time)
    original, started = ray.init, []
    others = {child.pid for child in psutil.Process().children()}  # of tests before this one

    def init(**given):
        times.append(given["_temp_dir"])
        with monkeypatch.context() as patch:
            if len(times) == 1:
                patch.setattr("ray._private.services.get_node", lambda *args: _not_there(started, others))
                patch.setattr("ray._private.node.time", late)
            return original(**given)

    monkeypatch.setattr(ray, "init", init)
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as place:
        monkeypatch.setenv("RAY_TMPDIR", place)
        with connect(ClusterConfig("ray", workers=1, cpus_per_worker=0.5)):
            assert [str(folder / "r") for folder in Path(place).iterdir()] == times[1:]
            assert len(times) == 2
    assert "node timed out during startup" in caplog.text
    assert started
    assert not any(_is_at_work(pid) for pid in started)


def _not_there(started, others):
    started.extend(child.pid for child in psutil.Process().children() if child.pid not in {*started, *others})
    raise RuntimeError("no such node")


def _is_at_work(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_machine_on_which_ray_never_starts_is_told(monkeypatch, tmp_path):
    def init(**given):
        raise Exception("The current node timed out\nduring startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    before = dict(os.environ)
    with pytest.raises(HeadlightError, match="does not start on this machine: The current node timed out during start"):
        connect(ClusterConfig("ray", workers=1, cpus_per_worker=0.5))
    assert dict(os.environ) == before


@pytest.mark.parametrize("keeps_logs", [False, True])
def test_logs_stay_where_somebody_was_told_to_read_them(monkeypatch, tmp_path, keeps_logs):
    from pipeline.execution.ray_cluster import Connection

    monkeypatch.setattr(ray, "shutdown", lambda: None)
    Connection(opened=True, folder=tmp_path, keeps_logs=keeps_logs).close()
    assert tmp_path.exists() == keeps_logs


def test_the_longest_path_of_a_socket_is_measured(monkeypatch, tmp_path):
    """The next longer one is not taken; without a setting the system's own folder is taken instead."""
    at_most = ray_folder._LONGEST - len(ray_folder._SOCKET)
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="t"))
    try:
        fits, too_long = (base / ("x" * (at_most + more - len(f"{base}/"))) for more in (0, 1))
        for folder in (fits, too_long):
            folder.mkdir()
        monkeypatch.setenv("RAY_TMPDIR", str(fits))
        assert private_folder().parent == fits
        monkeypatch.setenv("RAY_TMPDIR", str(too_long))
        with pytest.raises(InputError, match="RAY_TMPDIR to a folder of"):
            private_folder()
        monkeypatch.delenv("RAY_TMPDIR")
        monkeypatch.setattr(tempfile, "tempdir", str(too_long))
        made = private_folder()
        assert made.parent == Path("/tmp").resolve()
        made.rmdir()
    finally:
        remove(base)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")
def test_what_cannot_be_removed_is_named(monkeypatch, tmp_path, caplog):
    def refuse(folder):
        raise OSError("busy")

    monkeypatch.setattr(ray_folder.shutil, "rmtree", refuse)
    monkeypatch.setattr(ray_folder, "_PATIENCE_S", 0.0)
    remove(tmp_path)
    assert f"{tmp_path} cannot be removed: busy" in caplog.text
