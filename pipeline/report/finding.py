"""What a run found, in plain sentences derived from its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.report.html import interval, number
from pipeline.standing import Standing, best, is_control, leading_metric, ranked

_TITLES = {"aopc": "AOPC", "log_odds": "log-odds"}
_NUMBERED = re.compile(r"(_?\*|_\d+)$")


def title(metric: str) -> str:
    """A metric's name as people write it."""
    name, _, at = metric.partition("@")
    return _TITLES.get(name, name.replace("_", " ")) + (f" @ {at}" if at else "")


def family(label: str) -> str:
    """The label that numbered controls share: mask_lrp_random_3 and mask_lrp_random_* are of mask_lrp_random."""
    return _NUMBERED.sub("", label)


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
        yield f"Against random scores {leader.method} is {_difference(difference)}."


def _masks(entries: list[Standing], manifest: Mapping[str, Any]) -> Iterator[str]:
    """For each method with random masks of its own."""
    metric = leading_metric(entry.metric for entry in entries)
    for method in dict.fromkeys(entry.method for entry in ranked(entries, str(metric))):
        members = controls(method, str(metric), entries).get(f"{method}_random", [])
        if not members or is_control(method, manifest):
            continue
        if len(members) == 1:
            yield f"Against random head masks {method} is {_difference(members[0])}."
        else:
            won = sum(member.better is True for member in members)
            yield f"{method} clearly beats {won} of {len(members)} random head masks."


def _value(entry: Standing) -> str:
    return f"{number(entry.value)} {interval(entry.low, entry.high)}".strip()


def _difference(entry: Standing) -> str:
    amount = f"{number(abs(entry.value))}" if entry.better is not None else number(entry.value)
    bounds = interval(entry.low, entry.high)
    if entry.better is None:
        return f"not distinguishable (difference {amount} {bounds})"
    return f"{verdict(entry)} by {amount} (difference {bounds})"
