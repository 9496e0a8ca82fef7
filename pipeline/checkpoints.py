"""Checkpoints of a training in the store: any worker of any machine goes on where another was killed."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from pipeline.keys import digest
from pipeline.schemas import CHECKPOINT
from pipeline.store import Store

STAGE = "checkpoints"


@dataclass(frozen=True)
class StoredCheckpoint:
    """The checkpoint of the task with this key, which trains for so many epochs. Tasks of other content have others.

    No run refers to what a killed task leaves, so that `headlight gc` collects it in time.
    """

    store: Store
    key: str
    epochs: int

    def read(self) -> bytes | None:
        """What was kept after the last epoch that was."""
        for epoch in reversed(range(self.epochs)):
            table = self.store.get(self._name(epoch), STAGE)
            if table is not None:
                data: bytes = table["data"][0].as_py()
                return data
        return None

    def write(self, data: bytes, epoch: int) -> None:
        """Keep the state after an epoch, and then no longer that before."""
        self.store.put(self._name(epoch), pa.table({"data": [data]}, schema=CHECKPOINT), STAGE)
        if epoch:
            self.store.remove(self._name(epoch - 1), STAGE)

    def clear(self) -> None:
        """Keep nothing more: the task is done."""
        for epoch in range(self.epochs):
            self.store.remove(self._name(epoch), STAGE)

    def _name(self, epoch: int) -> str:
        return digest({"checkpoint": self.key, "epoch": epoch})
