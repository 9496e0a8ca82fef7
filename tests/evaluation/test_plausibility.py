"""Answer recall against sets of token positions."""

from __future__ import annotations

import pytest
import torch

from attribution.errors import InputError
from evaluation import answer_recall, evaluate, mean_interval


def drawn(seed=0, b=40, n=30):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 8, (b, n), generator=generator).double()
    start = torch.randint(1, n - 4, (b,), generator=generator)
    answers = torch.stack((start, start + torch.randint(0, 4, (b,), generator=generator)), 1)
    mask = torch.ones((b, n), dtype=torch.long)
    mask[: b // 2, -3:] = 0
    special = torch.zeros((b, n), dtype=torch.long)
    special[:, [0, 12]] = 1
    return scores, answers, mask, special


@pytest.mark.parametrize("include_special", [False, True])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_equals_sets_of_positions(k, include_special):
    scores, answers, mask, special = drawn()
    found = answer_recall(
        scores, answers, k=k, attention_mask=mask, special_tokens_mask=special, include_special=include_special
    )
    for b in range(len(scores)):
        ranked = [i for i in range(30) if mask[b, i] and (include_special or not special[b, i])]
        top = sorted(ranked, key=lambda i: (-float(scores[b, i]), i))[:k]
        answer = set(range(int(answers[b, 0]), int(answers[b, 1]) + 1))
        assert int(found.hits[b]) == len(answer & set(top))
        assert int(found.sizes[b]) == len(answer)


def test_micro_average_is_the_ratio_of_sums():
    scores, answers, mask, special = drawn()
    found = answer_recall(scores, answers, k=9, attention_mask=mask, special_tokens_mask=special)
    assert found.micro == pytest.approx(float(found.hits.sum() / found.sizes.sum()))
    values = evaluate(
        "answer_recall", scores=scores, answers=answers, k=9, attention_mask=mask, special_tokens_mask=special
    )
    assert mean_interval(values, found.sizes).value == pytest.approx(found.micro)
    assert float(values.mean()) != pytest.approx(found.micro)


def test_an_answer_longer_than_k_cannot_be_found_whole():
    scores = torch.zeros(1, 30)
    scores[0, 2:27] = 1
    found = answer_recall(scores, torch.tensor([[2, 26]]), include_special=True)
    assert (float(found.hits), float(found.sizes)) == (20, 25)


def test_missing_answers_and_scores_are_undefined():
    scores = torch.zeros(3, 5)
    scores[2, 1] = torch.nan
    found = answer_recall(scores, torch.tensor([[1, 2], [-1, -1], [1, 2]]), k=2, include_special=True)
    assert found.hits.isnan().tolist() == found.sizes.isnan().tolist() == [False, True, True]
    assert found.micro == 0.5


def test_leaving_out_special_tokens_needs_to_know_them():
    with pytest.raises(InputError, match=r"special_tokens_mask.*include_special=True"):
        answer_recall(torch.zeros(1, 5), torch.tensor([[1, 2]]))
