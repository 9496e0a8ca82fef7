"""How much goes in one pass: what is configured, else what memory is measured to take."""

from __future__ import annotations

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from pipeline.execution import make_progress, memory
from pipeline.execution.memory import Fits, free_bytes, peak_of, tokens_that_fit
from pipeline.execution.task import peak_memory, resident_memory
from pipeline.plan import describe_plan
from pipeline.run import run
from pipeline.stages import attribute
from pipeline.validate import load_config

MIB = 2**20


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = ["attribution.m.method=saliency", "attribution.ah.method=attn_lrp", "evaluation.controls=[]"]
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "model"), tmp_path)
    return [*overrides, *methods, "cluster.max_batch=4"]


def go(overrides):
    result = run(load_config(overrides), overrides, make_progress(silent=True))
    return result, json.loads((result.folder / "manifest.json").read_text())


def parts(result):
    rows = pq.read_table(result.folder / "shards.parquet").to_pylist()
    return [row["parts"] for row in rows if row["stage"] == "attribute"]


def test_what_a_pass_takes_is_what_it_holds_at_most():
    def work():
        torch.ones(64 * MIB, dtype=torch.uint8)

    before = peak_of("cpu", lambda: None)
    assert peak_of("cpu", work) - before == pytest.approx(64 * MIB, abs=8 * MIB)
    assert peak_of("cpu", lambda: None) < before + 32 * MIB
    assert resident_memory() >= before + 56 * MIB  # of the whole process, whatever was set back
    assert peak_memory("cpu") == resident_memory()


def test_free_memory_is_shared_by_the_workers_of_a_machine(monkeypatch):
    monkeypatch.setattr(memory, "_machine_free", lambda: 1000)
    monkeypatch.setattr(memory, "_container_free", lambda: [800])
    monkeypatch.setattr(memory, "room", lambda nodes, cpus, gpus: 4)
    assert (free_bytes("cpu"), free_bytes("cpu", 1)) == (800, 200)
    assert tokens_that_fit(4.0, 1000) == 200


def test_a_container_has_its_own_limit(tmp_path, monkeypatch):
    for name, value in (("max", "1000"), ("current", "400"), ("old_max", "max"), ("old_current", "1")):
        (tmp_path / name).write_text(value + "\n")
    files = [(tmp_path / "max", tmp_path / "current"), (tmp_path / "old_max", tmp_path / "old_current")]
    monkeypatch.setattr(memory, "_CGROUP", files)
    assert min(memory._container_free()) == 600


@pytest.mark.parametrize(
    ("fits", "rows", "expected"),
    [
        (Fits(16, tokens=1000), 8, ()),
        (Fits(16, tokens=100), 8, ((0, 4), (4, 8))),
        (Fits(16, tokens=40), 5, ((0, 2), (2, 4), (4, 5))),
        (Fits(16, tokens=1), 2, ((0, 1), (1, 2))),
        (Fits(16, bytes_per_token=1000.0), 8, ((0, 2), (2, 4), (4, 6), (6, 8))),
        (Fits(16, tokens=1000, bytes_per_token=1000.0), 8, ()),
    ],
)
def test_passes_hold_a_power_of_two_of_rows(monkeypatch, fits, rows, expected):
    monkeypatch.setattr(memory, "free_bytes", lambda device, cpus: 60_000)
    assert fits.parts(rows, "cpu") == expected


def test_passes_are_measured_once_and_do_not_matter_where_memory_is_enough(base):
    result, manifest = go([*base, "paths.root=measured"])
    given, other = go([*base, "paths.root=given", "cluster.pass_tokens=100000"])
    assert manifest["files"] == other["files"]
    assert set(parts(result)) == set(parts(given)) == {1}
    measured = manifest["memory"]["pass"]
    assert measured["tokens"] == tokens_that_fit(measured["bytes_per_token"], measured["free_bytes"])
    assert (measured["rows"], measured["problem"], other["memory"]["pass"]) == (3, None, None)
    assert manifest["reuse"]["measure_memory"] == {"computed": 1, "reused": 0}
    assert "measure_memory" not in other["reuse"]


def test_methods_whose_passes_have_a_size_of_their_own_are_not_measured(base, monkeypatch):
    explained, process = [], attribute.process
    monkeypatch.setattr(
        attribute, "process", lambda **payload: explained.append(payload["methods"]) or process(**payload)
    )
    go([*base, "attribution.o.method=occlusion"])
    measured = [sorted(method["method"] for method in methods.values()) for methods in explained[:2]]
    assert measured == [["attn_lrp", "saliency"]] * 2
    assert any(method["method"] == "occlusion" for methods in explained[2:] for method in methods.values())


def test_what_a_run_is_made_of_does_not_depend_on_whether_it_had_to_measure(base):
    first, _ = go(base)
    noted = (first.folder / "results.txt").read_text()
    shutil.rmtree(first.folder)
    again, manifest = go(base)
    assert "measure_memory" not in manifest["reuse"]
    assert (again.folder / "results.txt").read_text() == noted


def test_fewer_tokens_make_parts_that_are_reported_and_agree(base):
    whole, _ = go([*base, "paths.root=whole"])
    cut, manifest = go([*base, "paths.root=cut", "cluster.pass_tokens=17"])
    assert max(parts(cut)) > 1
    assert manifest["divided"] == {"attribute": sum(n > 1 for n in parts(cut))}
    one, other = (pq.read_table(each.folder / "attributions.parquet").to_pylist() for each in (whole, cut))
    for a, b in zip(one, other, strict=True):
        assert (a["item_id"], a["method"], a["status"]) == (b["item_id"], b["method"], b["status"])
        assert a["scores"] == pytest.approx(b["scores"], rel=1e-4, abs=1e-6)
    assert "were computed in parts for want of memory" in (cut.folder / "report.html").read_text()


def test_little_memory_makes_parts_before_anything_fails(base, monkeypatch):
    whole, _ = go([*base, "paths.root=whole"])
    monkeypatch.setattr("pipeline.execution.memory.tokens_that_fit", lambda each, free: 17)
    cut, _ = go([*base, "paths.root=cut"])
    assert max(parts(cut)) > max(parts(whole)) == 1


def test_a_measurement_that_fails_costs_nothing_but_itself(base, monkeypatch):
    def fails(**payload):
        if "measure" in seen:
            seen.remove("measure")
            raise ValueError("too sour")
        return process(**payload)

    seen, process = ["measure"], attribute.process
    monkeypatch.setattr(attribute, "process", fails)
    result, manifest = go(base)
    assert (result.exit_code, manifest["failures"]) == (0, [])
    assert manifest["memory"]["pass"]["problem"] == "ValueError: too sour"
    assert any("could not be measured (ValueError: too sour)" in note for note in manifest["dataset"]["notes"])


@pytest.mark.parametrize("shortage", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_measurement_without_memory_leaves_it_to_halving(base, monkeypatch, shortage):
    monkeypatch.setattr("pipeline.stages.measure_memory.peak_of", lambda device, work: (_ for _ in ()).throw(shortage))
    _, manifest = go(base)
    assert (manifest["memory"]["pass"]["tokens"], manifest["status"]) == (None, "done")


def test_the_plan_tells_what_goes_in_a_pass(base):
    text = describe_plan(load_config(base), probe=True)
    assert re.search(r"pass: up to [\d,]+ tokens of all methods together \(\d+ KiB a token\); 0 of \d+ microb", text)
    text = describe_plan(load_config([*base, "cluster.pass_tokens=17"]), probe=True)
    assert re.search(r"pass: up to 17 tokens of all methods together \(cluster.pass_tokens\); [1-9] of \d+ mic", text)


@pytest.mark.gpu
def test_a_gpu_says_what_is_free():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    held = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    free = free_bytes("cuda")
    del held
    assert free_bytes("cuda") >= free + 256 * MIB
    work = lambda: torch.empty(128 * MIB, dtype=torch.uint8, device="cuda").sum()  # noqa: E731
    assert peak_of("cuda", work) - peak_of("cuda", lambda: None) >= 128 * MIB
