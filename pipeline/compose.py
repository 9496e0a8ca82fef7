"""From overrides to a typed configuration; every problem is collected before any is raised."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from attribution.errors import InputError
from pipeline.config import ONLY_WITH, Config
from pipeline.groups import Groups, packaged_groups
from pipeline.keys import digest
from pipeline.naming import dataset_name
from pipeline.overrides import Problem, apply_override, did_you_mean, nodes, read_override
from pipeline.redact import redacted_tree, secret_in

ENVIRONMENT = {
    "HEADLIGHT_DATA": "the folder of the data sets and treebanks",
    "HEADLIGHT_MODELS": "the folder of the fine-tuned models",
}


# groups that say where and how, not what
NOT_RESULTS = ("paths", "tracking", "cluster", "report", "sweep", "budget", "regression")
CHECKPOINT = {"local": "path", "hub": "id"}  # model.source -> the key that a checkpoint is the value of


@dataclass
class Composition:
    """What came out of composing: the configuration as far as it could be put together, and all that was wrong."""

    config: Config
    problems: list[Problem] = field(default_factory=list)
    given: list[str] = field(default_factory=list)  # keys the user set

    def concerns(self, key: str) -> bool:
        """Whether something was wrong with `key`, with a part of it, or with the group it belongs to."""
        return any(f"{key}.".startswith(f"{p.key}.") or p.key.startswith(f"{key}.") for p in self.problems)


def compose_config(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """The configuration the overrides ask for. Raises InputError with one line for each problem."""
    composition = compose_all(overrides, config_dir)
    raise_all(composition.problems)
    return composition.config


def raise_all(problems: Sequence[Problem]) -> None:
    """Raise InputError with one line for each problem, or nothing where there is none."""
    if problems:
        raise InputError("\n".join(dict.fromkeys(problem.line() for problem in problems)))


def compose_all(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Composition:
    """Compose as much as can be composed, and collect what cannot."""
    with packaged_groups(config_dir) as groups:
        return compose_cell(groups, overrides)


def compose_cell(groups: Groups, overrides: Sequence[str]) -> Composition:
    """The same from groups that many compositions share."""
    problems = list(groups.problems)
    choices, values = _sort(overrides, groups, problems)
    tree = _compose_groups(groups, choices, problems)
    problems += [problem for value in values if (problem := apply_override(tree, value))]
    problems += [*_unresolved(tree), *_revealing(tree)]
    return Composition(_typed(tree), problems, [value.key_or_group for value in values])


def config_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain values, the form that is hashed, logged and compared."""
    return asdict(config)


def run_key(config: Config) -> str:
    """What says whether two runs are the same experiment."""
    return digest({name: value for name, value in config_dict(config).items() if name not in NOT_RESULTS})


def config_yaml(config: Config) -> str:
    """The resolved configuration as YAML, to be written down: without secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(redacted_tree(config_dict(config))))


# --- groups ---------------------------------------------------------------------------------------------------------


def _sort(overrides: Sequence[str], groups: Groups, problems: list[Problem]) -> tuple[dict[str, str], list[Override]]:
    """Overrides as choices of options and as values; those that cannot be read become problems."""
    choices, values = dict[str, str](), list[Override]()
    for line in overrides:
        override = read_override(line)
        if isinstance(override, Problem):
            problems.append(override)
        elif override.key_or_group not in groups.names:
            values.append(override)
        elif problem := _bad_choice(override, groups):
            problems.append(problem)
        else:
            choices[override.key_or_group] = override.get_value_element_as_str()
    return choices, values


def _bad_choice(override: Override, groups: Groups) -> Problem | None:
    group = override.key_or_group
    if override.is_delete():
        return Problem(group, f"{group} cannot be removed.")
    chosen = override.value()
    options = groups.options(group)
    for name in chosen if isinstance(chosen, list) else [chosen]:
        if name not in options and not (name is None and group == "experiment"):
            return Problem(group, f"{group}={name} is not an option.{did_you_mean(str(name), options)}")
    return None


def _compose_groups(groups: Groups, choices: Mapping[str, str], problems: list[Problem]) -> DictConfig:
    try:
        return groups.compose(choices)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        problems += [Problem(group, _yaml_problem(group, option, error)) for group, option in choices.items()][-1:]
        return groups.compose({})


def _yaml_problem(group: str, option: str, error: BaseException) -> str:
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    return f"{group}={option} cannot be composed: " + "; ".join(" ".join(str(cause).split()) for cause in causes)


# --- values ---------------------------------------------------------------------------------------------------------


def _unresolved(tree: DictConfig) -> list[Problem]:
    """Values that stand for something that is not there, one problem for each environment variable that is not set."""
    keys: dict[str, list[str]] = {}
    for key, node in _reading(tree):
        try:
            _resolved(tree, key)
        except InterpolationResolutionError as error:
            if _is_read(tree, key):
                keys.setdefault(_cause(str(node._value()), error), []).append(key)
            OmegaConf.update(tree, key, [] if isinstance(node, ListConfig) else None, merge=False)
    return [Problem(key, f"{', '.join(group)}: {cause}") for cause, group in keys.items() for key in group]


def _revealing(tree: DictConfig) -> Iterator[Problem]:
    """Values that read secrets: a configuration is written down, and its names go to servers, the Hub's among them."""
    for key, _ in _reading(tree):
        if key != "tracking.uri" and (name := secret_in(str(_resolved(tree, key)))):
            yield Problem(key, f"{key} reads the environment variable {name}, which looks like a secret.")


def _reading(tree: DictConfig) -> list[tuple[str, Node]]:
    """Values that stand for others; the keys of a group are values of their own."""
    return [
        (key, node)
        for key, node in nodes(tree)
        if "${" in str(node._value()) and not (isinstance(node, DictConfig) and not node._is_interpolation())
    ]


def _resolved(tree: DictConfig, key: str) -> Any:
    """A value, for a list with its elements; the keys of a group are resolved one by one."""
    value = OmegaConf.select(tree, key)
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else value


def _is_read(tree: DictConfig, key: str) -> bool:
    other, value = ONLY_WITH.get(key, (None, None))
    return other is None or bool(OmegaConf.select(tree, other) == value)


def _cause(raw: str, error: InterpolationResolutionError) -> str:
    variable = re.search(r"oc\.env:(\w+)", raw)
    if not variable:
        return str(error).splitlines()[0]
    meaning = ENVIRONMENT.get(variable[1], "used by this configuration")
    return f"the environment variable {variable[1]} ({meaning}) is not set. Set it, or give the key a value."


def _typed(tree: DictConfig) -> Config:
    config = cast(Config, OmegaConf.to_object(tree))
    config.attribution = {
        label: _method(label, entry) for label, entry in config.attribution.items() if entry is not None
    }
    own = _own_controls(config)
    config.attribution = config.attribution | own | config.attribution  # a label that is there keeps its own entry
    config.evaluation.controls = _expand([*config.evaluation.controls, *own], list(config.attribution))
    _choose_checkpoint(config)
    return config


def _choose_checkpoint(config: Config) -> None:
    """Where a model has a checkpoint for each data set, take that of this one, if there is one."""
    checkpoint, key = config.model.checkpoints.get(dataset_name(config.dataset)), CHECKPOINT.get(config.model.source)
    if checkpoint is not None and key is not None:
        setattr(config.model, key, checkpoint)


def _method(label: str, entry: Any) -> Any:
    """An entry without `method` means the method its label names; an alias means what it stands for."""
    if not isinstance(entry, dict):
        return entry
    from attribution.methods.registry import canonical  # torch, which composing alone does not need

    return {**entry, "method": canonical(str(entry.get("method", label)))}


def _own_controls(config: Config) -> dict[str, Any]:
    """For each method whose heads have a name: the same with as many random heads in each layer, as often as asked."""
    return {
        f"{label}_random_{seed}": {**entry, "head_mask": f"random({seed}, {entry['head_mask']})"}
        for label, entry in config.attribution.items()
        if isinstance(entry, dict) and _is_found(entry.get("head_mask"))
        for seed in range(config.evaluation.own_controls)
    }


def _is_found(mask: Any) -> bool:
    """Whether a head mask names heads that a search chooses."""
    return isinstance(mask, str) and not re.match(r"\s*(all|none|random|corrupted)\b", mask)


def _expand(patterns: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Labels the patterns stand for; a name without `*` stays, so that a missing one can be reported."""
    names = [n for p in patterns for n in ([x for x in labels if fnmatchcase(x, p)] if "*" in p else [p])]
    return list(dict.fromkeys(names))
