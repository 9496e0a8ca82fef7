"""What is wrong with a configuration that composes: values, combinations, missing files; all found before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.check_patterns import check_patterns
from pipeline.compose import CHECKPOINT, compose_cell, raise_all
from pipeline.config import ONLY_WITH, Config
from pipeline.error_choice import check_errors
from pipeline.groups import Groups, packaged_groups
from pipeline.naming import dataset_name
from pipeline.operators import OPERATORS
from pipeline.overrides import Problem
from pipeline.validate_heads import check_heads
from pipeline.validate_methods import check_attribution, check_budget, check_decoding, check_evaluation, check_mixing

CHOICES: dict[str, tuple[str | None, ...]] = {
    "model.source": ("local", "hub", "minilm_reviews", "minilm_shortcut", "minilm_masked"),
    "model.dtype": ("float32", "float64", "bfloat16", "float16"),
    "dataset.source": ("local", "hub", "reviews", "grammar", "shortcut"),
    "dataset.form": ("texts", "agreement", "marked_words", "sentiment_trees"),
    "dataset.truncate": ("longest_first", "only_second"),
    "dataset.long_texts": ("truncate", "windows"),
    "heads.source": ("grammar", "treebank", "run", "all"),
    "heads.positional_denominator": ("applicable", "reference"),
    "evaluation.operator": (None, *OPERATORS),
    "evaluation.unit": ("token", "word", "sentence"),
    "evaluation.levels": ("paper", "tenths"),
    "patterns.queries": ("all", "applicable"),
    "decoding.choose": ("faithful", "coherent", "most_coherent"),
    "explain.target": ("predicted", "gold", "runner_up", "span"),
    "explain.output": ("logit", "probability"),
    "cluster.executor": ("local", "ray"),
    "cluster.device": ("auto", "cpu", "cuda"),
    "tracking.store": ("sqlite", "server", "offline", "none"),
    "report.texts": ("full", "sample", "none"),
}

# An option of a group -> the keys it cannot do without.
NEEDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("model.source", "local"): ("model.path",),
    ("model.source", "hub"): ("model.id",),
    ("model.lm_head", "train"): ("model.lm_head_texts",),
    ("dataset.source", "local"): ("dataset.path",),
    ("dataset.source", "hub"): ("dataset.id",),
    ("heads.source", "treebank"): ("heads.select",),
    ("heads.source", "run"): ("heads.run",),
}

FOLDERS = ("model.path",)
FILES = (
    *("dataset.path", "model.tune_on", "model.lm_head_texts"),
    *("heads.select", "heads.report", "heads.texts", "heads.frequencies"),
)

_Range = tuple[Callable[[Any], bool], str]


def _whole_or_nth(value: float) -> bool:
    """Whether as many workers fit as the numbers say: of 0.4 of a GPU each, one GPU takes two, not two and a half."""
    return value % 1 == 0 or (0 < value < 1 and value * (1 // value) > 0.95)


_POSITIVE: _Range = (lambda value: value >= 1, "at least 1")
_NOT_NEGATIVE: _Range = (lambda value: value >= 0, "at least 0")
_SHARE: _Range = (lambda value: 0 <= value <= 1, "between 0 and 1")
RANGES: dict[str, _Range] = {
    "seed": _NOT_NEGATIVE,
    "model.max_length": (lambda value: value >= 3, "at least 3"),
    "dataset.limit": _POSITIVE,
    "dataset.min_tokens": _NOT_NEGATIVE,
    "dataset.skip": _NOT_NEGATIVE,
    "dataset.stride": _NOT_NEGATIVE,
    "dataset.min_gold_probability": _SHARE,
    "heads.sentences": _POSITIVE,
    "heads.limit": _POSITIVE,
    "heads.min_cases": _POSITIVE,
    "heads.clusters": _POSITIVE,
    "heads.n_texts": (lambda value: value >= 2, "at least 2"),
    "heads.curve_steps": _POSITIVE,
    "heads.random_orders": _POSITIVE,
    "heads.margin": _SHARE,
    "heads.positional_threshold": _SHARE,
    "evaluation.recall_at": _POSITIVE,
    "evaluation.own_controls": (lambda value: value >= 0, "at least 0"),
    "evaluation.bootstrap_samples": _POSITIVE,
    "evaluation.confidence": (lambda value: 0 < value < 1, "between 0 and 1, both excluded"),
    "cluster.workers": _POSITIVE,
    "cluster.cpus_per_worker": (lambda value: value > 0, "more than 0"),
    "cluster.gpus_per_worker": (_whole_or_nth, "0, a whole number or 1/n"),
    "cluster.threads": _POSITIVE,
    "cluster.batch_tokens": _POSITIVE,
    "cluster.max_batch": _POSITIVE,
    "cluster.pass_tokens": _POSITIVE,
    "cluster.attempts": _POSITIVE,
    "cluster.shard_deadline_s": (lambda value: value > 0, "more than 0"),
    "tracking.wait_s": _NOT_NEGATIVE,
    "patterns.most": _POSITIVE,
    "patterns.trees_limit": _POSITIVE,
    **{f"students.{name}": _POSITIVE for name in ("train_limit", "test_limit", "texts_limit", "layers")},
    **{f"students.{name}": _POSITIVE for name in ("heads", "width")},
    **{f"students.{name}": _POSITIVE for name in ("epochs", "batch_size", "sentences")},
    "students.max_length": (lambda value: value >= 3, "at least 3"),
    "students.learning_rate": (lambda value: value > 0, "more than 0"),
    "students.teacher_learning_rate": (lambda value: value > 0, "more than 0"),
    "students.distilled": _SHARE,
    "students.texts_distilled": _SHARE,
    **{f"students.{name}": _NOT_NEGATIVE for name in ("explained", "projected")},
    "students.temperature": (lambda value: value > 0, "more than 0"),
    "report.examples": _POSITIVE,
    "report.attention": _NOT_NEGATIVE,
    "decoding.n_texts": _POSITIVE,
    "errors.limit": _POSITIVE,
    "errors.words": _POSITIVE,
    "errors.draws": _POSITIVE,
    "budget.gpu_hours": (lambda value: value > 0, "more than 0"),
    "budget.worker_hours": (lambda value: value > 0, "more than 0"),
    "budget.gpu_hour_price": (lambda value: value >= 0, "at least 0"),
}

# Settings that make sense for one task alone.
QUESTION_ANSWERING = (
    "explain.target=span",
    "dataset.columns.question",
    "dataset.columns.context",
    "dataset.columns.answers",
)
CLASSIFICATION = (
    *("model.source=minilm_reviews", "model.source=minilm_shortcut"),
    *("dataset.source=reviews", "dataset.source=grammar", "dataset.source=shortcut"),
    "dataset.columns.text",
    "dataset.columns.text_b",
    "dataset.columns.label",
    "explain.target=gold",
    "explain.target=runner_up",
)


def load_config(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """Compose and validate. Raises InputError with one line for every problem of either kind."""
    with packaged_groups(config_dir) as groups:
        config, problems = load_cell(groups, overrides)
    raise_all(problems)
    if config.sweep.params:
        raise InputError("conf error: sweep.params has several values for its keys; `headlight run -m` runs each.")
    return config


def load_cell(groups: Groups, overrides: Sequence[str]) -> tuple[Config, list[Problem]]:
    """A configuration and all its problems, which nobody has raised yet."""
    composition = compose_cell(groups, overrides)
    found = [*find_problems(composition.config), *unused(composition.config, composition.given)]
    return composition.config, [*composition.problems, *(p for p in found if not composition.concerns(p.key))]


def validate(config: Config) -> list[str]:
    """One line for every problem that can be seen without loading the model or the data."""
    return [problem.line() for problem in find_problems(config)]


def find_problems(config: Config) -> list[Problem]:
    """The problems with the keys they are about."""
    return [problem for check in CHECKS for problem in check(config)]


def _value(config: Config, key: str) -> Any:
    return attrgetter(key)(config)


def _choices(config: Config) -> Iterator[Problem]:
    for key, choices in CHOICES.items():
        value = _value(config, key)
        if value not in choices and not (key == "explain.target" and str(value).isdecimal()):
            names = ", ".join("null" if choice is None else choice for choice in choices)
            yield Problem(key, f"{key}={value} is not a choice. Choose one of {names}.")


def _ranges(config: Config) -> Iterator[Problem]:
    for key, (fits, meaning) in RANGES.items():
        value = _value(config, key)
        if value is not None and not fits(value):
            yield Problem(key, f"{key}={value} must be {meaning}.")


def _needs(config: Config) -> Iterator[Problem]:
    for (key, option), needed in NEEDS.items():
        for other in needed if _value(config, key) == option else ():
            if not _value(config, other):
                yield Problem(other, f"{other} is missing; {key}={option} needs it.")


def unused(config: Config, given: Iterable[str]) -> Iterator[Problem]:
    """Keys the user gave that the chosen option does not read; those an experiment left behind are no problem."""
    for key in given:
        if key in ONLY_WITH and _value(config, key) is not None and not _is_read(config, key):
            group, option = ONLY_WITH[key]
            yield Problem(
                key, f"{key}={_value(config, key)} is for {group}={option}, but {group}={_value(config, group)}."
            )


def _is_read(config: Config, key: str) -> bool:
    if key not in ONLY_WITH:
        return True
    group, option = ONLY_WITH[key]
    return bool(_value(config, group) == option)


def _paths(config: Config) -> Iterator[Problem]:
    for key, kind, exists in [(k, "folder", Path.is_dir) for k in FOLDERS] + [(k, "file", Path.is_file) for k in FILES]:
        value = _value(config, key) if _is_read(config, key) else None
        if value and not exists(Path(value).expanduser()):
            found = "is not a" if Path(value).expanduser().exists() else "does not exist; give a"
            yield Problem(key, f"{key}={value} {found} {kind}.")
    for key in ("paths.root", "paths.store", "paths.runs", "paths.models"):
        if Path(_value(config, key)).is_file():
            yield Problem(key, f"{key}={_value(config, key)} is a file; give a folder.")
    for key in ("paths.root", "paths.runs", "paths.models"):
        if "://" in _value(config, key):
            text = f"{key}={_value(config, key)} is not a folder; only paths.store may be elsewhere, in s3://bucket/prefix."
            yield Problem(key, text)


def _name(config: Config) -> Iterator[Problem]:
    if not re.fullmatch(r"\w[\w.-]*", config.name):
        yield Problem("name", f"name={config.name} names a folder: use letters, digits, '.', '-' and '_'.")


def _task(config: Config) -> Iterator[Problem]:
    """Question answering and classification asked for at once, as far as the configuration tells."""
    answering = [setting for setting in QUESTION_ANSWERING if _is_set(config, setting)]
    classifying = [setting for setting in CLASSIFICATION if _is_set(config, setting)]
    if answering and classifying:
        key = answering[0].split("=")[0]
        yield Problem(key, f"{answering[0]} is for question answering, but {classifying[0]} is for classification.")


def _is_set(config: Config, setting: str) -> bool:
    key, _, value = setting.partition("=")
    return _value(config, key) == value if value else _value(config, key) is not None


def _checkpoints(config: Config) -> Iterator[Problem]:
    checkpoints, name = config.model.checkpoints, dataset_name(config.dataset)
    if checkpoints and config.model.source not in CHECKPOINT:
        text = f"model.checkpoints is for model.source={' and '.join(CHECKPOINT)}, not {config.model.source}."
        yield Problem("model.checkpoints", text)
    elif checkpoints and name not in checkpoints:
        text = f"model.checkpoints has none for the data set {name}. It has some for {', '.join(checkpoints)}."
        yield Problem("model.checkpoints", text)


def _sweep(config: Config) -> Iterator[Problem]:
    for entry in config.sweep.exclude:
        if not isinstance(entry, dict):
            text = f"sweep.exclude={config.sweep.exclude} is not a list of cells such as {{model:bert,dataset:imdb}}."
            yield Problem("sweep.exclude", text)


def _budget(config: Config) -> Iterator[Problem]:
    if config.budget.gpu_hours is not None and config.cluster.device == "cpu":
        text = f"budget.gpu_hours={config.budget.gpu_hours:g}: cluster.device=cpu uses none. Use budget.worker_hours."
        yield Problem("budget.gpu_hours", text)


def _tracking(config: Config) -> Iterator[Problem]:
    if config.tracking.store == "server" and not (config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        text = "tracking.uri is missing; tracking=server needs it, or the environment variable MLFLOW_TRACKING_URI."
        yield Problem("tracking.uri", text)


def _cluster(config: Config) -> Iterator[Problem]:
    import torch

    from pipeline.execution.preflight import bad_wait

    here = config.cluster.executor == "local"
    if here and config.cluster.device == "cuda" and not torch.cuda.is_available():
        yield Problem("cluster.device", "cluster.device=cuda: this machine has no CUDA device. Use cluster.device=cpu.")
    for text in bad_wait(config.cluster):
        yield Problem("cluster.wait", f"{text}.")


CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (
    _name,
    _choices,
    _ranges,
    _needs,
    _paths,
    _task,
    _checkpoints,
    check_heads,
    _sweep,
    _budget,
    _cluster,
    _tracking,
    check_patterns,
    check_attribution,
    check_evaluation,
    check_budget,
    check_mixing,
    check_decoding,
    check_errors,
)
