from __future__ import annotations

import pytest
import torch
from injected import PREVIOUS, injected
from tiny_models import tiny_model

from attribution.errors import InputError
from attribution.patterns import inject
from attribution.patterns.students import (
    Learner,
    Recipe,
    StudentShape,
    distilled_classes,
    distilled_sentences,
    sentence_loss,
    sentence_scorer_of,
    sentence_student,
    student_of,
)

GIVEN = torch.tensor([[True, True, False], [True, False, False]])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_scorer_begins_as_the_model_it_is_of():
    model = tiny_model("bert", torch.float32)
    scorer = sentence_scorer_of(model, seed=1)
    ids = torch.arange(5, 13)[None]
    with torch.no_grad():
        own, other = (each.base_model(ids).last_hidden_state for each in (model.eval(), scorer.eval()))
    assert torch.equal(own, other)
    assert scorer(ids).logits.shape == (1, 8, 1)


def test_sentence_loss_by_hand():
    logits, oracle = drawn(2, 3), torch.tensor([[1, 0, 1], [0, 0, 0]])
    p = torch.sigmoid(logits)
    by_hand = -(p[0, 0].log() + (1 - p[0, 1]).log() + (1 - p[1, 0]).log()) / 3
    torch.testing.assert_close(sentence_loss(logits, oracle, GIVEN), by_hand)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distilled_sentences_are_relative_entropies(temperature):
    student, teacher = drawn(2, 3), drawn(2, 3, seed=1)
    q, p = (torch.sigmoid(logits / temperature)[GIVEN] for logits in (student, teacher))
    by_hand = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean() * temperature**2
    torch.testing.assert_close(distilled_sentences(student, teacher, GIVEN, temperature), by_hand)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distilled_classes_are_relative_entropies(temperature):
    student, teacher = drawn(4, 3), drawn(4, 3, seed=1)
    q, p = (torch.softmax(logits / temperature, 1) for logits in (student, teacher))
    by_hand = (p * (p / q).log()).sum(1).mean() * temperature**2
    torch.testing.assert_close(distilled_classes(student, teacher, temperature), by_hand)


def test_a_student_that_agrees_has_nothing_to_learn():
    teacher = drawn(2, 3).requires_grad_()
    for loss in (lambda s: distilled_sentences(s, teacher, GIVEN), lambda s: distilled_classes(s, teacher)):
        student = teacher.detach().clone().requires_grad_()
        loss(student).backward()
        assert loss(student).abs() < 1e-12
        assert student.grad.abs().max() < 1e-12
        assert teacher.grad is None


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama"])
def test_students_are_small_and_follow_their_seed(family, texts):
    teacher = tiny_model(family, torch.float32)
    state = torch.get_rng_state()
    student, again, other = (student_of(teacher, StudentShape(1, 2, 8), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert (student.config.num_hidden_layers, student.config.num_attention_heads, student.config.hidden_size) == (
        1,
        2,
        8,
    )
    assert student.config.intermediate_size == 32 if family != "gpt2" else student.config.n_inner in (None, 32)
    one, same, different = (model.eval()(**texts).logits for model in (student, again, other))
    assert torch.equal(one, same)
    assert not torch.equal(one, different)
    assert teacher.config.hidden_size == 32


def test_widths_that_do_not_divide_are_refused(bert):
    with pytest.raises(InputError, match="width=10 is not a multiple of heads=4"):
        student_of(bert, StudentShape(1, 4, 10))


def test_a_student_with_patterns_comes_closer_to_its_teacher(texts):
    teacher = tiny_model("bert", torch.float32)
    student = inject(student_of(teacher, StudentShape(1, 2, 8)), None, injected({"prev": PREVIOUS}, target="student"))
    with torch.no_grad():
        wanted = teacher(**texts).logits
    learner = Learner(student, 12, Recipe(learning_rate=0.02))
    found = [learner.step(distilled_classes(student(**texts).logits, wanted)) for _ in range(12)]
    assert found[-1] < found[0] / 2


def test_small_scorers_of_sentences_are_of_the_family(bert):
    bert.config.problem_type = "single_label_classification"  # of a trained classifier, which one label does not have
    student = inject(sentence_student(bert.config, StudentShape(1, 2, 8)), None, injected({"prev": PREVIOUS}))
    assert type(student).__name__ == "HeadlightBertForTokenClassification"
    assert (student.config.num_labels, student.config.vocab_size) == (1, bert.config.vocab_size)
    assert bert.config.num_labels == 2
