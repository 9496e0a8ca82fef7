"""What a job on a cluster needs from this machine: the user's options, small files, and arguments that find them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from pipeline.compose import raise_all
from pipeline.config import ONLY_WITH, Config
from pipeline.groups import packaged_groups
from pipeline.overrides import Problem
from pipeline.sweep.expand import expand
from pipeline.validate import FILES, FOLDERS, load_cell

LIMIT_BYTES = 50 * 2**20  # of all files together: every node gets a copy of them
HEADS = "heads.run"
PATHS = ("paths.root", "paths.store", "paths.runs", "paths.models")
# Read while a configuration is composed, which happens here and there: both have to come to the same.
ENVIRONMENT = ("HEADLIGHT_DATA", "HEADLIGHT_MODELS", "MLFLOW_TRACKING_URI")


@dataclass
class Bundle:
    """A folder that is sent, and how `headlight run` is called in it."""

    folder: Path
    name: str
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what has to be on the cluster already
    bytes: int = 0

    def is_empty(self) -> bool:
        """Whether nothing is sent."""
        return not any(self.folder.iterdir())

    def add(self, source: Path, place: str) -> bool:
        """Copy a file to a place in the folder; False if the bundle would become too large."""
        target, size = self.folder / place, source.stat().st_size
        if target.exists():
            return True
        if self.bytes + size > LIMIT_BYTES:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        self.bytes += size
        return True


def pack(
    folder: Path, overrides: Sequence[str], config_dir: str | Path | None = None, multirun: bool = False
) -> Bundle:
    """Check a configuration (every cell of a sweep) and put what it needs from here into `folder`.

    Raises InputError with one line for each problem, those of paths that mean nothing on another machine among them.
    """
    overrides = [*_on_the_cluster(overrides), *overrides]
    configs = _configs(overrides, config_dir, multirun)
    raise_all([problem for config in configs for problem in _problems(config)])
    bundle = Bundle(folder, configs[0].name, environment=dict(_environment()))
    if config_dir is not None:
        shutil.copytree(config_dir, folder / "config")
    moved = [override for config in configs for override in _add_files(bundle, config, rewrite=not multirun)]
    options = [*(["-m"] if multirun else []), *(["--config-dir", "config"] if config_dir is not None else [])]
    bundle.arguments = ["run", *options, *overrides, *moved]
    bundle.notes = list(dict.fromkeys([*_kept_back(), *bundle.notes]))
    return bundle


def _on_the_cluster(overrides: Iterable[str]) -> list[str]:
    """Without a word on it, a job computes on the cluster it was sent to, not on its head node alone."""
    said = any(line.startswith(("cluster=", "cluster.executor=")) for line in overrides)
    return [] if said else ["cluster.executor=ray"]


def _configs(overrides: Sequence[str], config_dir: str | Path | None, multirun: bool) -> list[Config]:
    if multirun:
        return [cell.config for cell in expand(overrides, config_dir, ignore=_is_elsewhere) if not cell.skipped]
    with packaged_groups(config_dir) as groups:
        config, problems = load_cell(groups, overrides)
    raise_all([problem for problem in problems if not _is_elsewhere(config, problem)])
    return [config]


def _is_elsewhere(config: Config, problem: Problem) -> bool:
    """Whether all that is wrong is an absolute path that does not exist on this machine."""
    if problem.key not in (*FILES, *FOLDERS):
        return False
    path = Path(attrgetter(problem.key)(config) or "")
    return path.is_absolute() and not path.exists()


def _problems(config: Config) -> Iterator[Problem]:
    if config.cluster.address:
        text = f"cluster.address={config.cluster.address}: a job runs on the cluster it is sent to; give --address."
        yield Problem("cluster.address", text)
    relative = [key for key in PATHS if not _is_shared(attrgetter(key)(config))]
    for key in relative[:1] if PATHS[0] in relative else relative:  # the others lie below paths.root
        text = f"{key}={attrgetter(key)(config)} is relative; a job needs a folder that all nodes share."
        yield Problem(key, f"{text} Write {key}=/shared/headlight, say.")
    model = config.model.path if config.model.source == "local" else None
    if model and not Path(model).is_absolute():
        text = f"model.path={model}: models are not sent; put it where all nodes see it, and give the absolute path."
        yield Problem("model.path", text)


def _is_shared(path: str) -> bool:
    return Path(path).is_absolute() or "://" in path


def _environment() -> Iterator[tuple[str, str]]:
    for name in ENVIRONMENT:
        if (value := os.environ.get(name)) and not _has_password(value):
            yield name, value


def _kept_back() -> Iterator[str]:
    for name in ENVIRONMENT:
        if _has_password(os.environ.get(name, "")):
            yield f"{name} holds a password and is not sent, since everyone who sees the job would see it; set it there"


def _has_password(value: str) -> bool:
    return "://" in value and "@" in value.partition("://")[2].partition("/")[0]


def _add_files(bundle: Bundle, config: Config, *, rewrite: bool) -> Iterator[str]:
    """Add the files of a configuration; yields overrides for those that are in another place there."""
    for key, value, source in _files(config):
        place = value if _stays(value) and source == Path(value) else f"files/{key}/{source.name}"
        if place == value:
            _add_or_note(bundle, source, place, key)
        elif not rewrite:
            bundle.notes.append(f"{key}={value}: not sent with a sweep; it has to be there under this path")
        elif _add_or_note(bundle, source, place, key):
            yield f"{key}={_quoted(place)}"


def _add_or_note(bundle: Bundle, source: Path, place: str, key: str) -> bool:
    if not source.is_file():
        bundle.notes.append(f"{key}={source} is not on this machine; it has to be there under this path")
        return False
    if not bundle.add(source, place):
        size, limit = source.stat().st_size / 2**20, LIMIT_BYTES / 2**20
        bundle.notes.append(
            f"{key}={source} ({size:.0f} MiB) is not sent: {limit:.0f} MiB are the limit; it has to be "
            "there under this path"
        )
        return False
    return True


def _files(config: Config) -> Iterator[tuple[str, str, Path]]:
    """The files a configuration reads: key, value, and the file that is meant."""
    for key in (*FILES, HEADS):
        group, option = ONLY_WITH.get(key, (None, None))
        value = attrgetter(key)(config)
        if not value or (group is not None and attrgetter(group)(config) != option):
            continue
        path = Path(value).expanduser()
        if key != HEADS or path.is_file():
            yield key, value, path
        elif (path / "heads.parquet").is_file():  # otherwise it names a run there
            yield key, value, path / "heads.parquet"


def _stays(value: str) -> bool:
    """Whether a path can be the same in the folder that is sent."""
    path = Path(value)
    return not path.is_absolute() and ".." not in path.parts and not value.startswith("~")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
