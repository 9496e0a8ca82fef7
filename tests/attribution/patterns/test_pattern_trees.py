from __future__ import annotations

import torch
from injected import injected
from tiny_models import CONFIGURATIONS
from transformers import BertConfig, BertForSequenceClassification

from attribution import Explainer
from attribution.patterns import Tokens, evaluate, inject, trees
from attribution.patterns.mass import measure
from attribution.patterns.parsed import arcs_of, tree_batches
from attribution.patterns.predicates import read_predicate

TREES = [
    ("The cats saw a dog.", ["The", "cats", "saw", "a", "dog", "."], [2, 3, 0, 5, 3, 3],
     ["det", "nsubj", "root", "det", "obj", "punct"]),
    ("A dog saw.", ["A", "dog", "saw", "."], [2, 3, 0, 3], ["det", "nsubj", "root", "punct"]),
]  # fmt: skip
SUBJECT = {"subject": {"pred": {"dependency": {"relation": "nsubj"}}, "mode": "fix", "empty": "self"}}


def explained(tokenizer):
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**CONFIGURATIONS["bert"][1])).eval().double()
    return Explainer(model, tokenizer).adapter


def test_trees_of_words_become_trees_of_tokens(tokenizer):
    batches, names = tree_batches(explained(tokenizer), TREES, size=1)
    assert [len(batch["input_ids"]) for batch in batches] == [1, 1]
    tokens = Tokens.of(batches[0], relations=names)
    assert tokens.ids.tolist() == [tokenizer("The cats saw a dog.")["input_ids"]]
    (found,) = evaluate([read_predicate({"dependency": {"relation": "nsubj"}})], tokens)
    assert found[0].nonzero().tolist() == [[2, 3]]  # [CLS] The cats saw
    (back,) = evaluate([read_predicate({"dependency": {"relation": "det", "direction": "head->dep"}})], tokens)
    assert back[0].nonzero().tolist() == [[2, 1], [5, 4]]


def test_a_head_that_follows_subjects_is_measured_as_one(tokenizer):
    adapter = explained(tokenizer)
    changed = inject(adapter.model, tokenizer, injected(SUBJECT, {"1.2": "subject"}))
    batches, names = tree_batches(adapter, TREES)
    with trees(arcs_of(batches[0], names)):
        found = measure(
            Explainer(changed, tokenizer).adapter,
            batches,
            {"s": read_predicate(SUBJECT["subject"]["pred"])},
            relations=names,
        )
    mass, _ = found.over("applicable")
    torch.testing.assert_close(mass[:, 0, 1, 2], torch.ones(2, dtype=torch.float64))
    assert (mass[:, 0, 0, 0] < 0.9).all()
