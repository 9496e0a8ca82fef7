"""What a run found, in plain sentences derived from its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.report.html import interval, number
from pipeline.standing import Standing, best, higher_is_better, is_control, leading_metric, ranked

_TITLES = {"aopc": "AOPC", "log_odds": "log-odds"}
_NUMBERED = re.compile(r"(_?\*|_\d+)$")


def title(metric: str) -> str:
    """A metric's name as people write it."""
    name, _, at = metric.partition("@")
    return _TITLES.get(name, name.replace("_", " ")) + (f" @ {at}" if at else "")


def family(label: str) -> str:
    """The label that numbered controls share: mask_lrp_random_3 and mask_lrp_random_* are of mask_lrp_random."""
    return _NUMBERED.sub("", label)


def control_title(name: str) -> str:
    """A control family as people write it."""
    if name == "random":
        return "random scores"
    return f"random head masks ({name})" if name.endswith("_random") else name


def controls(method: str, metric: str, entries: Iterable[Standing]) -> dict[str, list[Standing]]:
    """A method's paired differences by control family; one row where the family's mean was measured, else all."""
    families: dict[str, list[Standing]] = {}
    for entry in entries:
        if entry.method == method and entry.metric == metric and entry.against is not None:
            families.setdefault(family(entry.against), []).append(entry)
    return {name: _mean_first(name, members) for name, members in families.items()}


def finding(entries: list[Standing], manifest: Mapping[str, Any]) -> list[str]:
    """Who is best, whether that is more than chance, and whether Mask-LRP's heads beat random ones."""
    leader = best(entries, manifest)
    if leader is None:
        return ["No method was scored."]
    return [_leads(leader, entries, manifest), *_chance(leader, entries), *_masks(entries, manifest)]


def verdict(difference: Standing) -> str:
    """A paired difference in a word or two."""
    return {True: "better", False: "worse", None: "not distinguishable"}[difference.better]


def _mean_first(name: str, members: list[Standing]) -> list[Standing]:
    means = [member for member in members if member.against in (name, f"{name}_*", f"{name}*")]
    return means or members


def _leads(leader: Standing, entries: list[Standing], manifest: Mapping[str, Any]) -> str:
    sentence = f"{leader.method} has the best {title(leader.metric)} ({_value(leader)})"
    others = [entry for entry in ranked(entries, leader.metric) if entry.method != leader.method]
    rivals = [entry for entry in others if not is_control(entry.method, manifest)]
    if not rivals:
        return f"{sentence}."
    overlap = rivals[0].low <= leader.high and leader.low <= rivals[0].high
    relation = "its interval overlaps that of" if overlap else "clear of the next,"
    return f"{sentence}; {relation} {rivals[0].method} ({number(rivals[0].value)})."


def _chance(leader: Standing, entries: list[Standing]) -> Iterator[str]:
    for difference in controls(leader.method, leader.metric, entries).get("random", []):
        yield _beats(difference, control_title("random"))


def _masks(entries: list[Standing], manifest: Mapping[str, Any]) -> Iterator[str]:
    """For each method named like its random masks; where none is, for the best method that has such controls."""
    metric = str(leading_metric(entry.metric for entry in entries))
    methods = [entry.method for entry in ranked(entries, metric) if not is_control(entry.method, manifest)]
    masked = {method: found for method in methods if (found := _mask_controls(method, metric, entries))}
    named = [method for method, found in masked.items() if f"{method}_random" in found]
    for method in named or list(masked)[:1]:
        for members in masked[method].values():
            yield _beats(members[0], "random head masks") if len(members) == 1 else _count(method, members)


def _mask_controls(method: str, metric: str, entries: list[Standing]) -> dict[str, list[Standing]]:
    found = controls(method, metric, entries)
    return {name: members for name, members in found.items() if name.endswith("_random")}


def _count(method: str, members: list[Standing]) -> str:
    won, lost = (sum(member.better is better for member in members) for better in (True, False))
    tied = len(members) - won - lost
    worse = f", is worse than {lost}" if lost else ""
    unclear = f", not distinguishable from {tied}" if tied else ""
    return f"{method} beats {won} of {len(members)} random head masks{worse}{unclear}."


def _value(entry: Standing) -> str:
    return f"{number(entry.value)} {interval(entry.low, entry.high)}".strip()


def _beats(entry: Standing, control: str) -> str:
    """A paired difference as a gain, whichever way the metric points; as a loss where it is one."""
    falls = higher_is_better(entry.metric) is False
    turned = falls != (entry.better is False)
    value, low, high = (-entry.value, -entry.high, -entry.low) if turned else (entry.value, entry.low, entry.high)
    amount = f"{number(value)} {interval(low, high)}".strip()
    if entry.better is None:
        return f"{entry.method} is not distinguishable from {control} (difference {amount})."
    return f"{entry.method} {'beats' if entry.better else 'is worse than'} {control} by {amount}."
