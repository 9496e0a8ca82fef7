"""Main clauses that say something good or bad. Each production takes a scene and a polarity and returns the root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.data.grammar import lexicon, morphology
from pipeline.data.grammar import phrases as p
from pipeline.data.grammar.lexicon import BAD, GOOD
from pipeline.data.grammar.scene import Scene
from pipeline.data.grammar.tree import Arc, Node, leaf

Production = Callable[[Scene, int], Node]


def describe(scene: Scene, polarity: int) -> Node:
    """The soup from the kitchen was not very good."""
    about_person = scene.chance(0.25)
    subject = p.person(scene) if about_person else p.anything(scene)
    table = lexicon.MANNERS if about_person else scene.adjectives()
    if not about_person and scene.chance(0.5):
        return p.with_subject(subject, p.copula(scene, p.polar_adjective(scene, polarity), subject))
    word, strength, negated = scene.attitude(table, polarity)
    predicate = Node(word, "ADJ", evidence=True).before(p.degree(scene, strength))
    return p.with_subject(subject, p.copula(scene, predicate, subject, negated=negated))


def complain_of_size(scene: Scene, polarity: int) -> Node:
    """The rooms were far too small."""
    subject = p.thing(scene, scene.domain.parts)
    far = leaf("advmod", scene.pick("far much"), "ADV") if scene.chance(0.4) else None
    too = Arc("advmod", Node("too", "ADV", evidence=True).before(far))
    size = Node(scene.pick(lexicon.TOO_MUCH), "ADJ", evidence=True).before(too)
    return p.with_subject(subject, p.copula(scene, size, subject))


def compare(scene: Scene, polarity: int) -> Node:
    """The sequel is much better than the first film."""
    subject, other = p.thing(scene, scene.domain.things), p.noun(scene.pick(scene.domain.things))
    than = other.before(leaf("case", "than", "ADP"), leaf("det", "the", "DET"), *p.neutral_adjectives(scene))
    much = leaf("advmod", scene.pick("much far even"), "ADV") if scene.chance(0.5) else None
    better = Node(scene.pick(lexicon.COMPARATIVES[polarity]), "ADJ", evidence=True).before(much)
    return p.with_subject(subject, p.copula(scene, better.after(Arc("obl", than)), subject))


def judge(scene: Scene, polarity: int) -> Node:
    """It is a complete disaster; this is a truly lovely room."""
    subject = p.pronoun(scene.pick("it this")) if scene.chance(0.4) else _single(scene)
    denied = polarity == BAD and scene.negates(0.25)
    if denied or scene.chance(0.5):
        verdict = Node(scene.pick(lexicon.VERDICTS[GOOD if denied else polarity]), "NOUN", evidence=True)
        adjective = leaf("amod", scene.pick(lexicon.TOTAL), "ADJ") if scene.chance(0.5) else None
    else:
        verdict = p.noun(_singular(scene, scene.domain.things)).before(*p.neutral_adjectives(scene))
        adjective = Arc("amod", p.polar_adjective(scene, polarity))
    predicate = verdict.before(leaf("det", "a", "DET"), adjective)
    return p.with_subject(subject, p.copula(scene, predicate, subject, negated=denied))


def _singular(scene: Scene, names: str) -> str:
    return scene.pick(" ".join(name for name in names.split() if morphology.agreement(name.split("_")[-1]) == "he"))


def _single(scene: Scene) -> Node:
    return p.thing(scene, _singular(scene, scene.domain.parts))


def feel(scene: Scene, polarity: int) -> Node:
    """My brother never liked the old lamp that we bought."""
    subject = p.witness(scene)
    word, strength, negated = scene.attitude(lexicon.FEELINGS, polarity)
    verb = p.verb_group(scene, word, subject, negated=negated).after(Arc("obj", _target(scene)))
    return p.with_subject(subject, verb.after(_aside(scene, fully=not negated and strength == "strong")))


def _target(scene: Scene) -> Node:
    if scene.chance(0.2):
        return p.pronoun(scene.pick("it it them"))
    return p.thing(scene, p.things_or_parts(scene))


def _aside(scene: Scene, *, fully: bool = False) -> Arc | None:
    if fully and scene.chance(0.25):
        return leaf("advmod", scene.pick(lexicon.FULLY), "ADV")
    if scene.chance(0.2):
        return leaf("advmod", scene.pick(lexicon.THROUGHOUT), "ADV")
    return p.time(scene) if scene.chance(0.25) else None


def affect(scene: Scene, polarity: int) -> Node:
    """The final scene completely bored the whole audience."""
    subject = p.person(scene) if scene.chance(0.2) else p.anything(scene)
    word, _, negated = scene.attitude(lexicon.EFFECTS, polarity)
    verb = p.verb_group(scene, word, subject, negated=negated).after(Arc("obj", p.hearer(scene)))
    return p.with_subject(subject, verb.after(_aside(scene, fully=not negated)))


def fare(scene: Scene, polarity: int) -> Node:
    """The jokes do not work; the singer shone on the stage."""
    subject = p.anything(scene)
    word, _, negated = scene.attitude(lexicon.SUCCESSES, polarity)
    verb = p.verb_group(scene, word, subject, negated=negated)
    return p.with_subject(subject, verb.after(_aside(scene, fully=False)))


def succeed(scene: Scene, polarity: int) -> Node:
    """The singers stole the show; the soup missed the mark."""
    subject = p.anything(scene)
    verb, nominal = scene.pick(lexicon.IDIOMS[polarity]).split("_", 1)
    what = replace(p.fixed_nominal(nominal), evidence=True)
    return p.with_subject(subject, p.verb_group(scene, verb, subject).after(Arc("obj", what), _aside(scene)))


def is_made(scene: Scene, polarity: int) -> Node:
    """The fish was beautifully cooked by the young chef."""
    subject, skill = p.thing(scene, scene.domain.parts), _skill(scene, polarity)
    verb = Node(morphology.participle(scene.pick(scene.domain.make)), "VERB")
    auxiliary = leaf("aux:pass", morphology.finite("be", scene.tense, subject.agreement), "AUX")
    verb = verb.before(auxiliary).after(skill) if scene.chance(0.5) else verb.before(auxiliary, skill)
    agent = Arc("obl:agent", p.person(scene).before(leaf("case", "by", "ADP"))) if scene.chance(0.5) else None
    return p.with_subject(subject, verb.after(agent), "nsubj:pass")


def makes(scene: Scene, polarity: int) -> Node:
    """The chef cooked the fish beautifully."""
    subject, skill = p.person(scene), _skill(scene, polarity)
    verb = p.verb_group(scene, scene.pick(scene.domain.make), subject, evidence=False)
    what = p.determined(scene, p.noun(scene.pick(scene.domain.parts)).before(*p.neutral_adjectives(scene)))
    return p.with_subject(subject, verb.after(Arc("obj", what), skill))


def _skill(scene: Scene, polarity: int) -> Arc:
    degree = leaf("advmod", scene.pick("very really quite so"), "ADV") if scene.chance(0.25) else None
    skill = Node(scene.pick(lexicon.SKILLS[polarity]), "ADV", evidence=True)
    return Arc("advmod", skill.before(degree))


def appear(scene: Scene, polarity: int) -> Node:
    """The rooms did not look clean."""
    subject = p.thing(scene, scene.domain.parts)
    word, strength, negated = scene.attitude(scene.adjectives(), polarity)
    adjective = Node(word, "ADJ", evidence=True).before(p.degree(scene, strength))
    verb = p.verb_group(scene, scene.pick(lexicon.SEEMING), subject, negated=negated, evidence=False)
    return p.with_subject(subject, verb.after(Arc("xcomp", adjective)))


def provoke(scene: Scene, polarity: int) -> Node:
    """The songs made everyone laugh."""
    subject = p.thing(scene, scene.domain.parts)
    reaction = Node(scene.pick(lexicon.REACTIONS[polarity]), "VERB", evidence=True)
    verb = p.verb_group(scene, "make", subject, evidence=False).after(
        Arc("obj", p.hearer(scene)), Arc("xcomp", reaction)
    )
    return p.with_subject(subject, verb)


def desire(scene: Scene, polarity: int) -> Node:
    """We wanted to leave after a while."""
    subject = p.witness(scene)
    verb, wish, *rest = scene.pick(lexicon.DESIRES[polarity]).split("_")
    action = Node(wish, "VERB", evidence=True).before(leaf("mark", "to", "PART"))
    action = action.after(*(leaf("advmod", word, "ADV", evidence=True) for word in rest))
    return p.with_subject(
        subject,
        p.verb_group(scene, verb, subject).after(Arc("xcomp", action), p.time(scene) if scene.chance(0.3) else None),
    )


def exist(scene: Scene, polarity: int) -> Node:
    """There was no charm in the script."""
    denied = scene.negates(0.5)
    meant = -polarity if denied else polarity
    what = _quality(scene, meant).before(leaf("det", "no", "DET", evidence=True) if denied else None)
    verb = Node(morphology.finite("be", scene.tense, what.agreement), "VERB").before(leaf("expl", "there", "PRON"))
    where = p.determined(scene, p.noun(scene.pick(scene.domain.parts)).before(*p.neutral_adjectives(scene)))
    return verb.after(Arc("nsubj", what), Arc("obl", where.before(leaf("case", "in", "ADP"))))


def _quality(scene: Scene, polarity: int) -> Node:
    name = scene.pick(lexicon.QUALITIES[polarity])
    adjective = leaf("amod", scene.pick(lexicon.HEAVY[polarity]), "ADJ") if scene.chance(0.6) else None
    return Node(name, "NOUN", evidence=True, agreement=morphology.agreement(name)).before(adjective)


def possess(scene: Scene, polarity: int) -> Node:
    """The script had real wit; the script lacks charm."""
    subject = p.anything(scene)
    lacking = polarity == BAD and scene.chance(0.6)
    verb = p.verb_group(scene, "lack" if lacking else scene.pick("have show"), subject, evidence=lacking)
    quality = _quality(scene, GOOD if lacking else polarity)
    return p.with_subject(subject, verb.after(Arc("obj", quality), _aside(scene)))


CLAUSES: list[tuple[float, Production]] = [
    (5, describe),
    (1, compare),
    (2, judge),
    (4, feel),
    (3, affect),
    (1.5, fare),
    (1, succeed),
    (1.5, is_made),
    (1.5, makes),
    (1.5, appear),
    (1, provoke),
    (1, desire),
    (1.5, exist),
    (2, possess),
]
COMPLAINTS: list[tuple[float, Production]] = [*CLAUSES, (1, complain_of_size)]


def clause(scene: Scene, polarity: int) -> Node:
    """A main clause of this polarity."""
    return scene.weighted(COMPLAINTS if polarity == BAD else CLAUSES)(scene, polarity)


def event(scene: Scene) -> Node:
    """A clause without a sentiment, in the past as all that follows: we finally ordered the fish soup."""
    scene.tense = "past"
    subject = p.witness(scene)
    adverb = leaf("advmod", scene.pick("finally recently already first"), "ADV") if scene.chance(0.3) else None
    verb = p.past_action(scene, scene.pick(scene.domain.use), adverb)
    what = p.thing(scene, p.things_or_parts(scene))
    return p.with_subject(subject, verb.after(Arc("obj", what), _aside(scene)))
