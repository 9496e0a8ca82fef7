"""From overrides with several values to the cells of a sweep, each a list of overrides with one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, ValueType

from pipeline.compose import raise_all
from pipeline.config import Config
from pipeline.groups import Groups, packaged_groups
from pipeline.overrides import Problem, read_sweep
from pipeline.validate import load_cell

SHARED = ("cluster", "tracking", "paths", "report", "sweep", "budget")  # one driver has one of each
SKIPS = "model.checkpoints"  # a problem with this key is a cell that cannot be, not a mistake


@dataclass(frozen=True)
class Cell:
    """One configuration of a sweep."""

    choices: Mapping[str, str]  # what was swept -> its value here
    overrides: tuple[str, ...]
    config: Config
    skipped: str | None = None  # why it is not run

    @property
    def slug(self) -> str:
        """The swept values as part of a folder's name."""
        parts = (f"{key.rsplit('.', 1)[-1]}-{value}" for key, value in self.choices.items())
        return re.sub(r"[^\w.-]+", "_", ".".join(parts))[:150]

    @property
    def label(self) -> str:
        """The swept values, as a person writes them: `model=a dataset=b`."""
        return " ".join(f"{key}={value}" for key, value in self.choices.items())


def expand(
    overrides: Sequence[str],
    config_dir: str | Path | None = None,
    ignore: Callable[[Config, Problem], bool] = lambda config, problem: False,
) -> list[Cell]:
    """The product of all values, the last override changing fastest. Raises InputError with the problems of all."""
    with packaged_groups(config_dir) as groups:
        axes, problems = _axes(overrides, groups)
        found = [_cell(combination, groups) for combination in itertools.product(*axes)]
    problems += [problem for cell, wrong in found for problem in wrong if not ignore(cell.config, problem)]
    raise_all(problems)
    return [cell for cell, _ in found]


Choice = tuple[str, dict[str, str]]  # an override with one value, and what it says of the cell
Axis = list[Choice]


def _axes(overrides: Sequence[str], groups: Groups) -> tuple[list[Axis], list[Problem]]:
    problems: list[Problem] = []
    read = {line: read_sweep(line) for line in overrides}
    axes = [_axis(line, override, groups, problems) for line, override in read.items()]
    given = {override.key_or_group for override in read.values() if isinstance(override, Override)}
    for key, values in _params([axis[0][0] for axis in axes if len(axis) == 1], groups).items():
        if key not in given:
            axes.append(_axis(f"{key}={values}", read_sweep(f"{key}={values}"), groups, problems))
    return axes, problems


def _params(fixed: Sequence[str], groups: Groups) -> dict[str, str]:
    """`sweep.params` of the configuration that all cells share."""
    config, _ = load_cell(groups, fixed)
    return dict(config.sweep.params)


def _axis(line: str, override: Override | Problem, groups: Groups, problems: list[Problem]) -> Axis:
    if isinstance(override, Problem):
        problems.append(override)
        return [(line, {})]
    if not override.is_sweep_override():
        return [(line, {})]
    key = str(override.key_or_group)
    if key.split(".")[0] in SHARED:
        problems.append(Problem(key, f"{line}: all runs of a sweep share {key.split('.')[0]}; give it one value."))
    return [(f"{override.get_key_element()}={value}", {key: _plain(value)}) for value in _values(override, groups)]


def _values(override: Override, groups: Groups) -> Iterator[str]:
    """The values as overrides write them; `glob(...)` stands for options of the group."""
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        glob: Any = override.value()
        return iter(glob.filter(groups.options(override.key_or_group)))
    return iter(override.sweep_string_iterator())


def _plain(value: str) -> str:
    return value[1:-1] if re.fullmatch(r"'[^']*'|\"[^\"]*\"", value) else value


def _cell(combination: Sequence[Choice], groups: Groups) -> tuple[Cell, list[Problem]]:
    lines = [line for line, _ in combination]
    choices = {key: value for _, choice in combination for key, value in choice.items()}
    config, problems = load_cell(groups, lines)
    impossible = [problem.text for problem in problems if problem.key == SKIPS]
    skipped = _excluded(config, choices) or next(iter(impossible), None)
    cell = Cell(choices, tuple(lines), config, skipped)
    config.name = f"{config.name}.{cell.slug}" if choices else config.name
    return cell, [] if skipped else problems


def _excluded(config: Config, choices: Mapping[str, str]) -> str | None:
    return next((_described(entry) for entry in config.sweep.exclude if _matches(entry, choices)), None)


def _matches(entry: Any, choices: Mapping[str, str]) -> bool:
    patterns = entry if isinstance(entry, Mapping) else {}  # what is no mapping is a problem that is raised later
    return bool(patterns) and all(fnmatchcase(choices.get(key, ""), str(patterns[key])) for key in patterns)


def _described(entry: Mapping[str, Any]) -> str:
    return "sweep.exclude: " + " ".join(f"{key}={pattern}" for key, pattern in entry.items())


def idle_exclusions(cells: Sequence[Cell]) -> list[str]:
    """The entries of `sweep.exclude` that no cell matches: a slip of the pen, or of an experiment that sweeps more."""
    entries = cells[0].config.sweep.exclude
    return [_described(entry) for entry in entries if not any(_matches(entry, cell.choices) for cell in cells)]
