from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from injected import PREVIOUS, injected
from tiny_models import tiny_model

from attribution.errors import InputError
from attribution.patterns import inject
from attribution.patterns.classes import train_classifier
from attribution.patterns.students import Recipe, StudentShape, student_of
from attribution.patterns.training import CheckpointFile, Training

QUICK = Training(epochs=3, batch_size=4, recipe=Recipe(learning_rate=0.02))
DRAWN = torch.randint(5, 30, (12, 6), generator=torch.Generator().manual_seed(0))
LABELS = [index % 2 for index in range(len(DRAWN))]
# What decides the label is whether token 40 or 41 comes first.
TEXTS = [
    {"input_ids": [40 + label, *row.tolist()][: 5 + index % 3], "token_type_ids": [0] * min(7, 5 + index % 3)}
    for index, (label, row) in enumerate(zip(LABELS, DRAWN, strict=True))
]


def student(seed=0, family="bert"):
    return student_of(tiny_model(family, torch.float32), StudentShape(1, 2, 16), seed=seed)


def predicted(model):
    with torch.no_grad():
        return [int(model(torch.tensor([text["input_ids"]])).logits.argmax()) for text in TEXTS]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_classifier_learns_its_labels(family):
    model, state = student(family=family), torch.get_rng_state()
    losses = train_classifier(model, TEXTS, LABELS, replace(QUICK, epochs=12))
    assert torch.equal(torch.get_rng_state(), state)
    assert losses[-1] < losses[0] / 4
    assert not model.training
    assert predicted(model) == LABELS


def test_a_student_with_patterns_follows_its_teacher_against_the_labels():
    model = inject(student(), None, injected({"prev": PREVIOUS}, target="student"))
    taught = [[4.0 * label, 4.0 * (1 - label)] for label in LABELS]  # the opposite of what the labels say
    train_classifier(model, TEXTS, LABELS, replace(QUICK, epochs=12, distilled=1.0, temperature=2.0), taught=taught)
    assert predicted(model) == [1 - label for label in LABELS]


@pytest.mark.parametrize("patterns", [False, True])
def test_training_that_was_interrupted_comes_to_the_same_weights(patterns, tmp_path):
    def made(seed=0):
        file = injected({"prev": PREVIOUS}, target="student")
        return inject(student(seed), None, file) if patterns else student(seed)

    whole, again, checkpoint, epochs = made(), made(seed=5), CheckpointFile(tmp_path / "training.pt"), []

    def until_the_third(batches):
        epochs.append(batches)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return batches

    losses = train_classifier(whole, TEXTS, LABELS, QUICK)
    with pytest.raises(KeyboardInterrupt):
        train_classifier(made(), TEXTS, LABELS, QUICK, checkpoint=checkpoint, shown=until_the_third)
    assert train_classifier(again, TEXTS, LABELS, QUICK, checkpoint=checkpoint) == losses
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    with pytest.raises(InputError, match="of another training"):
        train_classifier(made(), TEXTS, LABELS, replace(QUICK, seed=1), checkpoint=checkpoint)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="11 labels of 12 texts"):
        train_classifier(student(), TEXTS, LABELS[1:])
    with pytest.raises(InputError, match=r"distilled=0\.5 and a teacher's logits come together"):
        train_classifier(student(), TEXTS, LABELS, replace(QUICK, distilled=0.5))
