"""Values, combinations and files that cannot work are all named before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attribution.errors import InputError
from pipeline.compose import compose_config
from pipeline.config import ONLY_WITH, Config
from pipeline.validate import CHOICES, RANGES, load_config, validate

BASE = compose_config([])


def with_values(**values: Any) -> Config:
    """The default configuration with `group__key=value` changed."""
    config = BASE
    for name, value in values.items():
        group, _, key = name.partition("__")
        config = replace(config, **{group: replace(getattr(config, group), **{key: value}) if key else value})
    return config


def with_method(**entry: Any) -> Config:
    return replace(BASE, attribution={**BASE.attribution, "mine": {"method": "mask_lrp", **entry}})


def problem(config: Config) -> str:
    (line,) = validate(config)
    return line


def test_default_is_fine() -> None:
    assert validate(BASE) == []


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"dataset__limit": 0}, "dataset.limit=0 must be at least 1."),
        ({"evaluation__confidence": 1.0}, "evaluation.confidence=1.0 must be between 0 and 1, both excluded."),
        ({"cluster__gpus_per_worker": 0.4}, "cluster.gpus_per_worker=0.4 must be 0, a whole number or 1/n."),
        ({"explain__target": "gould"}, "explain.target=gould is not a choice. Choose one of predicted, gold,"),
        ({"evaluation__operator": "blur"}, "evaluation.operator=blur is not a choice. Choose one of null, mask,"),
        ({"name": "a/b"}, "name=a/b names a folder:"),
        ({"name": ".."}, "name=.. names a folder:"),
        ({"evaluation__metrics": ["aopcc"]}, "evaluation.metrics: aopcc is not a metric. Did you mean aopc?"),
        ({"evaluation__controls": ["rand"]}, "evaluation.controls: rand is not a label of attribution."),
        ({"heads__thresholds": {"iobj": 0.5}}, "heads.thresholds.iobj: iobj is not in heads.relations="),
        ({"heads__thresholds": {"obj": 5}}, "heads.thresholds.obj=5 must be between 0 and 1."),
        ({"heads__source": "treebank"}, "heads.select is missing; heads.source=treebank needs it."),
        ({"heads__source": "run"}, "heads.run is missing; heads.source=run needs it."),
        ({"model__source": "hub"}, "model.id is missing; model.source=hub needs it."),
        ({"dataset__source": "local"}, "dataset.path is missing; dataset.source=local needs it."),
        ({"explain__target": "span"}, "explain.target=span is for question answering, but model.source=minilm_reviews"),
        ({"attribution": {}, "evaluation__controls": []}, "attribution is empty."),
    ],
)
def test_bad_values(values: dict[str, Any], answer: str) -> None:
    assert problem(with_values(**values)).startswith(f"conf error: {answer}")


@pytest.mark.parametrize("share", [0, 1, 2, 0.5, 0.25, 1 / 3, 0.33])
def test_gpu_shares_that_fit(share: float) -> None:
    assert validate(with_values(cluster__gpus_per_worker=share)) == []


@pytest.mark.parametrize("target", ["predicted", "gold", "runner_up", "1"])
def test_targets(target: str) -> None:
    assert validate(with_values(explain__target=target)) == []


@pytest.mark.parametrize(
    ("entry", "answer"),
    [
        ({"method": "mask_lpr"}, ".method=mask_lpr is not a method. Did you mean mask_lrp? `headlight methods` lists"),
        ({"foo": 1}, ".foo is not a parameter of mask_lrp. Choices: head_mask, variant."),
        ({"varient": "reference"}, ".varient is not a parameter of mask_lrp. Did you mean variant?"),
        ({"method": "gradcam", "n_steps": 3}, ".n_steps is not a parameter of gradcam. It has none."),
        ({"variant": "old"}, ".variant=old is not a choice. Choose one of corrected, reference."),
        ({"variant": "reference"}, ".variant=reference needs a head mask: attribution.mine.head_mask=both"),
        ({"head_mask": "randomly(3)"}, ".head_mask=randomly(3) is not a head mask. Choose one of: syntactic,"),
        ({"head_mask": "relation(iobj)"}, ".head_mask=relation(iobj) names a relation outside heads.relations="),
        ({"head_mask": 3}, ".head_mask=3 is neither the name of a head mask nor a table"),
        ({"head_mask": [[1, 0], [1]]}, ".head_mask=[[1, 0], [1]] is neither"),
        ({"method": "random", "seed": "a"}, ".seed=a is not a whole number; the default is 0."),
        ({"method": "random", "seed": True}, ".seed=True is not a whole number"),
    ],
)
def test_bad_methods(entry: dict[str, Any], answer: str) -> None:
    assert problem(with_method(**entry)).startswith(f"conf error: attribution.mine{answer}")


@pytest.mark.parametrize("mask", ["both", "random(3, syntactic)", "relation(obj)", [[1, 0], [0, 1]], None])
def test_good_head_masks(mask: Any) -> None:
    assert validate(with_method(head_mask=mask)) == []


@pytest.mark.parametrize(
    ("attribution", "answer"),
    [
        ({"a b": {"method": "gradcam"}}, "attribution.a b: a label has letters"),
        ({"a": 3}, "attribution.a=3 is not a method. Write attribution.a.method=gradcam;"),
    ],
)
def test_bad_labels(attribution: dict[str, Any], answer: str) -> None:
    config = replace(with_values(evaluation__controls=[]), attribution=attribution)
    assert problem(config).startswith(f"conf error: {answer}")


def test_files_and_folders(tmp_path: Path) -> None:
    file, missing = tmp_path / "file", tmp_path / "missing"
    file.write_text("")
    config = with_values(
        model__source="local", model__path=str(file), dataset__source="local", dataset__path=str(missing)
    )
    assert validate(config) == [
        f"conf error: model.path={file} is not a folder.",
        f"conf error: dataset.path={missing} does not exist; give a file.",
    ]
    assert problem(with_values(paths__root=str(file))) == f"conf error: paths.root={file} is a file; give a folder."


def test_paths_that_are_not_read_need_not_exist() -> None:
    assert validate(with_values(model__path="/nowhere", dataset__path="/nowhere", heads__select="/nowhere")) == []


def test_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert problem(with_values(cluster__device="cuda")).startswith(
        "conf error: cluster.device=cuda: this machine has no"
    )
    assert validate(with_values(cluster__device="cuda", cluster__executor="ray")) == []


def test_server_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert problem(with_values(tracking__store="server")).startswith("conf error: tracking.uri is missing;")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert validate(with_values(tracking__store="server")) == []


def read(config: Config, key: str) -> Any:
    group, _, name = key.partition(".")
    return getattr(getattr(config, group), name) if name else getattr(config, group)


@pytest.mark.parametrize("keys", [CHOICES, RANGES, ONLY_WITH])
def test_tables_name_keys_that_exist(keys: Iterable[str]) -> None:
    for key in keys:
        read(BASE, key)


def test_every_kind_of_problem_is_reported_together() -> None:
    overrides = ["datset.limit=3", "seed=x", "dataset.limit=0", "attribution.mine.method=mask_lpr", "model.path=m"]
    with pytest.raises(InputError) as error:
        load_config(overrides)
    assert [line.split(": ", 1)[1].split(" ")[0] for line in str(error.value).splitlines()] == [
        "datset.limit",
        "seed=x",
        "dataset.limit=0",
        "attribution.mine.method=mask_lpr",
        "model.path=m",
    ]


def test_what_could_not_be_set_is_not_complained_about_twice() -> None:
    with pytest.raises(InputError) as error:
        load_config(["model=locl", "model.path=somewhere", "dataset=local"])
    lines = str(error.value).splitlines()
    assert [line.split(" ")[2] for line in lines] == ["model=locl", "dataset.path"]


def test_what_an_experiment_leaves_behind_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADLIGHT_DATA", str(tmp_path))
    overrides = ["experiment=paper/mask_lrp_sst2", "model=local", f"model.path={tmp_path}", "heads=grammar"]
    assert load_config(overrides).model.id is not None
    with pytest.raises(InputError, match=r"model\.id=a is for model.source=hub, but model.source=local"):
        load_config([*overrides, "model.id=a"])
