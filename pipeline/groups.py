"""The groups of options, the packaged ones and the user's, as Hydra finds and composes them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import cast

from hydra import compose, initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig

from pipeline.config import register
from pipeline.overrides import Problem, open_mappings, spell_out


@dataclass
class Groups:
    """The groups Hydra finds in the packaged `conf` and in the user's folder; what was found or composed is kept.

    One composition takes Hydra 0.1 to 0.2 s, most of it for parsing files that are the same in every cell of a sweep.
    """

    loader: ConfigLoader
    search_path: list[str]
    problems: list[Problem] = field(default_factory=list)  # with the user's folder
    _options: dict[str, list[str]] = field(default_factory=dict)
    _composed: dict[tuple[tuple[str, str], ...], bytes] = field(default_factory=dict)

    @cached_property
    def names(self) -> list[str]:
        """Names of the groups."""
        return [name for name in self._list("", ObjectType.GROUP) if name != "hydra"]

    def options(self, group: str) -> list[str]:
        """Options of a group, those in subfolders too; schemas and fragments (`_name`) are left out."""
        if group not in self._options:
            own = [name for name in self._list(group, ObjectType.CONFIG) if not name.startswith(("_", "base_"))]
            below = self._list(group, ObjectType.GROUP)
            own += [f"{folder}/{name}" for folder in below for name in self.options(f"{group}/{folder}")]
            self._options[group] = own
        return self._options[group]

    def compose(self, choices: Mapping[str, str]) -> DictConfig:
        """The configuration these choices make, before any value is changed: mappings take new keys, nothing else does.

        Each call gives a tree of its own; unpickling one is five times faster than copying it.
        """
        key = tuple(choices.items())
        if key not in self._composed:
            self._composed[key] = pickle.dumps(self._compose(choices))
        return cast(DictConfig, pickle.loads(self._composed[key]))

    def _compose(self, choices: Mapping[str, str]) -> DictConfig:
        tree = compose("config", [*self.search_path, *(f"{group}={option}" for group, option in choices.items())])
        open_mappings(tree)
        spell_out(tree)
        return tree

    def _list(self, group: str, kind: ObjectType) -> list[str]:
        return self.loader.get_group_options(group, kind, config_name="config", overrides=self.search_path)


@contextmanager
def packaged_groups(config_dir: str | Path | None = None) -> Iterator[Groups]:
    """Hydra with the packaged `conf` and, behind it, the user's folder on its search path, if that can be used."""
    register()
    problems = check_config_dir(config_dir)
    with initialize_config_module("conf", version_base="1.3"):
        path = _search_path(None if problems else config_dir)
        yield Groups(GlobalHydra.instance().config_loader(), path, problems)


def _search_path(config_dir: str | Path | None) -> list[str]:
    if config_dir is None:
        return []
    path = str(Path(config_dir).resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return [f"hydra.searchpath=['file://{path}']"]


def check_config_dir(config_dir: str | Path | None) -> list[Problem]:
    """A folder that is missing, or a file in it that would never be read because the package has one of that name."""
    if config_dir is None:
        return []
    if not Path(config_dir).is_dir():
        return [Problem("--config-dir", f"--config-dir {config_dir} is not a folder.")]
    names = [path.relative_to(config_dir).as_posix() for path in sorted(Path(config_dir).rglob("*.yaml"))]
    packaged = files("conf")
    return [
        Problem("--config-dir", f"--config-dir {config_dir}: {name} has the name of a built-in option. Rename it.")
        for name in names
        if packaged.joinpath(name).is_file()
    ]
