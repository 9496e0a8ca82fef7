"""What may differ between a night and the champion, and what makes them incomparable."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from pipeline.compose import compose_config, config_dict
from pipeline.regression.compare import Side, departures, same_digits
from pipeline.regression.confirm import can_resample, fresh_config, fresh_examples, of_the_night

MANIFEST: dict[str, Any] = {
    "model": {"fingerprint": "m", "labels": {"0": "negative"}},
    "dataset": {"fingerprint": "d"},
    "environment": {
        "versions": {"torch": "2.13", "headlight": "0.1"},
        "code": "c",
        "device": "cpu",
        "hardware": "x86_64 AVX2",
        "threads": 1,
        "executor": "local",
        "workers": 1,
    },
}


@cache
def nightly() -> dict[str, Any]:
    return config_dict(compose_config(["experiment=nightly"]))


def side() -> Side:
    return Side(copy.deepcopy(MANIFEST), copy.deepcopy(nightly()), frozenset("abc"))


def put(tree: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        tree = tree[name]
    tree[last] = value


def candidate(change: Callable[[Side], None]) -> Side:
    other = side()
    change(other)
    return other


def test_nothing_departs_from_itself() -> None:
    assert departures(side(), side(), []) == []
    assert same_digits(departures(side(), side(), []))


@pytest.mark.parametrize(
    ("change", "kind", "allowed_by"),
    [
        (lambda s: put(s.manifest, "model.fingerprint", "other"), "model", "model"),
        (lambda s: put(s.manifest, "model.labels", {"0": "bad"}), "model", "model"),
        (lambda s: put(s.config, "model.path", "elsewhere"), "model", "model"),
        (lambda s: put(s.manifest, "environment.versions.torch", "2.14"), "versions", "versions"),
        (lambda s: put(s.manifest, "environment.versions.new", "1"), "versions", "versions"),
        (lambda s: put(s.manifest, "environment.versions.headlight", "0.2"), "code", "code"),
        (lambda s: put(s.manifest, "environment.code", "other"), "code", "code"),
        (lambda s: put(s.manifest, "environment.device", "cuda"), "device", None),
        (lambda s: put(s.manifest, "dataset.fingerprint", "other"), "data", None),
        (lambda s: put(s.config, "dataset.limit", 7), "config", None),
        (lambda s: put(s.config, "attribution.gradcam.method", "attcat"), "config", None),
        (lambda s: put(s.config, "attribution.more", {"method": "attcat"}), "config", None),
        (lambda s: put(s.config, "evaluation.metrics", ["aopc"]), "config", None),
        (lambda s: put(s.config, "seed", 1), "config", None),
    ],
)
def test_what_differs_is_named_and_allowed_only_where_it_may_vary(
    change: Callable[[Side], None], kind: str, allowed_by: str | None
) -> None:
    other = candidate(change)
    everything = {"model", "versions", "code"}
    for vary in ([], sorted(everything - {allowed_by}), sorted(everything)):
        (found,) = departures(side(), other, vary)
        assert (found.kind, found.allowed) == (kind, allowed_by in vary)
    assert not same_digits([found])


@pytest.mark.parametrize(
    "change",
    [
        lambda s: put(s.config, "name", "other"),
        lambda s: put(s.config, "paths.root", "/elsewhere"),
        lambda s: put(s.config, "tracking.store", "none"),
        lambda s: put(s.config, "cluster.workers", 9),
        lambda s: put(s.config, "report.texts", "none"),
        lambda s: put(s.config, "regression.confidence", 0.5),
    ],
)
def test_where_and_how_it_ran_does_not_matter(change: Callable[[Side], None]) -> None:
    assert departures(side(), candidate(change), []) == []


def test_first_examples_are_incomparable_whichever_side_has_them() -> None:
    fewer = Side(side().manifest, side().config, frozenset("ab"))
    assert [found.candidate for found in departures(side(), fewer, [])] == [0]
    assert [found.champion for found in departures(side(), fewer, [])] == [1]
    assert [(found.champion, found.candidate) for found in departures(fewer, side(), [])] == [(0, 1)]
    swapped = Side(side().manifest, side().config, frozenset("abx"))
    assert len(departures(side(), swapped, ["model", "versions", "code"])) == 2


def test_another_machine_costs_digits_and_no_comparison() -> None:
    found = departures(side(), candidate(lambda s: put(s.manifest, "environment.hardware", "x86_64 AVX512")), [])
    assert [(each.kind, each.allowed) for each in found] == [("machine", True)]
    assert not same_digits(found)
    workers = departures(side(), candidate(lambda s: put(s.manifest, "environment.workers", 8)), [])
    assert same_digits(workers)


def test_code_that_was_not_recorded_may_have_been_any() -> None:
    unrecorded = candidate(lambda s: put(s.manifest, "environment.code", None))
    assert [found.allowed for found in departures(unrecorded, unrecorded, [])] == [False]
    assert [found.allowed for found in departures(unrecorded, unrecorded, ["code"])] == [True]


def test_a_key_that_came_with_newer_code_counts_as_its_default() -> None:
    older = side()
    del older.config["dataset"]["skip"]
    assert departures(older, side(), ["code"]) == []
    assert [found.key for found in departures(older, side(), [])] == ["dataset.skip"]
    skipping = candidate(lambda s: put(s.config, "dataset.skip", 5))
    assert [(found.key, found.allowed) for found in departures(older, skipping, ["code"])] == [("dataset.skip", False)]


# --- fresh ----------------------------------------------------------------------------------------------------------


def test_fresh_means_other_seeds_everywhere() -> None:
    masked = ["attribution.masked.method=mask_lrp", "attribution.masked.head_mask=random(3, syntactic)"]
    broken = ["attribution.broken.method=mask_lrp", "attribution.broken.head_mask='corrupted(0.25, 2)'"]
    config = compose_config(["experiment=nightly", *masked, *broken])
    fresh = fresh_config(config, 1000, skip=80)
    assert (fresh.seed, fresh.evaluation.seed, fresh.dataset.sample_seed) == (1000, 1000, 0)
    assert (fresh.dataset.skip, fresh.dataset.limit) == (80, 80)
    assert fresh.attribution["random"] == {"method": "random", "seed": 1000}
    assert fresh.attribution["masked"]["head_mask"] == "random(1003, syntactic)"
    assert fresh.attribution["broken"]["head_mask"] == "corrupted(0.25, 1002)"
    assert fresh.attribution["gradcam"] == config.attribution["gradcam"]
    assert fresh.tracking.store == "none"
    assert config.seed == config.dataset.skip == 0


def test_rounds_take_examples_that_no_other_round_takes() -> None:
    config = compose_config(["experiment=nightly", "dataset.limit=30"])
    assert [fresh_examples(config, number) for number in range(3)] == [30, 60, 90]
    assert fresh_examples(compose_config(["experiment=nightly", "dataset.limit=null"]), 0) == 0


def test_both_sides_can_be_run_where_only_the_model_differs() -> None:
    model = departures(side(), candidate(lambda s: put(s.manifest, "model.fingerprint", "x")), ["model"])
    code = departures(side(), candidate(lambda s: put(s.manifest, "environment.code", "x")), ["code"])
    assert can_resample(model)
    assert not can_resample(code)


def test_a_night_has_its_own_name_and_store_and_keeps_no_secret() -> None:
    config = compose_config(["experiment=nightly", "regression.webhook='https://host/secret'"])
    night = of_the_night(config, "nightly-1", "there")
    assert (night.name, night.paths.store, night.regression.series) == ("nightly-1", "there", "nightly")
    assert night.regression.webhook is None
    assert config.regression.webhook == "https://host/secret"
