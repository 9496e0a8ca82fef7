"""The engine against loops that run one row at a time, straight through the model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification

from attribution import perturb
from attribution.errors import InputError
from attribution.model.adapter import ModelAdapter
from attribution.model.inputs import Inputs
from attribution.perturb import Marks, PassCounts, Perturbation, bucket_widths, read_best_span, read_span, run_perturbed

PAD, UNK, MASK, VOCAB = 0, 1, 4, 60
TOKEN = {"mask": MASK, "unk": UNK, "pad": PAD}
LENGTHS = (5, 11, 18, 9)


class Recorder(ModelAdapter):
    """An adapter that remembers the shape of every pass."""

    def logits(self, inputs, columns=None):
        self.shapes = [*getattr(self, "shapes", []), inputs.shape]
        return super().logits(inputs, columns)


def bert(kind=BertForSequenceClassification, dtype=torch.float64):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=3 if kind is BertForSequenceClassification else 2,
        initializer_range=0.3,
        pad_token_id=PAD,
    )
    config.mask_token_id, config.unk_token_id = MASK, UNK
    return Recorder(kind(config).to(dtype).eval())


@pytest.fixture(scope="module")
def classifier():
    return bert()


def padded(rows, side="right", extra=0):
    """Inputs from lists of (id, segment, mask)."""
    width = max(map(len, rows)) + extra
    full = []
    for row in rows:
        gap = [(PAD, 0, 0)] * (width - len(row))
        full.append(gap + row if side == "left" else row + gap)
    ids, segments, mask = torch.tensor(full).unbind(-1)
    return Inputs(ids, mask, token_type_ids=segments)


def texts(seed=0, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(5, VOCAB, (n,), generator=generator).tolist() for n in lengths]
    return [[(token, int(i > len(row) // 2), 1) for i, token in enumerate(row)] for row in rows]


def drawn(base, copies=6, seed=1):
    """Random rows to perturb and random tokens of them, never the first."""
    generator = torch.Generator().manual_seed(seed)
    n_rows, width = base.shape
    rows = torch.arange(n_rows).repeat(copies)
    touched = torch.rand((len(rows), width), generator=generator) < 0.4
    first = base.attention_mask.argmax(1)[rows]
    touched[torch.arange(len(rows)), first] = False
    return rows, touched & base.attention_mask.bool()[rows]


def one_by_one(adapter, base, rows, touched, operator):
    """The same perturbed texts, built with lists and run without padding."""
    results = []
    for row, hit in zip(rows.tolist(), touched.tolist(), strict=True):
        kept = []
        for column in range(base.shape[1]):
            if not base.attention_mask[row, column]:
                continue
            token, segment = int(base.input_ids[row, column]), int(base.token_type_ids[row, column])
            if hit[column] and operator == "delete":
                continue
            kept.append((TOKEN[operator] if hit[column] else token, segment))
        ids, segments = torch.tensor(kept).unbind(1)
        with torch.no_grad():
            results.append(adapter.model(input_ids=ids[None], token_type_ids=segments[None]))
    return results


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("operator", ["mask", "pad", "unk", "delete"])
def test_equals_a_loop_over_single_rows(classifier, operator, side):
    base = padded(texts(), side)
    rows, touched = drawn(base)
    (read,), _ = run_perturbed(classifier, base, [Perturbation(rows, touched, operator)])
    expected = torch.cat([out.logits for out in one_by_one(classifier, base, rows, touched, operator)])
    torch.testing.assert_close(read[:, 0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(read[:, 1].exp(), expected.softmax(-1), rtol=0, atol=1e-12)


def test_side_and_amount_of_padding_change_nothing():
    adapter = bert(dtype=torch.float32)
    results = []
    for side, extra in (("right", 0), ("left", 0), ("left", 7), ("right", 7)):
        base = padded(texts(), side, extra)
        offset = base.attention_mask.argmax(1)
        touched = torch.zeros(base.shape, dtype=torch.bool)
        touched[torch.arange(4)[:, None], offset[:, None] + torch.tensor([1, 3])] = True
        for operator in ("mask", "delete"):
            results.append(run_perturbed(adapter, base, [Perturbation(torch.arange(4), touched, operator)])[0][0])
    for i, result in enumerate(results):
        assert torch.equal(result, results[i % 2])


def test_a_result_does_not_depend_on_the_rows_it_is_run_with():
    adapter = bert(dtype=torch.float32)
    base = padded(texts())
    rows, touched = drawn(base, copies=20)
    (together,), _ = run_perturbed(adapter, base, [Perturbation(rows, touched, "delete")], batch_tokens=64)
    for part in torch.arange(len(rows)).split(3):
        (alone,), _ = run_perturbed(adapter, base, [Perturbation(rows[part], touched[part], "delete")], batch_tokens=64)
        assert torch.equal(alone, together[part])


def test_shape_of_a_pass_follows_from_its_width(classifier):
    base = padded(texts())
    classifier.shapes = []
    (_,), counts = run_perturbed(classifier, base, [Perturbation(*drawn(base, 9), "delete")], batch_tokens=64)
    assert {(size, width) for size, width in classifier.shapes} <= {(4, 4), (4, 8), (4, 12), (4, 16), (2, 20)}
    assert len(classifier.shapes) == counts.passes
    assert counts.positions == sum(size * width for size, width in classifier.shapes)


def test_equal_rows_run_once_over_all_perturbations(classifier):
    base = padded(texts())
    rows, touched = drawn(base, copies=3)
    intact = torch.zeros_like(touched)
    asked = [
        Perturbation(rows, touched, "mask"),
        Perturbation(rows, intact, "mask"),
        Perturbation(rows, intact, "delete"),
        Perturbation(rows, touched, "mask"),
    ]
    classifier.shapes = []
    results, counts = run_perturbed(classifier, base, asked, batch_tokens=20)
    assert counts.requested == 48
    texts_run = {(row, *hit) for row, hit in zip(rows.tolist(), touched.tolist(), strict=True)}
    texts_run |= {(row, *[False] * touched.shape[1]) for row in range(4)}
    assert counts.distinct == len(texts_run) < 17
    assert counts.tokens == sum(LENGTHS[row] for row, *_ in texts_run)
    assert counts.positions == sum(size * width for size, width in classifier.shapes)
    assert torch.equal(results[0], results[3])
    assert torch.equal(results[1], results[2])


def test_colliding_hashes_change_nothing(classifier, monkeypatch):
    base = padded(texts())
    asked = [Perturbation(*drawn(base), operator) for operator in ("mask", "delete")]
    expected, counts = run_perturbed(classifier, base, asked)
    monkeypatch.setattr(perturb, "row_hash", lambda matrix: torch.zeros(len(matrix), dtype=torch.long))
    found, collided = run_perturbed(classifier, base, asked)
    assert collided == counts
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_distinct_rows_are_exact_and_in_order_of_appearance():
    matrix = torch.tensor([[1, 2], [3, 4], [1, 2], [0, 0], [3, 4], [2, 1]])
    first, inverse = perturb.distinct_rows(matrix)
    assert first.tolist() == [0, 1, 3, 5]
    assert inverse.tolist() == [0, 1, 0, 2, 1, 3]


def test_hashes_of_small_differences_differ():
    matrix = torch.cartesian_prod(*[torch.arange(6)] * 5)
    assert len(perturb.row_hash(matrix).unique()) == len(matrix)


@pytest.mark.parametrize("field", ["token_type_ids", "attention_mask", "position_ids"])
def test_rows_that_differ_in_one_field_are_not_merged(classifier, field):
    one = padded([texts()[2]] * 2)
    base = replace(one, position_ids=torch.arange(18).expand(2, 18))
    changed = getattr(base, field).clone()
    changed[1, 5] = {"attention_mask": 0}.get(field, 1 - min(1, int(changed[1, 5])))
    base = replace(base, **{field: changed})
    rows, untouched = torch.arange(2), torch.zeros((2, 18), dtype=torch.bool)
    (read,), counts = run_perturbed(classifier, base, [Perturbation(rows, untouched, "mask")])
    assert counts.distinct == 2
    assert not torch.allclose(read[0], read[1])


def test_padding_in_place_is_not_a_shorter_text(classifier):
    base = padded(texts())
    touched = torch.zeros(base.shape, dtype=torch.bool)
    touched[torch.arange(4), base.attention_mask.sum(1) - 1] = True
    asked = [Perturbation(torch.arange(4), touched, operator) for operator in ("pad", "delete")]
    (in_place, shorter), counts = run_perturbed(classifier, base, asked)
    assert counts.distinct == 8
    assert not torch.isclose(in_place[:, :2], shorter[:, :2]).any()


def test_hidden_tokens_stay_hidden_and_keep_their_place(classifier):
    base = padded(texts())
    mask = base.attention_mask.clone()
    mask[:, 2] = 0
    other_ids = base.input_ids.clone()
    other_ids[:, 2] = 7
    rows, touched = drawn(replace(base, attention_mask=mask))
    (read,), _ = run_perturbed(classifier, replace(base, attention_mask=mask), [Perturbation(rows, touched, "mask")])
    perturbed = torch.where(touched, MASK, other_ids[rows])
    with torch.no_grad():
        expected = classifier.model(perturbed, attention_mask=mask[rows], token_type_ids=base.token_type_ids[rows])
    torch.testing.assert_close(read[:, 0], expected.logits, rtol=0, atol=1e-12)


def test_deleting_renumbers_given_positions(classifier):
    base = padded(texts(), "left")
    numbered = replace(base, position_ids=(base.attention_mask.cumsum(1) - 1).clamp(min=0))
    rows, touched = drawn(base)
    asked = [Perturbation(rows, touched, "delete")]
    assert torch.equal(run_perturbed(classifier, base, asked)[0][0], run_perturbed(classifier, numbered, asked)[0][0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_spans_are_read_where_asked(side):
    adapter = bert(BertForQuestionAnswering)
    base = padded(texts(), side, extra=3)
    rows, touched = drawn(base)
    offset = base.attention_mask.argmax(1)[:, None]
    span = offset + torch.tensor([[1, 3], [4, 9], [0, 17], [8, 8]])
    (read,), _ = run_perturbed(
        adapter, base, [Perturbation(rows, touched, "pad")], read_span, marks=Marks(positions=span)
    )
    (best,), _ = run_perturbed(adapter, base, [Perturbation(rows, touched, "pad")], read_best_span)
    loop = one_by_one(adapter, base, rows, touched, "pad")
    for got, top, row, out in zip(read, best, rows, loop, strict=True):
        for end, logits in enumerate((out.start_logits[0], out.end_logits[0])):
            at = int(span[row, end] - offset[row])
            assert got[0, end] == pytest.approx(float(logits[at]), abs=1e-12)
            assert got[1, end] == pytest.approx(float(logits.log_softmax(0)[at]), abs=1e-12)
            assert int(top[end]) == int(logits.argmax())


def test_a_position_on_padding_is_refused():
    adapter = bert(BertForQuestionAnswering)
    base = padded(texts())
    asked = [Perturbation(torch.arange(4), torch.zeros(base.shape, dtype=torch.bool), "mask")]
    outside = [[0, 1], [0, 1], [0, 1], [0, 17]]
    with pytest.raises(InputError, match="target"):
        run_perturbed(adapter, base, asked, read_span, marks=Marks(positions=torch.tensor(outside)))


def test_nothing_left_of_a_text_is_refused(classifier):
    base = padded(texts())
    with pytest.raises(InputError, match="operator=delete"):
        run_perturbed(classifier, base, [Perturbation(torch.arange(4), base.attention_mask.bool(), "delete")])


def model(task="classification", causal=False, mask_id=MASK, pad_id=PAD, unk_id=UNK):
    return SimpleNamespace(task=task, causal=causal, mask_id=mask_id, pad_id=pad_id, unk_id=unk_id)


EMBEDDINGS = ["zero_embedding", "mean_embedding"]
OPERATORS_OF = [
    (model(), ["mask", "delete", "unk", "pad", "attention_mask_out", *EMBEDDINGS]),
    (model(mask_id=None), ["delete", "unk", "pad", "attention_mask_out", *EMBEDDINGS]),
    (model("question_answering"), ["mask", "unk", "pad", *EMBEDDINGS]),
    (model(causal=True, mask_id=None, unk_id=9), ["delete", "unk", *EMBEDDINGS]),
    (model(causal=True, mask_id=None, unk_id=PAD), ["delete", *EMBEDDINGS]),  # GPT-2, padded with its end-of-text token
]


@pytest.mark.parametrize(("adapter", "expected"), OPERATORS_OF)
def test_operators_of_a_model(adapter, expected):
    assert perturb.available_operators(adapter) == expected
    assert perturb.resolve_operator(adapter, None) == expected[0]


@pytest.mark.parametrize(
    ("adapter", "operator", "why"),
    [
        (model(), "drop", "no such operator"),
        (model(mask_id=None), "mask", "no mask token"),
        (model("question_answering"), "delete", "move the positions"),
        (model(causal=True), "pad", "read-out"),
        (model(causal=True, unk_id=PAD), "unk", "read-out"),
    ],
)
def test_refused_operators_name_the_choices(adapter, operator, why):
    with pytest.raises(InputError, match=rf"operator={operator} .*{why}.*Choose one of .*") as refused:
        perturb.resolve_operator(adapter, operator)
    assert all(choice in str(refused.value) for choice in perturb.available_operators(adapter))


def test_a_model_without_any_operator_is_refused():
    with pytest.raises(InputError, match="give a tokenizer"):
        perturb.resolve_operator(model("question_answering", mask_id=None, pad_id=None, unk_id=None), None)


def test_buckets_pad_little_and_never_beyond_the_models_positions():
    lengths = torch.arange(1, 513)
    widths = bucket_widths(lengths)
    assert (widths >= lengths).all()
    assert 1 - lengths.sum() / widths.sum() < 0.05
    for low, high in ((8, 32), (33, 128), (129, 256), (257, 512)):
        within = (lengths >= low) & (lengths <= high)
        assert (1 - lengths[within] / widths[within]).mean() < 0.15
    assert bucket_widths(torch.tensor([1, 5, 38]), limit=38).tolist() == [4, 8, 38]


def test_counts_add_up():
    total = PassCounts(10, 8, 2, 90, 100) + PassCounts(5, 5, 1, 30, 60)
    assert total == PassCounts(15, 13, 3, 120, 160)
    assert total.padding == pytest.approx(0.25)
    assert PassCounts().padding == 0


@pytest.mark.parametrize("operator", EMBEDDINGS)
def test_words_of_no_and_of_mean_embedding(classifier, operator):
    """Against the model itself, fed with embeddings; together with copies that have none swapped."""
    base = padded(texts())
    rows, touched = drawn(base)
    (found, masked), _ = run_perturbed(
        classifier, base, [Perturbation(rows, touched, operator), Perturbation(rows, touched, "mask")]
    )
    words = classifier.model.get_input_embeddings()
    stand_in = torch.zeros_like(words.weight[0]) if operator == "zero_embedding" else words.weight.mean(0)
    embeddings = torch.where(touched[..., None], stand_in, words(base.input_ids[rows]))
    with torch.no_grad():
        expected = classifier.model(
            inputs_embeds=embeddings, attention_mask=base.attention_mask[rows], token_type_ids=base.token_type_ids[rows]
        )
    torch.testing.assert_close(found[:, 0], expected.logits, rtol=0, atol=1e-12)
    (alone,), _ = run_perturbed(classifier, base, [Perturbation(rows, touched, "mask")])
    assert torch.equal(masked, alone)


def test_tokens_given_take_the_places_of_the_touched(classifier):
    base = padded(texts())
    rows, touched = drawn(base)
    tokens = torch.full_like(touched, 9, dtype=torch.long)
    (found,), _ = run_perturbed(classifier, base, [Perturbation(rows, touched, "mlm_resample", tokens)])
    changed = replace(base.rows(rows), input_ids=torch.where(touched, 9, base.input_ids[rows]))
    (expected,), _ = run_perturbed(
        classifier, changed, [Perturbation(torch.arange(len(rows)), touched & False, "mask")]
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("operator", ["mask", "delete", "zero_embedding"])
def test_what_is_in_memory_is_not_run_again(classifier, operator):
    base, memory = padded(texts()), perturb.Memory()
    rows, touched = drawn(base)
    asked = [Perturbation(rows, touched, operator)]
    (plain,), counts = run_perturbed(classifier, base, asked)
    (first,), cost = run_perturbed(classifier, base, [Perturbation(rows[:5], touched[:5], operator)], memory=memory)
    classifier.shapes = []
    (second,), rest = run_perturbed(classifier, base, asked, memory=memory)
    assert torch.equal(first, plain[:5])
    assert torch.equal(second, plain)
    assert cost.distinct + rest.distinct == counts.distinct
    assert len(classifier.shapes) == rest.passes
    (third,), nothing = run_perturbed(classifier, base, asked, memory=memory)
    assert torch.equal(third, plain)
    assert (nothing.distinct, nothing.passes) == (0, 0)


def test_memory_forgets_when_the_weights_change(classifier):
    base, memory = padded(texts()), perturb.Memory()
    asked = [Perturbation(*drawn(base), "mask")]
    (before,), _ = run_perturbed(classifier, base, asked, memory=memory)
    with torch.no_grad():
        classifier.model.classifier.bias.add_(1)
    (after,), _ = run_perturbed(classifier, base, asked, memory=memory)
    torch.testing.assert_close(after[:, 0], before[:, 0] + 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0"), (999, "999"), (1900, "1.9k"), (214_000, "214k"), (1_900_000, "1.9M"), (999_999, "1.0M")],
)
def test_counts_in_few_characters(count, words):
    assert PassCounts(requested=count).saved == f"0 of {words} forwards run"
