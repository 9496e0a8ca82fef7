"""What patterns are measured on: the examples of a run, or sentences whose dependency trees are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from attribution.errors import InputError
from attribution.patterns import PatternFile, Vocabulary
from attribution.patterns.predicates import write_predicate
from pipeline.config import Config
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch, plan_microbatches
from pipeline.mixing_steps import healthy
from pipeline.parsed_texts import ParsedTexts
from pipeline.prepare import Prepared
from pipeline.stages.measure_patterns import TREES
from pipeline.stages.setting import Setting
from pipeline.trees import require_known

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

KEY = "patterns.trees"


@dataclass(frozen=True)
class PatternTexts:
    """Texts that patterns are measured on, and row by row their trees where these are known."""

    batches: Sequence[MicroBatch]
    setting: Setting
    parsed: ParsedTexts | None = None

    @classmethod
    def of_run(cls, experiment: Experiment) -> PatternTexts:
        """The examples of the run."""
        return cls(experiment.batches, experiment.setting)

    def examples(self, experiment: Experiment) -> pa.Table:
        """Their table, without those that turned out impossible to compute."""
        return healthy(experiment) if self.parsed is None else self.parsed.table

    @property
    def trees_key(self) -> str | None:
        """Of the table of trees; None where there are none."""
        return None if self.parsed is None else self.parsed.trees_key

    def trees(self, batch: MicroBatch) -> str | None:
        """Digest of those of a microbatch; None where there are none."""
        return None if self.parsed is None else digest([self.parsed.trees[row] for row in batch.rows])

    def stored(self) -> Iterator[tuple[str, pa.Table, str]]:
        """Key, table and stage of what workers read beside the examples of the run."""
        if self.parsed is not None:
            yield self.setting.examples_key, self.parsed.table, "examples"
            yield self.parsed.trees_key, self.parsed.trees_table(), TREES

    def described(self) -> Iterator[str]:
        """A sentence for the report, where these are not the texts that are explained."""
        if self.parsed is not None:
            yield f"patterns were measured on {len(self.parsed.trees)} sentences of {self.parsed.source}"
            if self.parsed.left_out:
                reason = "too long, or their words are not in them"
                yield f"sentences left out of {self.parsed.source} ({reason}): {self.parsed.left_out}"


def parsed_texts(config: Config, prepared: Prepared, device: str) -> PatternTexts | None:
    """The sentences of the treebank that is asked for; None where none is."""
    asked = config.patterns
    if asked.trees is None:
        return None
    path, model = Path(asked.trees).expanduser(), prepared.model
    parsed = ParsedTexts.load(path, prepared.tokenizer, max_length=model.max_length, limit=asked.trees_limit, key=KEY)
    setting = Setting.of(config, replace(prepared, examples=parsed.table, texts=None), device)
    batches = plan_microbatches(parsed.table, config.cluster, model.max_length)
    return PatternTexts(batches, setting, parsed)


def check_measurable(file: PatternFile, prepared: Prepared, where: str, parsed: ParsedTexts | None) -> None:
    """InputError for patterns that ask for what these texts do not tell: trees, or a relation that none of them has."""
    require_told(file, prepared, where, f"give a treebank: {KEY}=FILE", () if parsed is None else parsed.relations)
    if parsed is None:
        return
    for name, pattern in file.patterns.items():
        for relation in followed(write_predicate(pattern.pred)):
            if relation not in parsed.relations:
                raise InputError(
                    f"conf error: {where}: patterns.{name}: {KEY} has no relation {relation}; "
                    f"choose {', '.join(parsed.relations)}."
                )


def require_told(file: PatternFile, prepared: Prepared, where: str, remedy: str, relations: Sequence[str] = ()) -> None:
    """InputError, with a remedy, for patterns that need trees, where there are none with relations."""
    try:
        require_known([each.pred for each in file.patterns.values()], Vocabulary.of(prepared.tokenizer), relations)
    except InputError as error:
        raise InputError(f"conf error: {where}: {error} ({remedy})") from None


def followed(written: Any) -> Iterator[str]:
    """The relations that a predicate, as a file has it, follows."""
    if isinstance(written, Mapping):
        for name, inside in written.items():
            if name == "dependency":
                yield inside["relation"]
            else:
                yield from followed(inside)
    elif isinstance(written, list):
        for inside in written:
            yield from followed(inside)
