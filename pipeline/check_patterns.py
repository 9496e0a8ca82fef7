"""What is wrong with the patterns that a configuration asks for, and with the students that follow them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from attribution.errors import InputError
from attribution.methods import METHODS
from attribution.summaries.choice import check_method
from pipeline.config import Config
from pipeline.injected_explanations import scored_metrics
from pipeline.overrides import Problem


def check_patterns(config: Config) -> Iterator[Problem]:
    """Settings that mean nothing without each other, or on this data, and files that are not there."""
    patterns, documents = config.patterns, _documents(config)
    described = [name for name in ("path", "described") if getattr(patterns, name)]
    trees = {"patterns.trees": patterns.trees} if patterns.trees else {}
    asking = [*(["patterns.in_place"] if patterns.in_place else []), *trees, *documents]
    if len(described) > 1:
        yield Problem("patterns.path", "patterns.path and patterns.described are both given; leave one out.")
    if described and config.dataset.form == "agreement":
        yield Problem(f"patterns.{described[0]}", f"patterns.{described[0]} is for texts, not dataset.form=agreement.")
    if asking and not described:
        yield Problem("patterns.path", f"patterns.path is missing; {asking[0]} needs it.")
    for key, path in {"patterns.path": patterns.path, **trees, **documents}.items():
        if path and not Path(path).expanduser().is_file():
            yield Problem(key, f"{key}={path} does not exist; give a file.")
    yield from _seeds({"patterns.control_seeds": patterns.control_seeds, "students.seeds": config.students.seeds})
    yield from _explained(config)
    yield from _students(config)


def _documents(config: Config) -> dict[str, str]:
    """Files to train on and test by that are given, by key."""
    paths = {f"students.{name}": getattr(config.students, name) for name in ("train", "test", "texts")}
    return {key: path for key, path in paths.items() if path}


def _seeds(given: Mapping[str, list[int]]) -> Iterator[Problem]:
    for key, seeds in given.items():
        if not seeds or len(set(seeds)) < len(seeds):
            yield Problem(key, f"{key}={seeds} must be different seeds, at least one.")


def _students(config: Config) -> Iterator[Problem]:
    students, both = config.students, ("students.train", "students.test")
    given = [key for key in both if key in _documents(config)]
    for key in both if given else ():
        if key not in given:
            yield Problem(key, f"{key} is missing; {given[0]} needs it.")
    if students.explained:
        yield from _explained_choices(config)
    if students.texts_distilled and not students.texts:
        yield Problem("students.texts", "students.texts is missing; students.texts_distilled needs it.")
    if students.projected and not students.train:
        yield Problem("students.train", "students.train is missing; students.projected needs it.")
    for name in ("width", "projected"):
        if (width := getattr(students, name)) % students.heads:
            text = f"students.{name}={width} is not a multiple of students.heads={students.heads}."
            yield Problem(f"students.{name}", text)


def _explained_choices(config: Config) -> Iterator[Problem]:
    """What choices of sentences are explained by; a label that is none is told of where it is given."""
    label, key = config.patterns.explained, f"students.explained={config.students.explained}"
    if label is None:
        yield Problem("patterns.explained", f"patterns.explained is missing; {key} needs it.")
    if not config.students.train:
        yield Problem("students.train", f"students.train is missing; {key} needs it.")
    if config.evaluation.unit != "token":
        yield Problem("students.explained", f"{key} is for evaluation.unit=token.")
    method = str((config.attribution.get(label or "") or {}).get("method"))
    if method in METHODS:
        try:
            check_method(method)
        except InputError as error:
            yield Problem("students.explained", f"{key}: {error}")


def _explained(config: Config) -> Iterator[Problem]:
    label = config.patterns.explained
    if label is None:
        return
    key = f"patterns.explained={label}"
    if not config.patterns.in_place and not config.students.texts and not config.students.explained:
        text = f"{key} explains what patterns.in_place=true puts into heads, and students that are trained."
        yield Problem("patterns.explained", text)
    if label not in config.attribution:
        yield Problem("patterns.explained", f"{key} is not a label of attribution: {', '.join(config.attribution)}.")
    if not scored_metrics(config):
        text = f"{key}: evaluation.metrics={config.evaluation.metrics} has none for it; add comprehensiveness."
        yield Problem("patterns.explained", text)
