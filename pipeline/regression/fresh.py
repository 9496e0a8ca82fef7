"""Computes anew what looks like a regression, before anybody is woken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from attribution.errors import HeadlightError, InputError
from pipeline.config import Config, ModelConfig
from pipeline.data import load_dataset
from pipeline.execution import Progress
from pipeline.models import resolve_model
from pipeline.regression.compare import Departure, Pairs, pairs_of, with_accuracy
from pipeline.regression.confirm import can_resample, fresh_config, fresh_examples
from pipeline.run import DONE, run
from pipeline.runs import Run

ENOUGH = 0.5  # of the night's examples: where fewer are left, the same are taken again


def values_of(run: Run) -> pa.Table:
    """The values of a run, with the model's accuracy where the data are labelled."""
    return with_accuracy(run.table("values"), run.table("examples"), run.table("predictions"))


@dataclass
class Fresh:
    """Confirmations of one night, each in a store of its own, so that nothing is taken from what was computed before.

    Where champion and candidate differ in the model alone, both are run on examples that neither has seen in the night.
    Otherwise the champion's code or libraries are gone, and the candidate is computed again under other seeds.
    """

    config: Config  # of the night
    champion: Run
    candidate: Run
    differences: Sequence[Departure]
    stores: Path
    progress: Progress
    notes: list[str] = field(default_factory=list)

    def pairs(self, number: int) -> Pairs:
        """The values of confirmation `number`, from 0."""
        offset, skip = self.config.regression.fresh_seeds[number], fresh_examples(self.config, number)
        why_not = self._cannot_resample(skip)
        if why_not is None:
            self.notes.append(f"confirmation {number + 1}: both models on other examples, from number {skip} on")
            fresh = fresh_config(self.config, offset, skip)
            return pairs_of(*(self._values(each, f"fresh-{number + 1}{side}") for each, side in self._sides(fresh)))
        self.notes.append(f"confirmation {number + 1}: the candidate again, all seeds {offset} higher ({why_not})")
        again = self._values(fresh_config(self.config, offset), f"fresh-{number + 1}")
        return pairs_of(values_of(self.champion), again)

    def repeated(self) -> Pairs:
        """The candidate's values and those of the same computation done once more."""
        again = self._values(fresh_config(self.config, 0), "repeated")
        return pairs_of(values_of(self.candidate), again)

    def _sides(self, fresh: Config) -> list[tuple[Config, str]]:
        return [(replace(fresh, model=self._champion_model()), "-champion"), (fresh, "-candidate")]

    def _champion_model(self) -> ModelConfig:
        return ModelConfig(**self.champion.config["model"])

    def _cannot_resample(self, skip: int) -> str | None:
        """Why champion and candidate cannot both be run on new examples; None where they can."""
        if not can_resample(self.differences):
            return "the champion's code or versions are not those of today"
        if not skip:
            return "dataset.limit is not set, so no example is left"
        try:
            everything = load_dataset(replace(self.config.dataset, skip=0, limit=None)).examples
            left = len(everything) - self.config.dataset.skip - skip
            found = resolve_model(self._champion_model(), Path(self.config.paths.models)).fingerprint
        except InputError as error:
            return str(error).removeprefix("conf error: ")
        if left < ENOUGH * self.candidate.manifest["dataset"]["n"]:
            return f"only {left} examples are left"
        same = found == self.champion.manifest["model"]["fingerprint"]
        return None if same else "the champion's model is no longer where it was"

    def _values(self, config: Config, name: str) -> pa.Table:
        paths = replace(config.paths, runs=str(self.candidate.folder / "fresh"), store=str(self.stores / name))
        result = run(replace(config, name=name, paths=paths), (), self.progress)
        if result.exit_code != DONE:
            raise HeadlightError(f"run error: {result.folder} failed, so nothing is confirmed; see its manifest.json")
        return values_of(Run(result.folder))
