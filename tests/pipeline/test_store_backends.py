"""What holds wherever the store is: in a folder and in an S3 bucket, over real HTTP."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import pyarrow as pa
import pytest

from attribution.errors import InputError
from pipeline.backends import Held, backend_of
from pipeline.errors import StorageError
from pipeline.schemas import CURVES
from pipeline.store import Store, parquet_bytes

KEY = "ab12" * 16
KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(600)]


def curves(n=5):
    row = {"curve": "aopc", "counts": [1, 2], "levels": [0.1, 0.2], "logits": [1.5, None], "target": 1}
    return pa.Table.from_pylist([row | {"item_id": str(index)} for index in range(n)], schema=CURVES)


@pytest.fixture(params=["folder", "s3"])
def location(request, tmp_path):
    return str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3")


@pytest.fixture
def store(location):
    return Store(location)


def test_a_table_comes_back_as_it_went_in(store):
    stored = store.put(KEY, curves(), "evaluate")
    assert store.get(KEY, "evaluate").equals(curves())
    assert store.get(KEY, "evaluate").schema.equals(CURVES, check_metadata=True)
    assert stored.sha256 == hashlib.sha256(parquet_bytes(curves())).hexdigest()
    assert (stored.rows, stored.name) == (5, f"evaluate/ab/{KEY}.parquet")
    assert store.find(KEY, "evaluate") == stored


def test_an_absent_key(store):
    assert not store.has(KEY, "evaluate")
    store.put(KEY, curves(), "evaluate")
    assert store.has(KEY, "evaluate")
    assert store.get("cd" + KEY, "evaluate") is None
    assert store.get(KEY, "attribute") is None
    assert not store.has(KEY, "attribute")


def test_many_keys_are_asked_for_at_once(store):
    there = set(KEYS[::3])
    for key in there:
        store.backend.write_once(f"evaluate/{key[:2]}/{key}.parquet", b"whole", {})
    assert store.held(KEYS, "evaluate") == there
    assert store.held(KEYS[:4], "evaluate") == {KEYS[0], KEYS[3]}
    assert store.held(KEYS, "attribute") == set()
    assert store.held([], "evaluate") == set()


def test_many_tables_are_read_at_once(store):
    for rows, key in enumerate(KEYS[:20]):
        store.put(key, curves(rows), "evaluate")
    found = store.get_many(KEYS[:21], "evaluate")
    assert list(found) == KEYS[:21]
    assert [found[key].num_rows for key in KEYS[:20]] == list(range(20))
    assert found[KEYS[20]] is None


def test_an_object_is_written_once_and_listed(store):
    backend = store.backend
    assert backend.write_once("evaluate/ab/x.parquet", b"first", {"rows": 1, "sha256": "s"})
    assert not backend.write_once("evaluate/ab/x.parquet", b"second", {})
    held = backend.read("evaluate/ab/x.parquet")
    assert held.data == b"first"
    assert int(held.facts["rows"]) == 1
    backend.write_once("attribute/ab/y.parquet", b"", {})
    assert {(found.name, found.size) for found in backend.list()} == {
        ("evaluate/ab/x.parquet", 5),
        ("attribute/ab/y.parquet", 0),
    }
    assert [found.name for found in backend.list("evaluate")] == ["evaluate/ab/x.parquet"]
    assert backend.present("attribute/ab", ["y.parquet"]) == set()  # nothing is as empty as a table without rows
    for _ in range(2):
        backend.delete("evaluate/ab/x.parquet", "attribute/ab/y.parquet", "attribute/ab/z.parquet")
    assert list(backend.list()) == []
    assert backend.read("evaluate/ab/x.parquet") is None
    assert backend.write_once("evaluate/ab/x.parquet", b"second", {})


def damage(store, change):
    """Replace an object by another."""
    name = f"evaluate/ab/{KEY}.parquet"
    held = change(store.backend.read(name))
    store.backend.delete(name)
    store.backend.write_once(name, *held)


DAMAGE = {
    "flipped bit": lambda held: Held(bytes([held.data[0] ^ 1]) + held.data[1:], held.facts),
    "truncated": lambda held: Held(held.data[:-1], held.facts),
    "no facts": lambda held: Held(held.data, {}),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_on_reading_and_written_again(store, caplog, change):
    stored = store.put(KEY, curves(), "evaluate")
    damage(store, change)
    assert store.has(KEY, "evaluate")
    with caplog.at_level(logging.WARNING):
        assert store.get(KEY, "evaluate") is None
    assert f"{store.location}/{stored.name} is damaged" in caplog.text
    assert not store.has(KEY, "evaluate")
    assert store.put(KEY, curves(), "evaluate") == stored
    assert store.get(KEY, "evaluate").equals(curves())


def test_a_damaged_table_does_not_stay_for_being_first(store):
    stored = store.put(KEY, curves(), "evaluate")
    damage(store, DAMAGE["flipped bit"])
    assert store.put(KEY, curves(), "evaluate") == stored
    assert store.get(KEY, "evaluate").equals(curves())


def test_the_first_writer_wins_and_the_second_is_told(store, caplog):
    first = store.put(KEY, curves(), "evaluate")
    assert store.put(KEY, curves(4), "evaluate") == first
    assert "computed again with other bytes" in caplog.text
    assert store.get(KEY, "evaluate").num_rows == 5


def test_a_table_of_another_schema_version_counts_as_absent(store, monkeypatch):
    monkeypatch.setattr("pipeline.store.SCHEMA_VERSION", "0.9.0")
    store.put(KEY, curves(), "evaluate")
    monkeypatch.undo()
    assert store.get(KEY, "evaluate") is None
    store.put(KEY, curves(4), "evaluate")
    assert store.get(KEY, "evaluate").num_rows == 4


start = []  # in each process of a race: the barrier at which they wait for each other


def wait_at(barrier):
    start.append(barrier)


def write_all(location, rows):
    store = Store(location)
    start[0].wait(240)
    return [store.put(key, curves(rows), "evaluate").sha256 for key in KEYS[:30]]


def race(location, rows):
    """Processes that write the same keys at the same moment, one for each number of rows; what each was told."""
    spawn = multiprocessing.get_context("spawn")  # the S3 client does not survive a fork
    barrier = spawn.Barrier(len(rows))
    with ProcessPoolExecutor(len(rows), spawn, initializer=wait_at, initargs=(barrier,)) as pool:
        return list(pool.map(write_all, [location] * len(rows), rows, timeout=300))


def test_processes_that_write_the_same_keep_one_of_each(store, location):
    told = race(location, [5, 5])
    assert told[0] == told[1]
    assert len(list(store.backend.list())) == 30
    assert all(store.get(key, "evaluate").equals(curves()) for key in KEYS[:30])


def test_in_a_bucket_one_of_two_different_writers_wins(s3):
    told = race(s3, [5, 4])
    assert told[0] == told[1]
    assert [Store(s3).find(key, "evaluate").sha256 for key in KEYS[:30]] == told[0]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("gs://bucket/x", "paths.store=gs://bucket/x: gs:// is not taken; give a folder or s3://bucket/prefix"),
        ("s3://", "paths.store=s3:// is not an address; write s3://bucket/prefix"),
        ("s3://bucket/x?region=y", "is not an address"),
    ],
)
def test_other_addresses_are_refused(location, message):
    with pytest.raises(InputError, match=message):
        backend_of(location)


def test_a_bucket_that_is_not_there_is_named(s3):
    absent = Store("s3://no-such-bucket/x")
    with pytest.raises(
        InputError, match=r"^conf error: paths.store=s3://no-such-bucket/x: NoSuchBucket: .*AWS_ENDPOINT"
    ):
        absent.checked()
    with pytest.raises(
        StorageError, match=r"^paths.store=s3://no-such-bucket/x: evaluate/.* cannot be written: NoSuch"
    ):
        absent.put(KEY, curves(), "evaluate")
    Store(s3).checked()


def test_a_server_that_does_not_answer_is_named(s3, monkeypatch):
    monkeypatch.setattr("pipeline.backends.s3.RETRIES", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"^conf error: paths.store=s3://bucket/x: .*127.0.0.1:9") as caught:
        Store("s3://bucket/x").checked()
    assert "made-up" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_package_for_s3_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "pipeline.backends.s3", raising=False)
    with pytest.raises(InputError, match=r"pip install 'headlight-xai\[s3\]'"):
        backend_of("s3://bucket/x")
