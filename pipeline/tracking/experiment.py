"""Writes runs to an MLflow experiment so that writing the same again adds nothing.

Runs are found by their tags, never by a remembered id alone, and a point of a metric carries the time of the results:
whoever breaks off in the middle, or does not hear the answer, starts over.
"""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.keys import file_digest
from pipeline.tracking.payload import Payload

PARENT, RESULTS, FILES = "mlflow.parentRunId", "headlight.results", "headlight.files"
_DIGEST = 36  # characters MLflow keeps of a fingerprint
_NOT_ENDED = 0

Point = tuple[str, int, float]  # key, step, value


@dataclass(frozen=True)
class Experiment:
    """An experiment, through MLflow's client with explicit run ids: the fluent interface keeps its run per thread."""

    client: Any
    id: str

    def open(self, name: str, tags: dict[str, str], started_ms: int, without: str | None = None) -> str:
        """The id of the run with these tags and not the tag `without`; made where there is none."""
        conditions = [f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items()]
        conditions += [f"tags.`{without}` IS NULL"] if without else []
        query = " and ".join(conditions)
        found = self.client.search_runs([self.id], query, max_results=1, order_by=["attributes.start_time ASC"])
        if found:
            return str(found[0].info.run_id)
        about = {"mlflow.source.name": "headlight run", "mlflow.source.type": "LOCAL", "mlflow.user": getpass.getuser()}
        return str(self.client.create_run(self.id, started_ms, about | tags, name).info.run_id)

    def has_ended(self, run_id: str) -> bool:
        """Whether the experiment has this run as finished, and nobody deleted it."""
        found = self.client.search_runs([self.id], f"attributes.run_id = {_quoted(run_id)}", max_results=1)
        return bool(found) and found[0].info.status == "FINISHED"

    def reopen(self, run_id: str) -> None:
        """RUNNING and not ended. The client would keep the end of an earlier attempt; its store takes 0 for none."""
        from mlflow.entities import RunStatus

        self.client._tracking_client.store.update_run_info(run_id, RunStatus.RUNNING, _NOT_ENDED, None)

    def close(self, run_id: str, status: str, ended_ms: int) -> None:
        """FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status, ended_ms)

    def log(self, run_id: str, payload: Payload, at_ms: int) -> None:
        """What of a payload is not there yet, in one request; MLflow's parameters cannot change, so old ones stay."""
        from mlflow.entities import Metric, Param, RunTag

        known = self.client.get_run(run_id).data
        if known.tags.get(RESULTS) == payload.digest:
            return
        held = self._held(run_id, payload, known.metrics)
        metrics = [
            Metric(key, value, at_ms, step) for key, step, value in _points(payload) if (key, step, value) not in held
        ]
        params = [Param(key, value) for key, value in payload.params.items() if key not in known.params]
        tags = [RunTag(key, value) for key, value in {**payload.tags, RESULTS: payload.digest}.items()]
        self.client.log_batch(run_id, metrics, params, tags)

    def log_data(self, run_id: str, data: Mapping[str, Any]) -> None:
        """The data set, as MLflow's lists show it; it keeps the name and the first characters of the fingerprint."""
        from mlflow.entities import Dataset, DatasetInput

        digest = str(data.get("fingerprint"))[:_DIGEST]
        entity = Dataset(str(data.get("name")), digest, source_type="headlight", source=str(data.get("split") or ""))
        self.client.log_inputs(run_id, [DatasetInput(entity, [])])

    def log_files(self, run_id: str, paths: Iterable[Path]) -> None:
        """The files, unless these same ones are there."""
        files = sorted(paths)
        content = hashlib.sha256("\n".join(f"{path.name} {file_digest(path)}" for path in files).encode()).hexdigest()
        if self.client.get_run(run_id).data.tags.get(FILES) == content:
            return
        for path in files:
            self.client.log_artifact(run_id, str(path))
        self.client.set_tag(run_id, FILES, content)

    def _held(self, run_id: str, payload: Payload, latest: Mapping[str, float]) -> set[Point]:
        """Points of the payload's keys that the run has."""
        held = {(key, 0, value) for key, value in latest.items() if key in payload.scalars}
        for key in payload.curves.keys() & latest.keys():
            held |= {(key, point.step, point.value) for point in self.client.get_metric_history(run_id, key)}
        return held


def _points(payload: Payload) -> list[Point]:
    curves = [(key, step, value) for key, steps in payload.curves.items() for step, value in steps.items()]
    return [*((key, 0, value) for key, value in payload.scalars.items()), *curves]


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"
