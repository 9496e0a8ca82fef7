"""Sweeps of a tiny experiment, from the command's overrides to the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from attribution.errors import InputError
from pipeline.cli import main
from pipeline.compose import compose_config, config_dict
from pipeline.driver import Stopped
from pipeline.sweep.expand import expand, idle_exclusions
from pipeline.sweep.run import run_sweep
from pipeline.worker import ModelRef

PLAIN = ["attribution.m.method=gradcam", "attribution.random.method=random", "evaluation.bootstrap_samples=100"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def base(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [*tiny_overrides(model, tmp_path), *PLAIN, "heads=all", "name=grid"]


def record(result):
    return json.loads((result.folder / "sweep.json").read_text())


def computed(job):
    return {stage: counts["computed"] for stage, counts in job["reuse"].items()}


# --- cells ----------------------------------------------------------------------------------------------------------


def test_cells_are_the_product_in_hydras_order(base):
    cells = expand([*base, "seed=1,2", "evaluation.operator=mask,delete"])
    assert [cell.label for cell in cells] == [
        "seed=1 evaluation.operator=mask",
        "seed=1 evaluation.operator=delete",
        "seed=2 evaluation.operator=mask",
        "seed=2 evaluation.operator=delete",
    ]
    assert [cell.config.seed for cell in cells] == [1, 1, 2, 2]
    assert cells[1].config.name == "grid.seed-1.operator-delete"
    assert cells[1].overrides[-2:] == ("seed=1", "evaluation.operator=delete")


def test_cells_with_the_same_options_are_composed_once(base, monkeypatch):
    from pipeline import groups

    composed, compose = [], groups.compose
    monkeypatch.setattr(groups, "compose", lambda name, lines: composed.append(lines) or compose(name, lines))
    assert len(expand([*base[:-2], "heads=all,grammar", "seed=range(0,4)"])) == 8
    assert len(composed) == 3  # both options, and what the cells share


def test_a_cell_is_what_its_overrides_make_alone(base):
    cells = expand([*base, "attribution.m.method=gradcam,attcat", "~attribution.random", "evaluation.controls=[]"])
    for cell in cells:
        alone = config_dict(compose_config(cell.overrides))
        assert config_dict(cell.config) == alone | {"name": cell.config.name}


def test_ranges_globs_and_lists(base):
    assert len(expand([*base, "seed=range(0,3)"])) == 3
    assert [cell.choices["heads"] for cell in expand([*base[:-2], "heads=glob(al*)"])] == ["all"]
    lists = expand([*base, "evaluation.metrics=[aopc],[aopc,log_odds]"])
    assert [cell.config.evaluation.metrics for cell in lists] == [["aopc"], ["aopc", "log_odds"]]


def test_excluded_cells_and_missing_checkpoints_are_skipped(base, model):
    cells = expand([*base, "seed=1,2,3", "sweep.exclude=[{seed:2}]"])
    assert [cell.skipped for cell in cells] == [None, "sweep.exclude: seed=2", None]
    cells = expand([*base, f"model.checkpoints={{first:{model}}}", "dataset.name=first,second"])
    assert cells[0].skipped is None
    assert cells[0].config.model.path == str(model)
    assert cells[1].skipped == "model.checkpoints has none for the data set second. It has some for first."


def test_exclusions_that_exclude_nothing_are_said(base):
    cells = expand([*base, "seed=1,2", "sweep.exclude=[{seed:2},{sede:1},{seed:7}]"])
    assert idle_exclusions(cells) == ["sweep.exclude: sede=1", "sweep.exclude: seed=7"]
    with pytest.raises(InputError, match="is not a list of cells"):
        expand([*base, "seed=1,2", "sweep.exclude=[seed]"])


def test_parameters_of_an_experiment_file(base, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "grid.yaml").write_text("# @package _global_\nsweep: {params: {seed: '1,2'}}\n")
    cells = expand([*base, "experiment=grid"], tmp_path / "mine")
    assert [cell.config.seed for cell in cells] == [1, 2]
    assert [cell.config.seed for cell in expand([*base, "experiment=grid", "seed=7"], tmp_path / "mine")] == [7]


def test_all_that_is_wrong_is_said_at_once(base):
    with pytest.raises(InputError) as caught:
        expand([*base, "seed=1,-1", "cluster=local,ray", "evaluation.operatr=mask", "evaluation.levels=paper,nine"])
    lines = str(caught.value).splitlines()
    assert "conf error: cluster=local,ray: all runs of a sweep share cluster; give it one value." in lines
    assert any(line.startswith("conf error: evaluation.operatr is not a configuration key") for line in lines)
    assert any("seed=-1" in line for line in lines)
    assert any("evaluation.levels=nine" in line for line in lines)
    assert len(lines) == len(set(lines)) == 4


# --- runs -----------------------------------------------------------------------------------------------------------


def test_what_runs_share_is_computed_once(base):
    result = run_sweep([*base, "evaluation.operator=mask,unk", "evaluation.seed=0,1"])
    assert result.exit_code == 0
    jobs = record(result)["jobs"]
    assert [job["status"] for job in jobs] == ["done"] * 4
    assert sum(computed(job)["load_model"] for job in jobs) == computed(jobs[0])["load_model"] > 0
    assert sum(computed(job)["attribute"] for job in jobs) == computed(jobs[0])["attribute"] > 0
    assert [computed(job)["evaluate"] > 0 for job in jobs] == [True, False, True, False]


def test_attribution_configurations_share_model_predictions_and_heads(base, monkeypatch):
    loaded, load = [], ModelRef.load
    monkeypatch.setattr(ModelRef, "load", lambda ref: loaded.append(ref.folder) or load(ref))
    masks = ",".join(f'"corrupted(0.5, {seed})"' for seed in range(6))
    own = ["heads=grammar", "attribution.own.method=mask_lrp", f"attribution.own.head_mask={masks}"]
    jobs = record(run_sweep([*base, *own]))["jobs"]
    assert [job["status"] for job in jobs] == ["done"] * 6
    totals = {stage: sum(computed(job)[stage] for job in jobs) for stage in computed(jobs[0])}
    batches = computed(jobs[0])["load_model"]
    assert totals["load_model"] == batches > 0
    assert totals["identify_heads"] == computed(jobs[0])["identify_heads"] > 0
    assert totals["attribute"] <= (2 + 6) * batches  # alone it would be 3 * 6
    assert [computed(job)["attribute"] <= batches for job in jobs] == [False, *[True] * 5]
    assert len(loaded) == 1


def test_a_run_of_a_sweep_has_the_bytes_of_the_run_alone(base, tmp_path):
    from pipeline.run import run
    from pipeline.validate import load_config

    swept = run_sweep([*base, "evaluation.operator=mask,unk"])
    alone = run(load_config([*base, "evaluation.operator=unk", "paths.root=alone"]))
    folder = swept.folder / record(swept)["jobs"][1]["folder"]
    for name in ("attributions", "curves", "values", "metrics"):
        assert (folder / f"{name}.parquet").read_bytes() == (alone.folder / f"{name}.parquet").read_bytes()


def test_ray_shares_the_work_of_runs_under_way(base):
    result = run_sweep([*base, "evaluation.seed=0,1,2", "cluster=ray", "cluster.workers=2"])
    jobs = record(result)["jobs"]
    assert [job["status"] for job in jobs] == ["done"] * 3
    assert sum(computed(job)["evaluate"] for job in jobs) == computed(jobs[0])["evaluate"] > 0


def test_a_failed_run_stops_no_other_and_is_listed(base, tmp_path, capsys):
    (tmp_path / "empty.tsv").write_text("sentence\tlabel\n")
    values = f"dataset.path={tmp_path / 'empty.tsv'},{tmp_path / 'reviews.tsv'}"
    result = run_sweep([*base, values])
    assert result.exit_code == 1
    assert [job["status"] for job in record(result)["jobs"]] == ["failed", "done"]
    out = capsys.readouterr()
    assert any(line.startswith("failed: dataset.path=") and "empty.tsv" in line for line in out.err.splitlines())
    assert out.err.splitlines()[-2] == "sweep: 1 failed, 1 done"
    page = (result.folder / "report.html").read_text()
    assert "1 of 2 runs are done" in page


def test_the_record_says_where_an_unexpected_error_came_from(base, monkeypatch):
    def broken(folder, **options):
        raise ZeroDivisionError("no report")

    monkeypatch.setattr("pipeline.run.build_report", broken)
    [job] = record(run_sweep([*base, "seed=1"]))["jobs"]
    assert (job["status"], job["error"]) == ("failed", "ZeroDivisionError: no report")
    assert "in broken" in job["traceback"]


def test_a_sweep_that_is_stopped_goes_on(base, monkeypatch):
    from pipeline.budget import Budget

    spent = iter([None] * 10 + ["the budget is spent"])
    with monkeypatch.context() as patch:
        patch.setattr(Budget, "spend", lambda self, outcome: next(spent))
        with pytest.raises(Stopped, match="the budget is spent"):
            run_sweep([*base, "evaluation.operator=mask,unk"])
    result = run_sweep([*base, "evaluation.operator=mask,unk"])
    jobs = record(result)["jobs"]
    assert [job["status"] for job in jobs] == ["done", "done"]
    assert jobs[0]["reuse"]["load_model"]["computed"] == 0


def test_a_spent_budget_stops_with_exit_5(base, capsys):
    assert main(["run", *base, "budget.worker_hours=0.0000001"]) == 5
    assert "stopped (budget.worker_hours=1e-07 is spent)" in capsys.readouterr().err
    assert main(["run", *base]) == 0


def test_nothing_is_started_where_every_cell_is_skipped(base, capsys):
    assert main(["run", "-m", *base, "seed=1,2", "sweep.exclude=[{seed:'*'}]"]) == 4
    assert "every cell is skipped" in capsys.readouterr().err
    assert main(["run", "-m", *base, "seed=range(0,9)", "sweep.exclude=[{seed:'*'}]"]) == 4
    assert "conf error: sweep: skipped: 9 cells: sweep.exclude: seed=*" in capsys.readouterr().err.splitlines()
    assert not Path("outputs").exists()


def test_a_limit_on_parallel_runs_is_for_sweeps(base, capsys):
    assert main(["run", "--max-parallel", "2", *base]) == 4
    assert "--max-parallel 2 is for the runs of a sweep; add -m." in capsys.readouterr().err


# --- tables ---------------------------------------------------------------------------------------------------------


def test_tables_of_a_sweep_and_of_a_run(base, capsys):
    run_sweep([*base, "evaluation.operator=mask,unk"])
    capsys.readouterr()
    assert main(["table", "last", "--cols", "evaluation.operator"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| method | mask | unk |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`m`", "`random`"]
    rows = pq.read_table(Path("outputs/runs/grid.operator-unk/metrics.parquet")).to_pylist()
    own = next(r for r in rows if r["metric"] == "aopc" and r["method"] == "m" and r["against"] is None)
    assert f"{own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}]" in lines[2]
    assert main(["table", "grid", "--format", "csv"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "method,column,value,low,high,deviation,methods,runs,undefined"
    assert table[1].startswith("m,reviews,")
    assert table[1].endswith(",1,2,0")
    assert main(["table", "grid", "--rows", "model", "--cols", "evaluation.operator"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("(2 methods)") == 2
    assert shown.err == "aopc, model by evaluation.operator\n"
    assert main(["table", "grid", "--rows", "dataset", "--cols", "metric"]) == 0
    assert capsys.readouterr().out.count("(2 methods in 2 runs)") == 4
    assert main(["table", "grid", "--rows", "model", "--cols", "evaluation.operator", "--method", "m"]) == 0
    assert f"{own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}]" in capsys.readouterr().out
    assert main(["table", "grid.operator-unk", "--format", "latex"]) == 0
    assert r"\begin{tabular}{lrrrr}" in capsys.readouterr().out
    assert main(["table", "grid", "--metric", "aopcc"]) == 4
    assert "--metric aopcc is not in these runs. Choose one of aopc" in capsys.readouterr().err


def runs_of(database):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database.absolute()}")
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_mlflow_has_two_levels(base):
    overrides = [line for line in base if not line.startswith("tracking")]
    result = run_sweep([*overrides, "evaluation.operator=mask,unk"])
    assert result.exit_code == 0
    runs = runs_of(Path("outputs/mlflow.db"))
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    [top] = [run_id for run_id, parent in parents.items() if parent is None]
    assert sorted(filter(None, parents.values())) == [top, top]
    assert {run.info.status for run in runs} == {"FINISHED"}


# --- what was done before -------------------------------------------------------------------------------------------


def written(result):
    """When each file of each run was last written, to the nanosecond."""
    folders = [result.folder / job["folder"] for job in record(result)["jobs"]]
    return {path.resolve(): path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()}


def test_a_sweep_that_goes_on_leaves_what_is_complete(base, capsys):
    first = run_sweep([*base, "seed=1,2"])
    before = written(first)
    again = run_sweep([*base, "seed=1,2,3"])
    jobs = record(again)["jobs"]
    assert [job["status"] for job in jobs] == ["done before", "done before", "done"]
    assert {path: time for path, time in written(again).items() if path in before} == before
    assert "done before: seed=1" in capsys.readouterr().err.splitlines()
    assert [jobs[0]["reuse"]["attribute"][count] for count in ("computed", "reused")] == [0, 12]
    assert "3 of 3 runs are done" in (again.folder / "report.html").read_text()
    assert again.exit_code == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "report.html").unlink(),
        lambda folder: (folder / "results.txt").unlink(),
        lambda folder: (folder / "values.parquet").unlink(),
        lambda folder: (folder / "metrics.parquet").write_bytes(b"PAR1"),
        lambda folder: (folder / "manifest.json").write_text("{"),
    ],
)
def test_what_is_missing_or_damaged_is_written_again(base, damage):
    first = run_sweep([*base, "seed=1,2"])
    folder = first.folder / record(first)["jobs"][0]["folder"]
    whole = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    damage(folder)
    again = run_sweep([*base, "seed=1,2"])
    assert [job["status"] for job in record(again)["jobs"]] == ["done", "done before"]
    assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == whole
    assert (folder / "report.html").exists()


def test_other_data_or_another_report_is_written_again(base, tmp_path):
    run_sweep([*base, "seed=1,2"])
    again = run_sweep([*base, "seed=1,2", "report.texts=none"])
    assert [job["status"] for job in record(again)["jobs"]] == ["done", "done"]
    data = tmp_path / "reviews.tsv"
    data.write_text(data.read_text().replace("never dull", "never bad"))
    changed = run_sweep([*base, "seed=1,2", "report.texts=none"])
    assert [job["status"] for job in record(changed)["jobs"]] == ["done", "done"]
    assert run_sweep([*base, "seed=1,2", "report.texts=none", "budget.worker_hours=1"]).exit_code == 0
    assert [job["status"] for job in record(changed)["jobs"]] == ["done before", "done before"]


def test_a_record_that_mlflow_lost_is_written_again(base, mlflow_database):
    from mlflow import MlflowClient

    Path("outputs").mkdir()
    shutil.copy(mlflow_database, "outputs/mlflow.db")
    tracked = [*(line for line in base if not line.startswith("tracking")), "seed=1,2"]
    first = run_sweep(tracked)
    assert [job["status"] for job in record(run_sweep(tracked))["jobs"]] == ["done before"] * 2
    lost = json.loads((first.folder / record(first)["jobs"][0]["folder"] / "manifest.json").read_text())
    MlflowClient(lost["tracking"]["uri"]).delete_run(lost["tracking"]["run_id"])
    assert [job["status"] for job in record(run_sweep(tracked))["jobs"]] == ["done", "done before"]
    ended = {run.info.run_name: run.info.status for run in runs_of(Path("outputs/mlflow.db"))}
    assert ended == dict.fromkeys(("template", "grid", "grid.seed-1", "grid.seed-2"), "FINISHED")


def test_a_record_that_waits_goes_on_waiting(base):
    offline = [line for line in base if not line.startswith("tracking")] + ["tracking=offline"]
    run_sweep([*offline, "seed=1,2"])
    again = run_sweep([*offline, "seed=1,2"])
    assert [job["status"] for job in record(again)["jobs"]] == ["done before"] * 2
    assert len(json.loads((again.folder / "tracking.json").read_text())["jobs"]) == 2
    sent = run_sweep([*offline[:-1], "tracking=sqlite", "seed=1,2"])
    assert [job["status"] for job in record(sent)["jobs"]] == ["done"] * 2
