from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from tiny_models import CONFIGURATIONS
from transformers import BertConfig, BertTokenizerFast

from attribution.errors import InputError
from attribution.patterns import PatternFile, inject
from attribution.patterns.students import Recipe, StudentShape, sentence_student
from attribution.patterns.training import CheckpointFile
from attribution.summaries import Training, score_sentences, train_scorer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "good"]
QUICK, LONG = (Training(epochs=epochs, batch_size=4, recipe=Recipe(learning_rate=0.03)) for epochs in (3, 12))
BLOCKS = {
    "schema": 1,
    "patterns": {"own": {"pred": {"same_segment": "block"}}},
    "inject": {
        "target": "student",
        "assign": {"strategy": "per_layer_cycle", "order": ["own"], "heads_per_pattern": 2},
    },
}


class Document(NamedTuple):
    sentences: tuple[str, ...]
    oracle: tuple[int, ...] | None


# The sentence with `good` in it is the summary.
DOCUMENTS = [
    Document(tuple(f"{letter} good" if at == number % 3 else f"{letter} b" for at in range(3)), (number % 3,))
    for number, letter in enumerate("abcdabcdabcd")
]


@pytest.fixture
def letters(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS))
    return BertTokenizerFast(str(path))


def student(seed=0):
    return sentence_student(BertConfig(**CONFIGURATIONS["bert"][1]), StudentShape(1, 2, 16), seed=seed)


def patterned(letters, seed=0):
    """A student whose heads look at the block they are in."""
    return inject(student(seed), letters, PatternFile.read(BLOCKS))


def found(model, letters):
    """The best sentence of each document."""
    scores = score_sentences(model, letters, [document.sentences for document in DOCUMENTS], batch_size=5)
    return [row.index(max(row)) for row in scores]


def test_a_scorer_learns_what_a_summary_is_where_its_heads_look_at_the_sentence(letters):
    wanted = [document.oracle[0] for document in DOCUMENTS]
    model, free, state = patterned(letters), student(), torch.get_rng_state()
    losses = train_scorer(model, letters, DOCUMENTS, LONG)
    assert torch.equal(torch.get_rng_state(), state)
    assert losses[-1] < losses[0] / 10
    assert not model.training
    assert found(model, letters) == wanted
    assert train_scorer(free, letters, DOCUMENTS, LONG)[-1] > 10 * losses[-1]  # twelve documents are too few for it
    assert found(free, letters) != wanted


def test_training_that_was_interrupted_comes_to_the_same_weights(letters, tmp_path):
    whole, broken, checkpoint = student(), student(), CheckpointFile(tmp_path / "training.pt")
    losses = train_scorer(whole, letters, DOCUMENTS, QUICK)

    class Stop(Exception):
        pass

    epochs = []

    def until_the_second(batches):
        epochs.append(batches)
        if len(epochs) == 2:
            raise Stop
        return batches

    with pytest.raises(Stop):
        train_scorer(broken, letters, DOCUMENTS, QUICK, checkpoint=checkpoint, shown=until_the_second)
    other = student(seed=5)
    assert train_scorer(other, letters, DOCUMENTS, QUICK, checkpoint=checkpoint) == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    with pytest.raises(InputError, match="of another training"):
        train_scorer(student(), letters, DOCUMENTS, Training(epochs=4), checkpoint=checkpoint)


def test_a_student_of_a_teacher_alone_needs_no_oracle(letters):
    teacher, model = patterned(letters), patterned(letters, seed=1)
    train_scorer(teacher, letters, DOCUMENTS, LONG)
    taught = score_sentences(teacher, letters, [document.sentences for document in DOCUMENTS])
    unlabelled = [Document(document.sentences, None) for document in DOCUMENTS]
    losses = train_scorer(model, letters, unlabelled, replace(LONG, distilled=1.0), taught=taught)
    assert losses[-1] < losses[0] / 4
    assert found(model, letters) == found(teacher, letters)
    with pytest.raises(InputError, match="logits are of other sentences"):
        train_scorer(model, letters, unlabelled, Training(distilled=1.0), taught=[row[1:] for row in taught])


def test_what_does_not_fit_is_refused(letters):
    with pytest.raises(InputError, match="no documents"):
        train_scorer(student(), letters, [])
    with pytest.raises(InputError, match="needs the oracle"):
        train_scorer(student(), letters, [Document(("a",), None)])
    with pytest.raises(InputError, match=r"distilled=0\.5 and a teacher's logits come together"):
        train_scorer(student(), letters, DOCUMENTS, Training(distilled=0.5))
    with pytest.raises(InputError, match=r"distilled=0\.0 and a teacher"):
        train_scorer(student(), letters, DOCUMENTS, taught=[[0.0] * 3] * len(DOCUMENTS))
