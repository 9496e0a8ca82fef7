"""What is sent with a job, and what is refused because it means nothing on another machine."""

from __future__ import annotations

import pytest

from attribution.errors import InputError
from pipeline import bundle
from pipeline.bundle import pack
from pipeline.validate import load_config

ROOT = "paths.root=/shared/headlight"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    for name in bundle.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tsv").write_text("sentence\tlabel\nfine .\t1\n")
    return tmp_path


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sent")


def sent(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_relative_file_keeps_its_path(folder):
    packed = pack(folder, ["dataset=local", "dataset.path=data/a.tsv", ROOT])
    assert sent(folder) == ["data/a.tsv"]
    assert packed.arguments == ["run", "cluster.executor=ray", "dataset=local", "dataset.path=data/a.tsv", ROOT]
    assert packed.notes == []


@pytest.mark.parametrize(
    "spell", [lambda here: str(here / "data" / "a.tsv"), lambda here: f"../{here.name}/data/a.tsv"]
)
def test_another_file_gets_a_relative_path(folder, here, spell):
    overrides = ["dataset=local", f"dataset.path={spell(here)}", ROOT]
    packed = pack(folder, overrides)
    assert sent(folder) == ["files/dataset.path/a.tsv"]
    assert packed.arguments[-1] == "dataset.path='files/dataset.path/a.tsv'"
    assert load_config_in(folder, packed.arguments[1:]).dataset.path == "files/dataset.path/a.tsv"


def load_config_in(folder, overrides):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return load_config(overrides)


def test_options_of_the_user_go_along(folder, here):
    (here / "mine" / "experiment").mkdir(parents=True)
    (here / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nname: own\nseed: 7\n")
    packed = pack(folder, ["experiment=own", ROOT], here / "mine")
    assert packed.name == "own"
    assert packed.arguments[:3] == ["run", "--config-dir", "config"]
    assert sent(folder) == ["config/experiment/own.yaml"]


def test_heads_of_a_run_here_go_along_and_a_name_is_left_for_the_cluster(folder, here):
    (here / "outputs" / "runs" / "first").mkdir(parents=True)
    (here / "outputs" / "runs" / "first" / "heads.parquet").write_bytes(b"heads")
    packed = pack(folder, ["heads=run", "heads.run=outputs/runs/first", ROOT])
    assert sent(folder) == ["files/heads.run/heads.parquet"]
    assert packed.arguments[-1] == "heads.run='files/heads.run/heads.parquet'"
    assert pack(folder, ["heads=run", "heads.run=last", ROOT]).arguments[-1] == ROOT


def test_a_file_that_is_too_large_has_to_be_there(folder, monkeypatch):
    monkeypatch.setattr(bundle, "LIMIT_BYTES", 10)
    packed = pack(folder, ["dataset=local", "dataset.path=data/a.tsv", ROOT])
    assert sent(folder) == []
    (note,) = packed.notes
    assert "dataset.path=data/a.tsv" in note
    assert "it has to be there under this path" in note


def test_paths_of_the_cluster_are_taken_as_they_are(folder):
    overrides = ["model=local", "model.path=/cluster/model", "dataset=local", "dataset.path=/cluster/a.tsv", ROOT]
    packed = pack(folder, overrides)
    assert packed.is_empty()
    assert packed.arguments == ["run", "cluster.executor=ray", *overrides]
    assert packed.notes == ["dataset.path=/cluster/a.tsv is not on this machine; it has to be there under this path"]


def test_everything_wrong_is_told_at_once(folder, here):
    (here / "model").mkdir()
    overrides = ["model=local", "model.path=model", "cluster=ray", "cluster.address=10.0.0.1:6379"]
    with pytest.raises(InputError) as error:
        pack(folder, overrides)
    keys = [line.removeprefix("conf error: ").split("=")[0] for line in str(error.value).splitlines()]
    assert keys == ["cluster.address", "paths.root", "model.path"]
    with pytest.raises(InputError, match=r"^conf error: paths\.store=here is relative"):
        pack(folder, [ROOT, "paths.store=here"])
    with pytest.raises(InputError, match=r"dataset\.path=data/b\.tsv does not exist"):
        pack(folder, ["dataset=local", "dataset.path=data/b.tsv", ROOT])


def test_the_executor_can_be_chosen(folder):
    assert "cluster.executor=ray" not in pack(folder, ["cluster=local", ROOT]).arguments
    assert "cluster.executor=ray" in pack(folder, ["cluster.workers=2", ROOT]).arguments


def test_a_sweep_is_checked_cell_by_cell(folder):
    overrides = ["dataset=local", "dataset.path=data/a.tsv", "seed=1,2", ROOT]
    packed = pack(folder, overrides, multirun=True)
    assert packed.arguments == ["run", "-m", "cluster.executor=ray", *overrides]
    assert sent(folder) == ["data/a.tsv"]
    with pytest.raises(InputError, match="seed=-1"):
        pack(folder, ["seed=1,-1", ROOT], multirun=True)


def test_the_environment_that_configurations_read_goes_along_but_no_password(folder, monkeypatch):
    monkeypatch.setenv("HEADLIGHT_DATA", "/cluster/data")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example")
    packed = pack(folder, [ROOT])
    assert packed.environment == {"HEADLIGHT_DATA": "/cluster/data"}
    assert packed.notes[0].startswith("MLFLOW_TRACKING_URI holds a password")
