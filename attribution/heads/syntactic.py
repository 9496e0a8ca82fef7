"""Heads that follow a dependency relation, from the dependent to its governor or back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from attribution.errors import InputError
from attribution.heads.alignment import Sentence
from attribution.heads.arcs import READINGS, ArcCounts, count_arcs, spellings
from attribution.heads.roles import DIRECTIONS, syntactic_role
from attribution.heads.scores import HeadScores

if TYPE_CHECKING:
    from attribution.explainer import Explainer

RELATIONS = ("nsubj", "obj", "amod", "advmod")
NO_RELATIONS = ("root", "punct")
MIN_COUNT = 100  # fewer arcs say too little to beat a baseline by a margin


def syntactic_heads(
    explainer: Explainer,
    treebank: Sequence[Sentence],
    *,
    report: Sequence[Sentence] | None = None,
    relations: Sequence[str] = RELATIONS,
    margin: float = 0.10,
    thresholds: Mapping[str, float] | None = None,
    argmax: str = "words",
    reading: str = "row",
    min_count: int = MIN_COUNT,
) -> HeadScores:
    """Heads that find a word's governor or dependent (roles `syntactic:nsubj:dep->head`, ...) on `treebank`.

    A word's row is that of its first token. `argmax="words"`: the answer is the other word with the largest summed
    weight (Clark et al. 2019); `"tokens"`: the word of the largest single weight, special tokens and the word itself
    included, as Mask-LRP does, though matched by index and not by spelling. A head is selected if its accuracy exceeds
    that of the relation's most frequent offset by more than `margin` (Voita et al. 2019) on at least `min_count` arcs,
    or simply exceeds `thresholds[relation]` where one is given. `report` is a treebank that selects nothing.
    `reading="column"`: not where a word looks, but which word looks at it most, as Clark et al. read heads from
    governor to dependent. `relations`: as a treebank spells them, `nsubj*` for all subtypes; `every_relation` lists
    those of a treebank.
    """
    _check(relations, thresholds or {})
    if (reading, argmax) not in READINGS:
        known = ", ".join(f"reading={r} argmax={a}" for r, a in READINGS)
        raise InputError(f"conf error: heads: reading={reading} argmax={argmax} is not known; choose {known}.")
    found = count_arcs(explainer.adapter, treebank, relations, argmax, reading)
    told = None if report is None else count_arcs(explainer.adapter, report, relations, argmax, reading)
    return syntactic_scores(found, told, relations=relations, margin=margin, thresholds=thresholds, min_count=min_count)


def syntactic_scores(
    counts: ArcCounts,
    report: ArcCounts | None = None,
    *,
    relations: Sequence[str] = RELATIONS,
    margin: float = 0.10,
    thresholds: Mapping[str, float] | None = None,
    min_count: int = MIN_COUNT,
) -> HeadScores:
    """What `syntactic_heads` says of these counts; `relations` are among those that were counted."""
    limits = dict(thresholds or {})
    _check(relations, limits)
    share, told = _share(counts, relations), None if report is None else _share(report, relations)
    count = [int(counts.arcs[counts.relations.index(relation)]) for relation in relations]
    baseline = [offset_baseline(counts.offsets[relation])[1] for relation in relations]
    roles = {syntactic_role(r, d): (i, j) for i, r in enumerate(relations) for j, d in enumerate(DIRECTIONS)}
    bars = [limits.get(r, base + margin) for r, base in zip(relations, baseline, strict=True)]
    enough = [r in limits or count[i] >= min_count for i, r in enumerate(relations)]
    return HeadScores(
        scores={role: share[at] for role, at in roles.items()},
        baseline={role: baseline[i] for role, (i, _) in roles.items()},
        count={role: count[i] for role, (i, _) in roles.items()},
        selected={role: (share[i, j] > bars[i]) & enough[i] for role, (i, j) in roles.items()},
        report={role: None if told is None else told[at] for role, at in roles.items()},
        skipped=counts.skipped
        + Counter({f"{what} (report)": n for what, n in report.skipped.items()} if report else {}),
    )


def every_relation(treebank: Sequence[Sentence], *, min_count: int = MIN_COUNT) -> list[str]:
    """The relations with at least `min_count` arcs, most frequent first, and `nsubj*` where one has subtypes.

    Left out are the root and punctuation.
    """
    arcs = ((name, g) for _, _, governors, names in treebank for g, name in zip(governors, names, strict=True))
    count = Counter(name for name, governor in arcs if governor and name not in NO_RELATIONS)
    subtypes = Counter[str]()
    for name, number in count.items():
        subtypes[spellings(name)[1]] += number
    joined = {spellings(name)[1] for name in count if ":" in name}
    known = count + Counter({name: subtypes[name] for name in joined})
    return [name for name, number in sorted(known.items(), key=lambda each: (-each[1], each[0])) if number >= min_count]


def _check(relations: Sequence[str], limits: Mapping[str, float]) -> None:
    if isinstance(relations, str) or not relations or len(set(relations)) < len(relations):
        raise InputError(f"conf error: heads.relations={relations} must list each relation once, at least one.")
    if unknown := sorted(set(limits) - set(relations)):
        choices = ", ".join(relations)
        raise InputError(f"conf error: heads.thresholds.{unknown[0]} is not among heads.relations: {choices}.")


def _share(counts: ArcCounts, relations: Sequence[str]) -> Tensor:
    """The share of arcs that each head finds [R, 2, L, H]. InputError where there is none at all."""
    rows = [counts.relations.index(relation) for relation in relations]
    hits, arcs = counts.hits[rows], counts.arcs[rows]
    if not arcs.any():
        raise InputError(_nothing(relations, counts))
    return hits / arcs.clamp(min=1).double()[:, None, None, None]


def _nothing(relations: Sequence[str], counts: ArcCounts) -> str:
    left_out = ", ".join(f"{number} {what}" for what, number in counts.skipped.items() if number) or "nothing"
    return (
        f"conf error: heads.relations={','.join(relations)} cannot be counted on this treebank of {counts.sentences} "
        f"sentences (left out: {left_out}). Its relations are: "
        f"{', '.join(name for name, _ in counts.names.most_common(12))}."
    )


def offset_baseline(offsets: Counter[int]) -> tuple[int, float]:
    """The most frequent offset governor - dependent of a relation, and its share of the relation's arcs.

    The share is the baseline in both directions. (0, 0.0) where the relation does not occur.
    """
    # of equally frequent offsets the shortest, so that the order of the sentences does not matter
    offset, hits = max(offsets.items(), key=lambda item: (item[1], -abs(item[0]), item[0]), default=(0, 0))
    return offset, hits / max(offsets.total(), 1)
