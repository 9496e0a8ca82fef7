"""Where the champions of a series are recorded: in MLflow's registry, or in a file where there is no MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from attribution.errors import InputError
from pipeline.config import TrackingConfig
from pipeline.regression.series import Series, add_line, read_lines
from pipeline.tracking.connection import Connection
from pipeline.tracking.destination import Destination, destination

ALIAS, PREFIX = "champion", "headlight-"
KEPT = frozenset({".parquet", ".json", ".yaml", ".html", ".txt"})  # files of a run that belong to its record


@dataclass(frozen=True)
class Champion:
    """A run that was promoted. `run_id` is Headlight's, `mlflow_run_id` MLflow's."""

    run_id: str
    name: str
    promoted: str  # when, in UTC
    reason: str | None = None
    mlflow_run_id: str | None = None


class Registry(Protocol):
    """Where champions are recorded."""

    def champions(self) -> list[Champion]:
        """All of a series, the first one first; the last is the champion. Empty before the first promotion."""

    def promote(self, champion: Champion) -> None:
        """Make it the champion."""

    def fetch(self, champion: Champion, folder: Path) -> None:
        """Put its files into a folder. InputError where they are not kept here."""

    def attach(self, mlflow_run_id: str | None, files: Sequence[Path], tags: Mapping[str, str]) -> None:
        """Add files and tags to the record of a run."""


@dataclass(frozen=True)
class FileRegistry:
    """Champions in a file of the series, for use without MLflow."""

    series: Series

    def champions(self) -> list[Champion]:
        """As the file has them."""
        return [Champion(**line) for line in read_lines(self.series.promotions)]

    def promote(self, champion: Champion) -> None:
        """Add a line."""
        add_line(self.series.promotions, asdict(champion))

    def fetch(self, champion: Champion, folder: Path) -> None:
        """Nothing can be fetched: the snapshot is all there is."""
        raise InputError(
            f"run error: {folder} is gone, the files of {champion.name}, the champion of {self.series.name}. "
            "Put them back, or promote another run."
        )

    def attach(self, mlflow_run_id: str | None, files: Sequence[Path], tags: Mapping[str, str]) -> None:
        """Files are in the run folder already."""


@dataclass(frozen=True)
class MlflowRegistry:
    """Champions as versions of a registered model, which needs no model: a version points at a run."""

    series: Series
    target: Destination

    @property
    def model(self) -> str:
        """Name of the registered model."""
        return PREFIX + self.series.name

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """MLflow's client; its errors become one line that says what they concern."""
        with Connection(self.target).session() as experiment:
            yield experiment.client

    def champions(self) -> list[Champion]:
        """Versions by number up to the one with the alias: of later ones somebody took it back."""
        if self.target.database is not None and not self.target.database.exists():
            return []
        from mlflow.exceptions import MlflowException

        with self._client() as client:
            try:
                current = client.get_model_version_by_alias(self.model, ALIAS)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return []
                raise
            versions = client.search_model_versions(f"name = '{self.model}'")
        by_number = {int(version.version): version for version in versions}
        return [_of_version(by_number[number]) for number in sorted(by_number) if number <= int(current.version)]

    def promote(self, champion: Champion) -> None:
        """A new version, to which the alias is moved."""
        from mlflow.exceptions import MlflowException

        if champion.mlflow_run_id is None:
            raise InputError(
                f"run error: {champion.name} is not recorded in MLflow, where {self.series.name} keeps its."
            )
        with self._client() as client:
            try:
                client.create_registered_model(self.model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            tags = {f"headlight.{key}": str(value) for key, value in asdict(champion).items() if value is not None}
            source = f"runs:/{champion.mlflow_run_id}/manifest.json"
            version = client.create_model_version(self.model, source, champion.mlflow_run_id, tags=tags)
            client.set_registered_model_alias(self.model, ALIAS, version.version)

    def fetch(self, champion: Champion, folder: Path) -> None:
        """Download the artifacts of the champion's MLflow run."""
        with self._client() as client:
            for file in client.list_artifacts(champion.mlflow_run_id):
                if not file.is_dir and Path(file.path).suffix in KEPT:
                    client.download_artifacts(champion.mlflow_run_id, file.path, str(folder))

    def attach(self, mlflow_run_id: str | None, files: Sequence[Path], tags: Mapping[str, str]) -> None:
        """To the MLflow run."""
        if mlflow_run_id is None:
            return
        with self._client() as client:
            for path in files:
                client.log_artifact(mlflow_run_id, str(path))
            for key, value in tags.items():
                client.set_tag(mlflow_run_id, key, value)


def registry_of(series: Series, config: TrackingConfig) -> Registry:
    """Where a series keeps its champion under this configuration."""
    target = destination(config, series.root)
    return FileRegistry(series) if target is None else MlflowRegistry(series, target)


def _of_version(version: Any) -> Champion:
    tags = version.tags
    if "headlight.run_id" not in tags:
        made = f"version {version.version} of {version.name} in MLflow was not made by `headlight promote`"
        raise InputError(f"run error: {made}. Remove it, or give the alias {ALIAS} to one that was.")
    return Champion(
        run_id=tags["headlight.run_id"],
        name=tags["headlight.name"],
        promoted=tags["headlight.promoted"],
        reason=tags.get("headlight.reason"),
        mlflow_run_id=version.run_id,
    )
