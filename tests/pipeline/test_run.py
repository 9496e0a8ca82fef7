"""A whole run on a tiny model: tables, reuse, resume, and the same bytes whoever computes them."""

from __future__ import annotations

import json
import os
import platform
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import save_tiny

from attribution.errors import HeadlightError
from pipeline.driver import Stopped
from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.schemas import RUN_TABLES, SHARDS
from pipeline.store import Store
from pipeline.users import users_of
from pipeline.validate import load_config

PLAIN = ["attribution.m.method=gradcam", "evaluation.controls=[]"]
METHODS = ["attribution.m.method=mask_lrp", "attribution.m.head_mask=both", "attribution.random.method=random"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def base(model, tmp_path, monkeypatch):
    """Overrides of a small experiment whose files all go below the test's folder."""
    monkeypatch.chdir(tmp_path)
    return tiny_overrides(model, tmp_path)


def go(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True))


def manifest(result):
    return json.loads((result.folder / "manifest.json").read_text())


def test_every_table_is_there_with_its_columns(base):
    result = go([*base, *METHODS])
    assert result.exit_code == 0
    for name, schema in RUN_TABLES.items():
        assert pq.read_table(result.folder / f"{name}.parquet").schema.equals(schema), name
    tables = {name: pq.read_table(result.folder / f"{name}.parquet") for name in RUN_TABLES}
    assert tables["examples"]["text"].to_pylist() == [text for text, _ in TEXTS]
    assert tables["attributions"]["method"].to_pylist() == ["m"] * 7 + ["random"] * 7
    assert tables["attributions"]["item_id"].to_pylist() == tables["examples"]["item_id"].to_pylist() * 2
    assert tables["curves"].num_rows == 7 * 2 * 3
    assert set(tables["metrics"]["metric"].to_pylist()) == {"aopc", "log_odds", "comprehensiveness", "sufficiency"}
    assert {row["against"] for row in tables["metrics"].to_pylist()} == {None, "random"}
    assert (result.folder / "report.html").stat().st_size > 10_000
    (user,) = users_of(Store(result.folder.parents[1] / "store"))
    assert (user.folder, user.is_here()) == (str(result.folder.parent.absolute()), True)
    shards = pq.read_table(result.folder / "shards.parquet")
    assert shards.schema.equals(SHARDS)
    assert set(shards["stage"].to_pylist()) == {
        "load_model",
        "identify_heads",
        "measure_memory",
        "attribute",
        "evaluate",
    }
    assert all(row["ok"] and row["seconds"] > 0 for row in shards.to_pylist())


def test_a_second_run_computes_nothing_and_gives_the_same_bytes(base):
    first = go([*base, *METHODS])
    before = manifest(first)
    second = go([*base, *METHODS])
    assert second.folder == first.folder
    assert manifest(second)["files"] == before["files"]
    assert all(stage["computed"] == 0 and stage["reused"] > 0 for stage in manifest(second)["reuse"].values())
    assert before["environment"]["hardware"].startswith(platform.machine())
    assert before["memory"]["worker_peak_mib"] > 50
    assert manifest(second)["environment"]["hardware"] is None  # nothing was computed
    assert manifest(second)["memory"]["worker_peak_mib"] is None


def test_adding_a_method_computes_only_that_method(base):
    go([*base, *METHODS])
    more = manifest(go([*base, *METHODS, "attribution.g.method=gradcam"]))["reuse"]
    assert more["load_model"]["computed"] == more["identify_heads"]["computed"] == 0
    assert more["attribute"]["computed"] * 2 == more["attribute"]["reused"]
    assert more["evaluate"]["computed"] * 2 == more["evaluate"]["reused"]


def test_a_method_has_the_same_scores_whoever_shares_its_pass(base):
    alone = go([*base, *PLAIN])
    together = go([*base, *PLAIN, "attribution.x.method=full_lrp", "paths.root=elsewhere"])
    first, second = (pq.read_table(r.folder / "curves.parquet") for r in (alone, together))
    assert first.equals(second.slice(0, first.num_rows))


def test_one_method_under_two_names_is_computed_once(base):
    result = manifest(go([*base, *PLAIN, "attribution.again.method=gradcam"]))
    assert result["reuse"]["attribute"]["computed"] == result["reuse"]["load_model"]["computed"]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interrupted_run_goes_on_where_it_was(base, monkeypatch, number, error):
    whole = go([*base, *METHODS, "paths.root=whole"])
    done = []
    original = Store.put

    def put(store, key, table, stage):
        if stage == "evaluate" and len(done) == 8:
            os.kill(os.getpid(), number)
        done.extend([key] if stage == "evaluate" else [])
        return original(store, key, table, stage)

    before = signal.signal(number, signal.default_int_handler)  # a shell's background process ignores SIGINT
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "put", put)
            with pytest.raises(error):
                go([*base, *METHODS])
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, before)
    resumed = go([*base, *METHODS])
    reuse = manifest(resumed)["reuse"]
    assert reuse["attribute"]["computed"] == 0
    assert reuse["evaluate"]["reused"] >= (10 if error is Stopped else 6)  # what was under way is finished first
    assert manifest(resumed)["files"] == manifest(whole)["files"]


@pytest.mark.parametrize("stage", ["load_model", "identify_heads", "attribute", "evaluate"])
def test_a_result_damaged_after_it_was_written_is_computed_again(base, damage, stage):
    whole = go([*base, *METHODS, "paths.root=whole"])
    damaged = damage(stage)
    result = go([*base, *METHODS])
    assert damaged
    assert result.exit_code == 0
    assert manifest(result)["files"] == manifest(whole)["files"]


def test_ray_and_local_and_any_number_of_workers_give_the_same_bytes(base, monkeypatch):
    monkeypatch.setattr("pipeline.stages.identify_heads.CHUNK", 40)  # so that workers share the search for heads
    local = go([*base, *METHODS, "paths.root=local"])
    for workers in (1, 2):
        root = f"paths.root=ray{workers}"
        ray = go([*base, *METHODS, root, "cluster=ray", f"cluster.workers={workers}"])
        assert manifest(ray)["files"] == manifest(local)["files"]


@pytest.mark.parametrize("stage", ["load_model", "attribute", "evaluate"])
def test_an_example_that_cannot_be_computed_costs_only_itself(base, monkeypatch, capsys, stage):
    from importlib import import_module

    module = import_module(f"pipeline.stages.{stage}")
    original = module.process

    def process(**payload):
        if 1 in payload["shard"].rows:
            raise ValueError("too sour")
        return original(**payload)

    whole = go([*base, *METHODS, "paths.root=whole"])
    monkeypatch.setattr(module, "process", process)
    overrides = [*base, *METHODS, "cluster.max_batch=3"]
    result = run(load_config(overrides), overrides)
    written = manifest(result)
    assert result.exit_code == 1
    assert written["status"] == "failed"
    assert {failure["error"] for failure in written["failures"]} == {"ValueError: too sour"}
    poison = pq.read_table(whole.folder / "examples.parquet")["item_id"][1].as_py()
    assert {failure["item_id"] for failure in written["failures"]} == {poison}
    assert "row 2 is left out: ValueError: too sour" in capsys.readouterr().err
    kept, all_of_them = (pq.read_table(r.folder / "values.parquet") for r in (result, whole))
    keys = ["method", "item_id", "metric"]
    others = [row for row in all_of_them.select(keys).to_pylist() if row["item_id"] != poison]
    assert kept.select(keys).to_pylist() == others


def test_nothing_is_explained_where_no_example_can_be(base, monkeypatch):
    from pipeline.stages import load_model

    def process(**payload):
        raise ValueError("too sour")

    monkeypatch.setattr(load_model, "process", process)
    with pytest.raises((RuntimeError, HeadlightError), match="ValueError: too sour"):
        go([*base, *METHODS, "dataset.limit=1"])


def test_long_texts_are_cut_counted_and_reported(base, tmp_path):
    (tmp_path / "reviews.tsv").write_text("sentence\tlabel\n" + "good " * 10_000 + "\tpositive\nbad .\tnegative\n")
    written = manifest(go([*base, *METHODS]))
    assert written["truncated"] == {"examples": 1, "tokens": 10_002 - 64, "share": (10_002 - 64) / (10_002 + 4)}
    assert any("truncated" in note or "cut" in note for note in written["dataset"]["notes"])


def test_heads_of_an_earlier_run_come_with_the_text_they_were_selected_on(base):
    first = go([*base, *METHODS])
    again = go([*base, *METHODS, "name=again", "heads=run", f"heads.run={first.folder}"])
    (said,) = [note for note in manifest(again)["dataset"]["notes"] if note.startswith("heads are those of")]
    assert '"heads were selected on the built-in grammar' in said


def test_another_experiment_of_the_same_name_gets_a_folder_of_its_own(base):
    first, second = go([*base, *METHODS]), go([*base, *METHODS, "dataset.limit=3"])
    assert second.folder.name == f"{first.folder.name}-2"
    assert manifest(go([*base, *METHODS]))["dataset"]["n"] == len(TEXTS)


def test_the_plan_knows_what_is_at_hand(base, capsys):
    from pipeline.plan import describe_plan

    config = load_config([*base, *METHODS])
    assert "0 at hand" in describe_plan(config)
    assert not Path("outputs").exists()
    go([*base, *METHODS])
    assert "evaluate: 0 results to compute" in describe_plan(config)
    more = describe_plan(load_config([*base, *METHODS, "attribution.g.method=gradcam"]))
    assert "attribute: 0" not in more
    assert "load_model: 0 results to compute" in more


def test_a_plan_measures_and_the_run_compares(base, capsys):
    from pipeline.plan import describe_plan

    overrides = [*base, *METHODS]
    lines = describe_plan(load_config(overrides), probe=True).splitlines()
    assert [line for line in lines if line.startswith("time: about ")]
    assert any(line.startswith("memory: ") and "GiB" in line for line in lines)
    assert not Path("outputs/store").exists()
    result = run(load_config(overrides), overrides)
    written = manifest(result)
    stages = {"load_model", "identify_heads", "measure_memory", "attribute", "evaluate"}
    assert set(written["estimate"]["seconds"]) == stages
    assert all(seconds > 0 for seconds in written["estimate"]["seconds"].values())
    assert set(written["worker_seconds"]) == set(written["estimate"]["seconds"])
    assert "planned " in capsys.readouterr().err
    left = describe_plan(load_config(overrides), probe=True)
    assert "0:00 of work (nothing left)" in left


def test_a_plan_says_what_does_not_fit(base):
    from pipeline.plan import describe_plan

    lines = describe_plan(load_config([*base, *METHODS, "budget.worker_hours=0.0000001"]), probe=True)
    assert "but budget.worker_hours=1e-07; it would stop there and could go on" in lines


def test_the_plan_fine_tunes_nothing(tmp_path, monkeypatch):
    from pipeline.plan import describe_plan

    monkeypatch.chdir(tmp_path)
    assert "fine-tuned first" in describe_plan(load_config(["experiment=demo"]))
    assert list(tmp_path.iterdir()) == []
