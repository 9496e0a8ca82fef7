"""What a run may use, and how much of it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import BudgetConfig
from pipeline.execution import Outcome

if TYPE_CHECKING:
    from pipeline.run import Pool

HOUR = 3600.0


class Budget:
    """Counts the hours of the workers, lost attempts included; says when they are spent."""

    def __init__(self, config: BudgetConfig, pool: Pool) -> None:
        self._config, self._pool = config, pool
        self.worker_seconds = 0.0

    @property
    def gpu_seconds(self) -> float:
        """Seconds that GPUs were held by tasks."""
        return self.worker_seconds * self._pool.gpus

    def spend(self, outcome: Outcome) -> str | None:
        """Count a task; a reason to stop where nothing is left."""
        self.worker_seconds += outcome.seconds
        spent = (
            ("budget.gpu_hours", self._config.gpu_hours, self.gpu_seconds),
            ("budget.worker_hours", self._config.worker_hours, self.worker_seconds),
        )
        for key, limit, seconds in spent:
            if limit is not None and seconds >= limit * HOUR:
                return f"{key}={limit:g} is spent"
        return None
