"""Noun phrases, adjective phrases and verb groups."""

from __future__ import annotations

from pipeline.data.grammar import lexicon, morphology
from pipeline.data.grammar.lexicon import FUNCTION_WORDS
from pipeline.data.grammar.scene import Scene
from pipeline.data.grammar.tree import Arc, Node, leaf


def noun(name: str) -> Node:
    """A bare noun; of a compound, its parts joined by _, the last is the head."""
    *first, head = name.split("_")
    node = Node(head, "NOUN", agreement=morphology.agreement(head))
    return node.before(*(leaf("compound", word, "NOUN") for word in first))


def pronoun(word: str) -> Node:
    """A pronoun."""
    return Node(word, "PRON", agreement={"I": "I", "we": "they", "they": "they", "these": "they"}.get(word, "he"))


def neutral_adjectives(scene: Scene, words: str = lexicon.NEUTRAL) -> list[Arc]:
    """None, one or two adjectives without a sentiment, in their usual order."""
    count = scene.weighted([(0.6, 0), (0.28, 1), (0.12, 2)])
    drawn = sorted((scene.pick(words) for _ in range(count)), key=words.split().index)
    return [leaf("amod", word, "ADJ") for word in drawn]


def determined(scene: Scene, node: Node) -> Node:
    """The noun with a definite determiner or a possessive pronoun."""
    demonstrative = "this that" if node.agreement == "he" else "these those"
    word, tag = scene.weighted([(6, ("the", "DET")), (1, (scene.pick(demonstrative), "DET")), (0.5, ("our", "PRON"))])
    return node.before(leaf("det" if tag == "DET" else "nmod:poss", word, tag))


def fixed(phrase: str) -> Node:
    """A prepositional phrase written out with _, such as at_the_end; its head is the noun."""
    preposition, nominal = phrase.split("_", 1)
    return fixed_nominal(nominal).before(leaf("case", preposition, "ADP"))


def fixed_nominal(phrase: str) -> Node:
    """A noun phrase written out with _, such as the_second_half."""
    *inner, head = phrase.split("_")
    return noun(head).before(*(leaf(relation, word, tag) for word in inner for relation, tag in [FUNCTION_WORDS[word]]))


def place(scene: Scene, places: str) -> Arc:
    """Where something or someone is, one of preposition_noun."""
    preposition, name = scene.pick(places).split("_")
    where = noun(name).before(*neutral_adjectives(scene))
    return Arc("nmod", where.before(leaf("case", preposition, "ADP"), leaf("det", "the", "DET")))


def time(scene: Scene) -> Arc:
    """When or for how long."""
    return Arc("obl", fixed(scene.pick(lexicon.TIMES)))


def witness(scene: Scene) -> Node:
    """Someone who tells: I, we, my younger sister."""
    if scene.chance(0.5):
        return pronoun(scene.pick("I we we"))
    return noun(scene.pick(lexicon.WITNESSES)).before(leaf("nmod:poss", "my", "PRON"))


def hearer(scene: Scene) -> Node:
    """Someone on whom it has an effect: me, the other guests."""
    if scene.chance(0.5):
        return pronoun(scene.pick("me us us them"))
    whom = noun(scene.pick(lexicon.HEARERS)).before(*neutral_adjectives(scene))
    return whom.before(leaf("det", "the", "DET"))


def thing(scene: Scene, names: str) -> Node:
    """One of the things or parts `names`, determined, with adjectives and sometimes more after it."""
    node = determined(scene, noun(scene.pick(names)).before(*neutral_adjectives(scene)))
    places = scene.domain.origins if names == scene.domain.things else scene.domain.places
    extra = scene.weighted([(0.5, None), (0.28, lambda: place(scene, places)), (0.22, lambda: used(scene))])
    return node.after(extra()) if extra else node


def used(scene: Scene) -> Arc:
    """A relative clause on the object: (that) my brother ordered."""
    subject = witness(scene)
    verb = past_action(scene, scene.pick(scene.domain.use))
    if scene.chance(0.25):
        verb = verb.after(leaf("advmod", scene.pick(lexicon.AFTERWARDS), "ADV"))
    marker = scene.weighted([(2, "that"), (1, "which"), (2, None)])
    pronoun_ = leaf("obj", marker, "PRON") if marker else None
    return Arc("acl:relcl", verb.before(pronoun_, Arc("nsubj", subject)))


def past_action(scene: Scene, verb: str, adverb: Arc | None = None) -> Node:
    """A neutral verb in the past or past perfect, with an adverb right in front of it."""
    if scene.chance(0.3):
        return Node(morphology.participle(verb), "VERB").before(leaf("aux", "had", "AUX"), adverb)
    return Node(morphology.past(verb), "VERB").before(adverb)


def person(scene: Scene) -> Node:
    """Someone of the domain: the old waiter, the chef who cooked the soup."""
    name = noun(scene.pick(scene.domain.people))
    node = determined(scene, name.before(*neutral_adjectives(scene, lexicon.NEUTRAL_OF_PEOPLE)))
    extra = scene.weighted(
        [(0.55, None), (0.25, lambda: place(scene, scene.domain.places)), (0.2, lambda: maker(scene))]
    )
    return node.after(extra()) if extra else node


def maker(scene: Scene) -> Arc:
    """A relative clause on the subject: who cooked the soup."""
    what = noun(scene.pick(scene.domain.parts)).before(*neutral_adjectives(scene)).before(leaf("det", "the", "DET"))
    verb = Node(morphology.past(scene.pick(scene.domain.make)), "VERB")
    return Arc("acl:relcl", verb.before(leaf("nsubj", "who", "PRON")).after(Arc("obj", what)))


def anything(scene: Scene) -> Node:
    """A thing, a part of it, or a pronoun for it."""
    if scene.chance(0.15):
        return pronoun(scene.pick("it it they this"))
    return thing(scene, things_or_parts(scene))


def things_or_parts(scene: Scene) -> str:
    """The names of what is reviewed, or of its parts."""
    return scene.weighted([(1, scene.domain.things), (1.5, scene.domain.parts)])


def degree(scene: Scene, strength: str) -> Arc | None:
    """Sometimes an adverb of degree that goes with adjectives of this strength."""
    return leaf("advmod", scene.pick(lexicon.DEGREES[strength]), "ADV") if scene.chance(0.22) else None


def polar_adjective(scene: Scene, polarity: int) -> Node:
    """One or two coordinated adjectives of this polarity, not negated."""
    first, second = (scene.attitude(scene.adjectives(), polarity, negatable=0) for _ in range(2))
    node = Node(first.word, "ADJ", evidence=True).before(degree(scene, first.strength))
    other = Node(second.word, "ADJ", evidence=True).before(leaf("cc", "and", "CCONJ"))
    return node.after(Arc("conj", other)) if scene.chance(0.25) else node


def negation(scene: Scene, auxiliary: str) -> Arc:
    """Not, or n't where the auxiliary takes it."""
    contracted = auxiliary != "am" and scene.chance(0.6)
    return leaf("advmod", "n't" if contracted else "not", "PART", evidence=True)


def verb_group(scene: Scene, verb: str, subject: Node, *, negated: bool = False, evidence: bool = True) -> Node:
    """A verb with its auxiliaries, negation and adverbs in front; the subject is still to be added."""
    if negated:
        return scene.weighted([(3, denied), (1, never)])(scene, verb, subject, evidence)
    return scene.weighted([(5, simple), (1, perfect)])(scene, verb, subject, evidence)


def simple(scene: Scene, verb: str, subject: Node, evidence: bool) -> Node:
    """Sees; sometimes really sees."""
    form = morphology.finite(verb, scene.tense, subject.agreement)
    adverb = leaf("advmod", scene.pick(f"really truly simply {lexicon.ALWAYS}"), "ADV") if scene.chance(0.25) else None
    return Node(form, "VERB", evidence=evidence).before(adverb)


def perfect(scene: Scene, verb: str, subject: Node, evidence: bool) -> Node:
    """Has seen; sometimes has always seen."""
    adverb = leaf("advmod", scene.pick(f"really {lexicon.ALWAYS}"), "ADV") if scene.chance(0.5) else None
    node = Node(morphology.participle(verb), "VERB", evidence=evidence)
    return node.before(leaf("aux", morphology.finite("have", scene.tense, subject.agreement), "AUX"), adverb)


def denied(scene: Scene, verb: str, subject: Node, evidence: bool) -> Node:
    """Did not see; sometimes did not really see."""
    auxiliary = morphology.finite("do", scene.tense, subject.agreement)
    adverb = leaf("advmod", scene.pick("really actually even"), "ADV") if scene.chance(0.3) else None
    return Node(verb, "VERB", evidence=evidence).before(
        leaf("aux", auxiliary, "AUX"), negation(scene, auxiliary), adverb
    )


def never(scene: Scene, verb: str, subject: Node, evidence: bool) -> Node:
    """Never saw; sometimes never once saw."""
    form = morphology.finite(verb, scene.tense, subject.agreement)
    once = leaf("advmod", "once", "ADV") if scene.chance(0.3) and scene.tense == "past" else None
    return Node(form, "VERB", evidence=evidence).before(leaf("advmod", "never", "ADV", evidence=True), once)


def copula(scene: Scene, predicate: Node, subject: Node, *, negated: bool = False) -> Node:
    """The predicate with a form of be, its negation and adverbs; the subject is still to be added."""
    form = morphology.finite("be", scene.tense, subject.agreement)
    if negated:
        denial = leaf("advmod", "never", "ADV", evidence=True) if scene.chance(0.2) else negation(scene, form)
        return predicate.before(leaf("cop", form, "AUX"), denial)
    if scene.chance(0.15):
        has = leaf("aux", morphology.finite("have", scene.tense, subject.agreement), "AUX")
        return predicate.before(has, leaf("advmod", scene.pick(lexicon.ALWAYS), "ADV"), leaf("cop", "been", "AUX"))
    adverb = leaf("advmod", scene.pick(lexicon.ALWAYS), "ADV") if scene.chance(0.15) else None
    return predicate.before(leaf("cop", form, "AUX"), adverb)


def with_subject(subject: Node, predicate: Node, relation: str = "nsubj") -> Node:
    """The clause of a predicate and its subject."""
    return predicate.before(Arc(relation, subject))
