"""The champion of a series: the run that nights are compared with. Only `promote` changes which one it is.

Its tables are copied into the series' folder, where no later run reaches them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.config import TrackingConfig
from pipeline.files import write_atomically
from pipeline.keys import file_digest
from pipeline.regression.registry import KEPT, Champion, Registry, registry_of
from pipeline.regression.series import Series, all_series
from pipeline.runs import Run, read_manifest
from pipeline.tracking.destination import destination


def remember(series: Series, config: TrackingConfig) -> None:
    """Note where the champion is recorded, for commands that are given no configuration; never credentials."""
    target = destination(config, series.root)
    shown = target.shown if target else None
    at = {"store": config.store, "uri": shown, "experiment": target.experiment if target else None}
    write_atomically(series.settings, json.dumps(at).encode())


def champion_folder(root: Path, name: str | None = None) -> Path:
    """The champion's files of a series; of the only one where no name is given."""
    known = all_series(root)
    series = next((each for each in known if each.name == name), known[0] if not name and len(known) == 1 else None)
    if series is None:
        raise InputError(_unknown(root, [each.name for each in known], name))
    settings = json.loads(series.settings.read_text("utf-8"))
    registry = registry_of(series, TrackingConfig(**settings | {"uri": _uri(settings)}))
    champions = registry.champions()
    if not champions:
        raise InputError(f"run error: {series.name} has no champion. `headlight promote --bootstrap RUN` makes one.")
    return files_of(champions[-1], series, registry)


def _uri(settings: Mapping[str, Any]) -> str | None:
    """A server's address may need credentials, which only the environment has; a database's is taken as noted."""
    return settings["uri"] if str(settings["uri"]).startswith("sqlite:") else None


def _unknown(root: Path, names: list[str], name: str | None) -> str:
    if not names:
        return f"run error: there is no champion below {root}. `headlight promote --bootstrap RUN` makes one."
    asked = f"champion:{name} is not known" if name else f"{len(names)} series have a champion"
    return f"run error: {asked}. Choose one of {', '.join(f'champion:{each}' for each in names)}."


def files_of(champion: Champion, series: Series, registry: Registry) -> Path:
    """The folder of a champion's files, fetched where this machine has none. InputError where they were changed."""
    folder = series.snapshot(champion.run_id)
    if not folder.is_dir():
        with _appearing(folder) as partial:
            registry.fetch(champion, partial)
    if changed := damage(folder, champion):
        raise InputError(f"run error: {folder}: {changed}. Put the files back, or promote another run.")
    return folder


def damage(folder: Path, champion: Champion) -> str | None:
    """What is wrong with a champion's files; None where they are those that were promoted.

    The examples may be missing: runs that keep their texts private do not record them.
    """
    manifest = read_manifest(folder)
    if manifest.get("run_id") != champion.run_id:
        return f"these are the files of run {manifest.get('run_id')}, not of {champion.run_id}"
    for name, digest in (manifest.get("files") or {}).items():
        path = folder / name
        if not path.exists() and name != "examples.parquet":
            return f"{name} is missing"
        if path.exists() and file_digest(path) != digest:
            return f"{name} was changed after the run"
    return None


def take_snapshot(run: Run, series: Series) -> Path:
    """Copy a run's files into the series' folder."""
    folder = series.snapshot(str(run.manifest["run_id"]))
    if not folder.is_dir():
        with _appearing(folder) as partial:
            for path in run.folder.iterdir():
                if path.is_file() and path.suffix in KEPT:
                    shutil.copy2(path, partial)
    return folder


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder that is filled beside its place and appears there whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".", ignore_cleanup_errors=True) as partial:
        filled = Path(partial) / folder.name
        filled.mkdir()
        yield filled
        filled.rename(folder)
