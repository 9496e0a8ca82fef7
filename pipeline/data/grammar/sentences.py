"""Whole sentences: one clause, or several of which one decides."""

from __future__ import annotations

from pipeline.data.grammar import lexicon, morphology
from pipeline.data.grammar import phrases as p
from pipeline.data.grammar.clauses import Production, clause, event
from pipeline.data.grammar.lexicon import GOOD
from pipeline.data.grammar.scene import Scene
from pipeline.data.grammar.tree import Arc, Node, comma, leaf


def opened(scene: Scene, polarity: int) -> Node:
    """Sadly, the soup was cold."""
    sigh = scene.chance(0.5)
    word = scene.pick(lexicon.SIGHS[polarity] if sigh else lexicon.OPENERS)
    opener = Arc("advmod", Node(word, "ADV", evidence=sigh).after(comma()))
    return clause(scene, polarity).before(opener)


def dated(scene: Scene, polarity: int) -> Node:
    """After a while, the songs bored us."""
    relation, when = p.time(scene)
    return clause(scene, polarity).before(Arc(relation, when.after(comma())))


def joined(first: Node, conjunction: str, second: Node) -> Node:
    """First, and second."""
    return first.after(Arc("conj", second.before(comma(), leaf("cc", conjunction, "CCONJ"))))


def both(scene: Scene, polarity: int) -> Node:
    """We loved the soup, and the bread was fresh."""
    return joined(clause(scene, polarity), "and", clause(scene, polarity))


def told(scene: Scene, polarity: int) -> Node:
    """We ordered the soup, and it was cold."""
    return joined(event(scene), "and", clause(scene, polarity))


def turned(scene: Scene, polarity: int) -> Node:
    """The room was small, but we loved the bed: the second clause decides."""
    return joined(clause(scene, -polarity).muted(), scene.pick("but but yet"), clause(scene, polarity))


def subordinate(marker: str, node: Node) -> Node:
    """The clause behind a subordinating conjunction."""
    return node.before(leaf("mark", marker, "SCONJ"))


def conceded(scene: Scene, polarity: int) -> Node:
    """Although the room was small, we loved the bed: the main clause decides."""
    aside = subordinate(scene.pick("although though while"), clause(scene, -polarity).muted())
    return clause(scene, polarity).before(Arc("advcl", aside.after(comma())))


def reserved(scene: Scene, polarity: int) -> Node:
    """We loved the bed, although the room was small: the main clause decides."""
    aside = subordinate("although", clause(scene, -polarity).muted())
    return clause(scene, polarity).after(Arc("advcl", aside.before(comma())))


def reasoned(scene: Scene, polarity: int) -> Node:
    """We loved the hotel because the bed was soft."""
    return clause(scene, polarity).after(Arc("advcl", subordinate("because", clause(scene, polarity))))


def timed(scene: Scene, polarity: int) -> Node:
    """When we opened the box, the screen was broken."""
    when = event(scene).before(leaf("advmod", "when", "ADV"))
    return clause(scene, polarity).before(Arc("advcl", when.after(comma())))


def reported(scene: Scene, polarity: int) -> Node:
    """My sister says that the plot is dull; I do not think that it is dull."""
    denied = scene.chance(0.25)
    subject = p.witness(scene)
    verb = scene.pick(lexicon.INNER_REPORTS if denied else lexicon.REPORTS)
    group = p.verb_group(scene, verb, subject, negated=True, evidence=False) if denied else _says(scene, verb, subject)
    scene.affirmative = denied  # two negations would leave the reader in doubt
    content = clause(scene, -polarity if denied else polarity)
    that = leaf("mark", "that", "SCONJ") if denied or scene.chance(0.6) else None
    if next(content.words()).word == "that":  # nobody writes "that that room"
        that = None
    return p.with_subject(subject, group.after(Arc("ccomp", content.before(that))))


def _says(scene: Scene, verb: str, subject: Node) -> Node:
    return Node(morphology.finite(verb, scene.tense, subject.agreement), "VERB")


def exclaimed(scene: Scene, polarity: int) -> Node:
    """What a lovely small room!"""
    node = p.noun(scene.pick(p.things_or_parts(scene))).before(*p.neutral_adjectives(scene))
    article = leaf("det", "a", "DET") if node.agreement == "he" else None
    node = node.before(leaf("det:predet", "what", "DET"), article, Arc("amod", p.polar_adjective(scene, polarity)))
    return node.after(p.place(scene, scene.domain.places)) if scene.chance(0.3) else node


def advised(scene: Scene, polarity: int) -> Node:
    """Avoid this hotel; do not miss the exhibition."""
    what = p.thing(scene, p.things_or_parts(scene))
    if scene.chance(0.5):
        verb = Node(scene.pick(lexicon.ADVICE[polarity]), "VERB", evidence=True)
    else:
        verb = _forbidden(scene, "miss skip" if polarity == GOOD else "try trust choose")
    return verb.after(Arc("obj", what))


def _forbidden(scene: Scene, verbs: str) -> Node:
    verb = Node(scene.pick(verbs), "VERB", evidence=True)
    if scene.chance(0.3):
        return verb.before(leaf("advmod", "never", "ADV", evidence=True))
    return verb.before(leaf("aux", "do", "AUX"), p.negation(scene, "do"))


SENTENCES: list[tuple[float, Production]] = [
    (7, clause),
    (1.3, opened),
    (1, dated),
    (2, both),
    (1, told),
    (2.5, turned),
    (1.5, conceded),
    (1, reserved),
    (1, reasoned),
    (1, timed),
    (1.5, reported),
    (1, exclaimed),
    (1, advised),
]


def sentence(scene: Scene, polarity: int) -> Node:
    """A sentence of this polarity with its final mark."""
    production = scene.weighted(SENTENCES)
    mark = "!" if production is exclaimed or scene.chance(0.05) else "."
    return production(scene, polarity).after(leaf("punct", mark, "PUNCT"))
