"""Bringing model and data here, from a small Hub on this machine over real HTTP, and running on them without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import COMMIT
from tiny_models import save_tiny

from attribution.errors import InputError
from pipeline.cli import main
from pipeline.config import DatasetConfig
from pipeline.data import load_dataset
from pipeline.worker import ModelRef

HUB = ["model=hub", "model.id=owner/tiny", "dataset=hub", "dataset.id=owner/films", "dataset.split=test"]
RUN = [
    "heads=all", "attribution=none", "attribution.m.method=gradcam", "evaluation.controls=[]", "tracking=none",
    "cluster=local", "++model.label_map.1=1", "++model.label_map.0=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


def test_what_is_local_is_said_to_be(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("films.tsv").write_text("sentence\tlabel\nfine .\tpositive\n")
    overrides = ["model=local", f"model.path={tiny}", "dataset=local", "dataset.path=films.tsv"]
    assert main(["fetch", *overrides]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["WHAT", "model", "tokenizer", "dataset"]
    assert all("local already" in line for line in lines[1:])
    assert str(tiny) in lines[1]
    assert lines[3].endswith("films.tsv")
    assert main(["fetch", *overrides, "dataset.path=gone.tsv"]) == 4
    assert "conf error: dataset.path=gone.tsv does not exist" in capsys.readouterr().err


def test_a_worker_needs_no_network(tiny, monkeypatch):
    """It gets a folder; only the driver looks at the Hub."""

    def connect(*arguments):
        raise AssertionError("a worker asked for a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    explainer = ModelRef(str(tiny), "f", "float32", "cpu").load()
    assert explainer.tokenizer is not None


def test_another_revision_than_the_cached_is_not_taken_for_it(monkeypatch, tmp_path):
    """What the library does without network: it gives whatever it has of that data set."""
    import datasets

    folder = tmp_path / ("f" * 40)
    datasets.Dataset.from_dict({"text": ["fine"], "label": [1]}).save_to_disk(str(folder))
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: datasets.load_from_disk(str(folder)))
    with pytest.raises(InputError, match=rf"^conf error: dataset.id=a/b dataset.revision=e+ .*which has {'f' * 40}"):
        load_dataset(DatasetConfig(source="hub", id="a/b", split="test", revision="e" * 40))
    same = DatasetConfig(source="hub", id="a/b", split="test", revision="f" * 40)
    assert len(load_dataset(same).examples) == 1


@pytest.fixture
def hub(tiny, tmp_path):
    """The address of a Hub with owner/tiny and owner/films, and the file where it notes its requests."""
    root, data = tmp_path / "hub", tmp_path / "hub/datasets/owner/films/data"
    (root / "models/owner").mkdir(parents=True)
    (root / "models/owner/tiny").symlink_to(tiny)
    data.mkdir(parents=True)
    (data.parent / "README.md").write_text("---\nlicense: mit\n---\n")
    table = pa.table({"text": ["the film was good .", "awful .", "fine ."], "label": [1, 0, 1]})
    pq.write_table(table, data / "test-00000-of-00001.parquet")
    script, log = Path(__file__).parents[1] / "hub_server.py", tmp_path / "requests"
    with log.open("w") as file, subprocess.Popen([sys.executable, str(script), str(root)], stdout=file) as server:
        try:
            while not (lines := log.read_text().splitlines()):
                server.poll()
                assert server.returncode is None
            yield f"http://127.0.0.1:{lines[0]}", log
        finally:
            server.kill()


@pytest.mark.slow
def test_a_run_without_network_finds_what_was_fetched(hub, tmp_path):
    address, log = hub
    online = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    environment = os.environ | online | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}

    def headlight(*arguments, **changes):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            cwd=tmp_path, env=environment | changes, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    fetched = headlight("fetch", *HUB)
    assert [line.split()[:3] for line in fetched.splitlines()[1:4]] == [
        ["model", "owner/tiny", COMMIT],
        ["tokenizer", "owner/tiny", COMMIT],
        ["dataset", "owner/films", COMMIT],
    ]
    assert f"HF_HUB_OFFLINE=1 HF_HOME={tmp_path / 'cache'}" in fetched
    requests = log.read_text()
    assert requests.count("GET /owner/tiny/resolve") == 5  # once each: weights, config, and three of the tokenizer
    assert ".bin" not in requests.replace("/revision/", "")
    headlight("run", *HUB, *RUN, HF_HUB_OFFLINE="1")
    assert (tmp_path / "outputs/runs/run/report.html").is_file()
    assert log.read_text() == requests
