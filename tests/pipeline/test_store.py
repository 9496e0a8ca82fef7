from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import StorageError
from pipeline.folder import RunFolder
from pipeline.schemas import CURVES, RUN_TABLES, SCHEMA_VERSION
from pipeline.store import Store, parquet_bytes

KEY = "ab12" * 16


def curves(n=5):
    row = {"item_id": "x", "curve": "aopc", "counts": [1, 2], "levels": [0.1, 0.2], "logits": [1.5, None], "target": 1}
    return pa.Table.from_pylist([row | {"item_id": str(index)} for index in range(n)], schema=CURVES)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def path_of(store, stored):
    return Path(store.location, stored.name)


def test_where_a_table_is_in_a_folder(store):
    stored = store.put(KEY, curves(), "evaluate")
    path = path_of(store, stored)
    assert path == Path(store.location) / "evaluate" / "ab" / f"{KEY}.parquet"
    assert stored.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert sidecar == {"sha256": stored.sha256, "rows": 5, "schema_version": SCHEMA_VERSION}


def damage_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped byte": damage_byte,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "no sidecar": lambda path: path.with_suffix(".json").unlink(),
    "half a sidecar": lambda path: os.truncate(path.with_suffix(".json"), 20),
    "sidecar of another kind": lambda path: path.with_suffix(".json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_table_counts_as_absent_and_is_written_again(store, caplog, damage):
    stored = store.put(KEY, curves(), "evaluate")
    path = path_of(store, stored)
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert store.get(KEY, "evaluate") is None
    assert str(path) in caplog.text
    assert not path.exists()
    assert not store.has(KEY, "evaluate")
    assert store.put(KEY, curves(), "evaluate") == stored
    assert store.get(KEY, "evaluate").equals(curves())


@pytest.mark.parametrize("crash_at", [0, 1], ids=["before the sidecar", "before the table"])
def test_a_crash_before_a_rename_leaves_the_key_absent(store, monkeypatch, caplog, crash_at):
    replace, calls = Path.replace, []

    def crash(path, target):
        calls.append(target)
        if len(calls) > crash_at:
            os._exit(9)
        return replace(path, target)

    child = multiprocessing.get_context("fork").Process(target=lambda: store.put(KEY, curves(), "evaluate"))
    monkeypatch.setattr(Path, "replace", crash)
    child.start()
    child.join()
    monkeypatch.undo()
    assert child.exitcode == 9
    assert len(list(Path(store.location).rglob(".*.tmp"))) == 1
    assert store.get(KEY, "evaluate") is None
    assert not caplog.records  # nothing is damaged: the table never appeared
    store.put(KEY, curves(), "evaluate")
    assert store.get(KEY, "evaluate").equals(curves())


def test_a_failed_write_leaves_no_file(store, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(StorageError, match=r"^paths.store=.*: evaluate/ab/.* cannot be written: no space left; free"):
        store.put(KEY, curves(), "evaluate")
    assert [path for path in Path(store.location).rglob("*") if path.is_file()] == []


def put_many_times(root):
    store = Store(root)
    for attempt in range(20):
        store.put(KEY, curves(), "evaluate")
        assert store.get(KEY, "evaluate").num_rows == 5, attempt


def test_concurrent_writers_of_one_key(store):
    children = [
        multiprocessing.get_context("fork").Process(target=put_many_times, args=(store.location,)) for _ in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert store.get(KEY, "evaluate").equals(curves())
    assert len(list(Path(store.location).rglob("*.*"))) == 2


def test_bytes_depend_on_columns_and_values_alone():
    table = curves()
    expected = parquet_bytes(table)
    chunked = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    padded = pa.concat_tables([curves(2), table]).slice(2)
    with_metadata = table.replace_schema_metadata({"pandas": "{}", "written": "now"})
    read_back = pq.read_table(pa.BufferReader(expected))
    for same in (chunked, padded, with_metadata, read_back):
        assert parquet_bytes(same) == expected
    assert parquet_bytes(table.slice(1)) != expected
    assert pq.read_metadata(pa.BufferReader(expected)).metadata.keys() == {b"ARROW:schema"}


@pytest.mark.parametrize("name", RUN_TABLES)
def test_every_run_table_survives_empty(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    folder.write({name: RUN_TABLES[name].empty_table()}, "")
    path = folder.path / f"{name}.parquet"
    assert folder.files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    assert pq.read_table(path).schema.equals(RUN_TABLES[name])
