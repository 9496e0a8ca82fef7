from __future__ import annotations

import pytest
import torch

from attribution.errors import InputError
from attribution.heads import positional_heads


def batch_of(lengths, width=None, side="right"):
    width = width or max(lengths)
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, slice(0, length) if side == "right" else slice(width - length, width)] = 1
    return {"input_ids": mask * 5, "attention_mask": mask}


def test_hand_count_over_all_rows(fixed_offsets):
    # Sentences of 8, 8 and 10 tokens: 26 rows. One row of each has no neighbour at -1 or +1, two have none at +2.
    explainer = fixed_offsets(-1, 0, 1, 2)
    found = positional_heads(explainer, [batch_of([8, 8, 10])], denominator="reference")
    assert found.scores["positional:-1"].tolist() == [[23 / 26, 0, 0, 0]]
    assert found.scores["positional:+0"].tolist() == [[0, 1, 0, 0]]
    assert found.scores["positional:+1"].tolist() == [[0, 0, 23 / 26, 0]]
    assert found.scores["positional:+2"].tolist() == [[0, 0, 0, 20 / 26]]
    assert set(found.count.values()) == {26}
    assert found.mask().tolist() == [[True, True, True, False]]
    assert found.skipped == {"rows without a single largest weight": 3 + 0 + 3 + 6}


def test_hand_count_over_applicable_rows(fixed_offsets):
    found = positional_heads(fixed_offsets(-1, 0, 1, 2), [batch_of([8, 8, 10])])
    assert [found.scores[f"positional:{o:+d}"].max().item() for o in (-1, 0, 1, 2)] == [1.0] * 4
    assert [found.count[f"positional:{o:+d}"] for o in (-5, -1, 0, 1, 2)] == [26 - 15, 23, 26, 23, 20]
    assert not found.mask("positional").any()  # fewer than 100 rows say too little


def test_planted_offset_is_complete_only_where_it_applies(fixed_offsets):
    batches = [batch_of([15] * 10), batch_of([12] * 10)]
    applicable = positional_heads(fixed_offsets(-2, 2), batches)
    reference = positional_heads(fixed_offsets(-2, 2), batches, denominator="reference")
    assert applicable.best["positional:-2"] == (0, 0, 1.0)
    assert applicable.best["positional:+2"] == (0, 1, 1.0)
    assert reference.best["positional:-2"] == (0, 0, (13 * 10 + 10 * 10) / 270)
    assert applicable.selected["positional:-2"].tolist() == [[True, False]]
    assert applicable.count["positional:-2"] == 230


def test_sharing_the_largest_weight_is_no_role(fixed_offsets):
    found = positional_heads(fixed_offsets(None), [batch_of([20] * 30)])
    assert not any(score.any() for score in found.scores.values())
    assert not found.mask().any()


def test_rare_offset_needs_a_fifth_of_all_rows(fixed_offsets):
    # Offset 17 has a neighbour in 3 of 20 rows: 120 rows are enough in number, 15 % are not enough in share.
    found = positional_heads(fixed_offsets(17), [batch_of([20] * 40)])
    assert "positional:+17" not in found.scores
    # Offset 16 has one in 4 of 20.
    found = positional_heads(fixed_offsets(16), [batch_of([20] * 40)])
    assert found.count["positional:+16"] == 160
    assert found.mask("positional:+16").all()


def test_threshold_is_exceeded_strictly(fixed_offsets):
    batches = [batch_of([10] * 10)]  # 90 of 100 rows have a next token
    at = positional_heads(fixed_offsets(1), batches, threshold=0.9, denominator="reference")
    below = positional_heads(fixed_offsets(1), batches, threshold=0.89, denominator="reference")
    assert not at.mask().any()
    assert below.mask().all()


@pytest.mark.parametrize("denominator", ["applicable", "reference"])
def test_equals_a_loop_over_heads_rows_and_columns(tiny, denominator):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 24, (6, 9), generator=generator)
    lengths = [9, 4, 7, 2, 9, 5]
    found = positional_heads(tiny, [batch_of(lengths) | {"input_ids": ids}], denominator=denominator)
    for role, score in found.scores.items():
        offset = int(role.split(":")[1])
        rows = [(b, i) for b, n in enumerate(lengths) for i in range(n)]
        have = [(b, i) for b, i in rows if 0 <= i + offset < lengths[b]]
        hits = torch.zeros(2, 3)
        for b, n in enumerate(lengths):
            alone = tiny.adapter.model(ids[b : b + 1, :n], output_attentions=True).attentions
            for layer in range(2):
                for head in range(3):
                    for i in range(n):
                        weights = alone[layer][0, head, i].tolist()
                        hits[layer, head] += weights.index(max(weights)) - i == offset
        torch.testing.assert_close(score, hits.double() / len(have if denominator == "applicable" else rows))


def test_neither_padding_side_nor_batches_matter(tiny):
    ids = torch.randint(4, 24, (4, 8), generator=torch.Generator().manual_seed(2))
    lengths = [8, 3, 6, 5]
    left = batch_of(lengths, 12, "left")
    left["input_ids"][left["attention_mask"].bool()] = torch.cat([ids[b, :n] for b, n in enumerate(lengths)])
    single = ({"input_ids": ids[b : b + 1, :n]} for b, n in enumerate(lengths))
    expected = positional_heads(tiny, [batch_of(lengths) | {"input_ids": ids}])
    for batches in ([left], single):
        found = positional_heads(tiny, batches)
        assert found.count == expected.count
        assert all(torch.equal(found.scores[role], expected.scores[role]) for role in expected.scores)


def test_causal_rows_look_back_only(fixed_offsets):
    explainer = fixed_offsets(1)
    explainer.adapter.attentions = lambda inputs: [torch.eye(6).roll(-1, 1).tril().expand(inputs.shape[0], 1, 6, 6)]
    found = positional_heads(explainer, [batch_of([6] * 30)])
    assert not found.scores["positional:+1"].any()


def test_errors_name_the_key(fixed_offsets):
    with pytest.raises(InputError, match=r"heads.positional_denominator=all .* applicable, reference"):
        positional_heads(fixed_offsets(0), [batch_of([3])], denominator="all")
    with pytest.raises(InputError, match="at least one batch"):
        positional_heads(fixed_offsets(0), [])


def test_report_split_selects_nothing(fixed_offsets):
    explainer = fixed_offsets(-1, 4)
    found = positional_heads(explainer, [batch_of([20] * 10)], report=[batch_of([3] * 10)])
    assert found.mask().tolist() == [[True, True]]
    assert found.report["positional:-1"].tolist() == [[1, 0]]
    assert found.report["positional:+4"].tolist() == [[0, 0]]  # no text of the report is so long
    other_way = positional_heads(explainer, [batch_of([3] * 10)], report=[batch_of([20] * 10)])
    assert not other_way.mask().any()
    assert other_way.report["positional:-1"].tolist() == [[1, 0]]
