"""Pickled weights become safetensors in a process of their own, and nothing in them is run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_tiny

from attribution import Explainer
from pipeline.cli import main
from pipeline.config import ModelConfig
from pipeline.models import convert, resolve_model


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


def pickled(original, folder, save):
    """The same model with its weights written by `save(state dict, folder)`."""
    folder.mkdir()
    for path in original.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    save(load_file(original / "model.safetensors"), folder)
    return folder


def in_one(weights, folder):
    first, second = [name for name in weights if name.endswith("LayerNorm.bias")][:2]
    weights[second] = weights[first]  # one memory under two names, as tied weights are
    torch.save(weights, folder / "pytorch_model.bin")


def in_two(weights, folder):
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    places = {name: files[number % 2] for number, name in enumerate(weights)}
    for file in files:
        torch.save({name: weights[name] for name, place in places.items() if place == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(folder):
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize(("save", "n_files"), [(in_one, 1), (in_two, 2)], ids=["one file", "two files"])
def test_a_converted_model_has_the_same_weights_and_can_be_explained(
    original, tmp_path, monkeypatch, capsys, save, n_files
):
    monkeypatch.chdir(tmp_path)
    folder = pickled(original, tmp_path / "old", save)
    assert main(["convert", str(folder)]) == 0
    printed, made = capsys.readouterr().out, tmp_path / "old-safetensors"
    expected = {name: t for path in folder.glob("*.bin") for name, t in torch.load(path, weights_only=True).items()}
    found = read(made)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    record = json.loads((made / "conversion.json").read_text())
    assert len(record["files"]) == n_files
    for file in record["files"]:
        assert file["source_sha256"] == sha256(folder / file["source"])
        assert file["target_sha256"] == sha256(made / file["target"])
        assert file["source_sha256"] in printed
        assert file["target_sha256"] in printed
    assert all(file["network"] is None or "was not cut off" in printed for file in record["files"])
    assert [len(names) for file in record["files"] for names in file["shared"]] == ([2] if save is in_one else [])
    assert resolve_model(ModelConfig(source="local", path=str(made)), tmp_path).task == "classification"
    assert Explainer.from_pretrained(made).explain(["the film was good ."], method="gradcam")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class Planted:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", ["zip", "plain pickle"])
def test_a_planted_command_is_not_run(original, tmp_path, capsys, protocol):
    trace = tmp_path / "was-run"

    def plant(weights, folder):
        content = {**weights, "planted": Planted(f"touch {trace}")}
        if protocol == "zip":
            torch.save(content, folder / "pytorch_model.bin")
        else:
            (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))

    folder = pickled(original, tmp_path / "old", plant)
    assert main(["convert", str(folder), "--out", str(tmp_path / "new")]) == 4
    message = capsys.readouterr().err
    assert f"error: {folder}: pytorch_model.bin is not converted, nothing of it was run: UnpicklingError" in message
    assert message.count("\n") == 1
    assert not trace.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    if protocol == "plain pickle":  # the plant does work where pickles are trusted
        pickle.loads((folder / "pytorch_model.bin").read_bytes())
        assert trace.exists()


def test_the_reading_process_gets_no_secrets(original, tmp_path, monkeypatch):
    seen = {}

    def run(command, **settings):
        seen.update(settings, command=command)
        return subprocess.CompletedProcess(command, 1, "", "Killed")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    folder = pickled(original, tmp_path / "old", in_one)
    assert main(["convert", str(folder), "--out", str(tmp_path / "new")]) == 4
    assert "-I" in seen["command"]
    assert seen["env"].keys() <= {"PATH", "LD_LIBRARY_PATH", "LANG"}


CONNECT = """
import socket, sys
sys.path.insert(0, {folder!r})
import unpickle
reason = unpickle.cut_off()
assert "torch" not in sys.modules, "its threads would stay in the network"
print(reason or "cut off")
socket.create_connection(("127.0.0.1", {port}), timeout=10)
print("connected")
"""


def test_the_reading_process_has_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = CONNECT.format(folder=str(Path(convert.__file__).parent), port=server.getsockname()[1])
        done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    reason, _, rest = done.stdout.partition("\n")
    if reason != "cut off":
        pytest.skip(f"this system has no network namespaces for us: {reason}")
    assert rest == ""
    assert "Network is unreachable" in done.stderr


def test_where_it_has_one_the_output_says_so(original, tmp_path, monkeypatch, capsys):
    def run(command, cwd, **settings):
        done = real(command, cwd=cwd, **settings)
        said = json.loads(done.stdout) | {"network": "Operation not permitted"}
        return subprocess.CompletedProcess(command, 0, json.dumps(said), "")

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    folder = pickled(original, tmp_path / "old", in_one)
    assert main(["convert", str(folder), "--out", str(tmp_path / "new")]) == 0
    assert "not cut off from the network: Operation not permitted" in capsys.readouterr().out
    record = json.loads((tmp_path / "new" / "conversion.json").read_text())
    assert record["files"][0]["network"] == "Operation not permitted"


def point_outside(weights, folder):
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": "../other.bin"}}))


REFUSED = {
    "no weights": (lambda weights, folder: None, "has no pytorch_model.bin and no pytorch_model.bin.index.json"),
    "weights elsewhere": (point_outside, "names ../other.bin, which is no .bin file of the folder"),
    "broken index": (
        lambda weights, folder: (folder / "pytorch_model.bin.index.json").write_text("[]"),
        "is not an index of weights",
    ),
    "safetensors": (
        lambda weights, folder: (folder / "model.safetensors").write_bytes(b""),
        "has safetensors already; there is nothing to convert",
    ),
}


@pytest.mark.parametrize(("save", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_before_anything_is_read(original, tmp_path, capsys, save, message):
    folder = pickled(original, tmp_path / "old", save)
    assert main(["convert", str(folder), "--out", str(tmp_path / "new")]) == 4
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(original, tmp_path, capsys):
    folder = pickled(original, tmp_path / "old", in_one)
    assert main(["convert", str(folder), "--out", str(folder)]) == 4
    assert f"--out {folder} exists already" in capsys.readouterr().err


def test_from_the_hub_pickles_are_fetched_for_this_alone(original, tmp_path, monkeypatch, capsys):
    snapshot, seen = pickled(original, tmp_path / ("a" * 40), lambda weights, folder: None), {}

    def download(repository, **settings):
        seen.update(settings, repository=repository)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert main(["convert", "owner/old", "--revision", "v1"]) == 4
    assert (seen["repository"], seen["revision"]) == ("owner/old", "v1")
    assert {"pytorch_model.bin", "pytorch_model-*.bin"} <= set(seen["allow_patterns"])
    assert main(["run", "model=hub", "model.id=owner/old", "dataset=reviews"]) == 4
    assert "`headlight convert owner/old` makes safetensors" in capsys.readouterr().err


def test_the_refusal_of_pickles_names_the_command(original, tmp_path, capsys):
    folder = pickled(original, tmp_path / "old", in_one)
    assert main(["run", "model=local", f"model.path={folder}", "dataset=reviews"]) == 4
    assert f"`headlight convert {folder}` makes safetensors" in capsys.readouterr().err
    assert not Path("outputs").exists()
