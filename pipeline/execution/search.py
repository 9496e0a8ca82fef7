"""Which examples of a task end the worker that meets them: the task is tried in parts, one attempt after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pipeline.execution.task import MAX_POISON, Outcome, Part, Poison, Task

DEATHS_ALONE = 2  # of an example tried alone before it is to blame: the first may have been its node's fault


class PoisonSearch:
    """Halves what ends a worker, down to single examples; if every part goes, the task is done part by part."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._waiting = _halves((0, len(task.items)))  # the last is next
        self._passed: list[Part] = []
        self._poison: list[Poison] = []
        self._deaths: Counter[Part] = Counter()  # of single examples
        self._over = False

    def attempt(self) -> Task:
        """A part, of which nothing is kept; or, when each of them went, all of them one after the other."""
        return replace(self._task, parts=tuple(self._waiting[-1:] or sorted(self._passed)))

    def died(self, cause: str) -> None:
        """The attempt ended its worker."""
        if not self._waiting:
            self._over = True
            return
        part = self._waiting.pop()
        if part[1] - part[0] > 1:
            self._waiting += _halves(part)
            return
        self._deaths[part] += 1
        if self._deaths[part] < DEATHS_ALONE:
            self._waiting.append(part)
        else:
            self._poison.append((self._task.items[part[0]], f"WorkerLost: {cause}"))

    def answered(self, outcome: Outcome) -> None:
        """The attempt was answered: the part went, or some of it raised, or that was the whole."""
        self._over = not self._waiting or not (outcome.ok or outcome.poison)
        if not self._over:
            self._passed.append(self._waiting.pop())
            self._poison += outcome.poison

    def goes_on(self) -> bool:
        """Whether there is something left to try."""
        return not self._over and (len(self._poison) < MAX_POISON if self._waiting else not self._poison)

    def found(self) -> tuple[Poison, ...]:
        """The examples to blame; none if they are too many, or not all parts were tried."""
        some = self._passed and not self._waiting and len(self._poison) < MAX_POISON
        return tuple(self._poison) if some else ()


def _halves(part: Part) -> list[Part]:
    """The second half, then the first."""
    middle = sum(part) // 2
    return [(middle, part[1]), (part[0], middle)]
