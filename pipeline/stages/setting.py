"""What every result of a run depends on besides its own stage, and the keys made of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from pipeline.execution.resources import worker_threads
from pipeline.keys import digest, source_digest, versions
from pipeline.worker import ModelRef, Shard

if TYPE_CHECKING:  # what only the driver reads does not make a result
    from pipeline.config import Config
    from pipeline.microbatch import MicroBatch
    from pipeline.prepare import Prepared


@dataclass(frozen=True)
class Setting:
    """Model, examples, and what of the machine shows in the digits of a result."""

    model: ModelRef
    examples_key: str
    threads: int
    segment_ids: bool
    libraries: dict[str, str]
    lm_head: str | None = None  # fingerprint of what hidden states are decoded with; in the keys of what does so alone
    shuffled: str | None = None  # of the model trained on shuffled labels; in the keys of what is compared with it

    @classmethod
    def of(cls, config: Config, prepared: Prepared, device: str) -> Setting:
        """The setting of a run on workers with this kind of device."""
        folder = str(prepared.model.folder.resolve())
        head, shuffled = prepared.model.lm_head, prepared.model.shuffled
        beside = (None if other is None else str(other.folder.resolve()) for other in (head, shuffled))
        model = ModelRef(folder, prepared.model.fingerprint, config.model.dtype, device, *beside)
        cluster = config.cluster
        return cls(
            model,
            prepared.examples_key,
            worker_threads(cluster),
            config.explain.segment_ids,
            versions(),
            None if head is None else head.fingerprint,
            None if shuffled is None else shuffled.fingerprint,
        )

    def key(self, stage: str, **content: Any) -> str:
        """Key of a result: the stage's code, this setting without its paths, and what the result is made of."""
        return digest({"stage": stage, "source": _source(stage), "setting": self._digest, **content})

    @cached_property
    def _digest(self) -> str:
        setting = asdict(self)
        for name in ("folder", "lm_head", "shuffled"):
            del setting["model"][name]
        del setting["examples_key"], setting["lm_head"], setting["shuffled"]
        return digest(setting)

    def shard(self, batch: MicroBatch) -> Shard:
        """A microbatch for a worker."""
        return Shard(self.model, self.examples_key, batch.rows, batch.length, self.segment_ids)


@cache
def _source(stage: str) -> str:
    """Digest of a stage's code, read once: a run makes thousands of keys, and the code it runs does not change."""
    return source_digest([f"pipeline.stages.{stage}"])


def content_of(batch: MicroBatch) -> dict[str, Any]:
    """What a key says about a microbatch: its items and the shape of its pass."""
    return {"batch": batch.digest}
