"""Dependency trees built from the inside out, and how they become text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

_ATTACHED = re.compile(r"n't|[.,!]")
_VOWEL = re.compile(r"[aeio]|u(?!s)", re.IGNORECASE)


class Arc(NamedTuple):
    """A dependent and its relation to the head."""

    deprel: str
    node: Node


@dataclass(frozen=True)
class Node:
    """A word with its dependents on either side, in the order of the text."""

    word: str
    upos: str
    left: tuple[Arc, ...] = ()
    right: tuple[Arc, ...] = ()
    evidence: bool = False  # the word carries the sentiment of the sentence
    agreement: str = "he"  # the pronoun a verb would agree with: I, he or they

    def before(self, *arcs: Arc | None) -> Node:
        """The same with `arcs` to the left of all it has."""
        return replace(self, left=tuple(arc for arc in arcs if arc) + self.left)

    def after(self, *arcs: Arc | None) -> Node:
        """The same with `arcs` to the right of all it has."""
        return replace(self, right=self.right + tuple(arc for arc in arcs if arc))

    def muted(self) -> Node:
        """The same without evidence, as in a clause that the sentence sets aside."""
        left, right = (tuple(Arc(arc.deprel, arc.node.muted()) for arc in side) for side in (self.left, self.right))
        return replace(self, left=left, right=right, evidence=False)

    def words(self) -> Iterator[Node]:
        """All nodes in the order of the text."""
        for arc in self.left:
            yield from arc.node.words()
        yield self
        for arc in self.right:
            yield from arc.node.words()


class Parse(NamedTuple):
    """A sentence, word by word. `heads` are 1-based, 0 marks the root; `rationale` holds 0-based word indexes."""

    text: str
    words: list[str]
    upos: list[str]
    heads: list[int]
    deprels: list[str]
    rationale: list[int]


def leaf(deprel: str, word: str, upos: str, *, evidence: bool = False) -> Arc:
    """An arc to a word without dependents."""
    return Arc(deprel, Node(word, upos, evidence=evidence))


def comma() -> Arc:
    """A comma, to be attached to the unit it sets off."""
    return leaf("punct", ",", "PUNCT")


def parse(root: Node) -> Parse:
    """The sentence below `root`: capitalised, with a or an as the next word asks, and joined to text."""
    nodes = list(root.words())
    position = {id(node): index for index, node in enumerate(nodes, start=1)}
    heads, deprels = [0] * len(nodes), ["root"] * len(nodes)
    for node in nodes:
        for arc in node.left + node.right:
            heads[position[id(arc.node)] - 1] = position[id(node)]
            deprels[position[id(arc.node)] - 1] = arc.deprel
    words = _spelled([node.word for node in nodes])
    rationale = [index for index, node in enumerate(nodes) if node.evidence]
    return Parse(detokenise(words), words, [node.upos for node in nodes], heads, deprels, rationale)


def _spelled(words: list[str]) -> list[str]:
    pairs = zip(words, [*words[1:], ""], strict=True)
    spelled = ["an" if word == "a" and _VOWEL.match(following) else word for word, following in pairs]
    return [spelled[0][0].upper() + spelled[0][1:], *spelled[1:]]


def detokenise(words: list[str]) -> str:
    """The words joined by blanks, punctuation and n't without one."""
    return "".join(word if _ATTACHED.fullmatch(word) or not index else f" {word}" for index, word in enumerate(words))
