"""Examples are added until the verdict is decided or the budget is spent.

Valid because the order is drawn beforehand and because P values and intervals are anytime-valid (`anytime_test`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

from attribution.errors import InputError

FIRST_LOOK = 100  # examples; earlier, a mean of skewed differences is too far from normal


class Decision(Protocol):
    """What a look at the data gives."""

    @property
    def decided(self) -> bool:
        """Whether more examples are of no use."""
        ...


DECIDED, EXHAUSTED, SPENT = "decided", "exhausted", "spent"  # why no more examples are added


def reason_to_stop(decided: bool, sizes: Sequence[int], seconds: Sequence[float], budget: float) -> str | None:
    """Why to add no more examples after one or more rounds; None where the next one is to be begun.

    sizes: how many examples there are after each round, of all rounds that there can be; seconds: what had passed after
    each round that is done. A round that would not fit into the budget, were it as slow as the last, is not begun.
    """
    done = len(seconds)
    if decided or done == len(sizes):
        return DECIDED if decided else EXHAUSTED
    (before, now), (had, has) = ([0, *each][done - 1 : done + 1] for each in (seconds, sizes))
    ahead = (now - before) / (has - had) * (sizes[done] - has)
    return SPENT if now + ahead > budget else None


Looked = TypeVar("Looked", bound=Decision)


def drawn_order(items: Iterable[str], seed: int = 0) -> list[str]:
    """The ids in an order that depends on the seed and the ids alone: what comes next knows nothing of what came."""
    return sorted(items, key=lambda item: (blake2b(f"{seed}:{item}".encode(), digest_size=16).digest(), item))


def look_sizes(n: int, *, first: int = FIRST_LOOK, growth: float = 1.25) -> Iterator[int]:
    """Numbers of examples at which to look: each `growth` times the last, `n` being the last."""
    if first < 1 or growth <= 1:
        raise InputError(f"looks: first={first} must be at least 1 and growth={growth} above 1")
    size = float(first)
    while size < n:
        yield int(size)
        size = max(size * growth, size + 1)
    if n:
        yield n


def until_decided(
    items: Iterable[str],
    look: Callable[[Sequence[str]], Looked],
    *,
    spent: Callable[[], bool] = lambda: False,
    seed: int = 0,
    first: int = FIRST_LOOK,
    growth: float = 1.25,
) -> Iterator[Looked]:
    """Each look at a growing set of examples; the last is decided, or the budget was spent, or there are no more.

    `look(ids)` must judge by anytime-valid numbers. `spent` is asked after each look.
    """
    order = drawn_order(items, seed)
    for size in look_sizes(len(order), first=min(first, max(len(order), 1)), growth=growth):
        found = look(order[:size])
        yield found
        if found.decided or spent():
            return
