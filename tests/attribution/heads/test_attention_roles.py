"""Roles by attention mass: planted heads, values by hand, slow loops; neither padding nor batches matter."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from planted import CLS, SEP, at, even, planted, to
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.heads import attention_roles, induction_heads
from attribution.heads.role_readings import MASSES, ROLES, ROWS
from attribution.heads.text_roles import MIN_TEXTS, count_induction, count_roles, role_scores
from attribution.heads.token_kinds import TokenKinds

COMMA, FULL_STOP = 3, 4
WORDS = {"[CLS]": CLS, "[SEP]": SEP, ",": COMMA, ".": FULL_STOP, **{f"w{i}": i for i in range(5, 60)}}
TOKENIZER = SimpleNamespace(cls_token_id=CLS, sep_token_id=SEP, all_special_ids=[0, CLS, SEP], get_vocab=lambda: WORDS)


def texts(*rows, width=None, side="right"):
    width = width or max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for row, tokens in enumerate(rows):
        place = slice(0, len(tokens)) if side == "right" else slice(width - len(tokens), width)
        ids[row, place], mask[row, place] = torch.tensor(tokens), 1
    return {"input_ids": ids, "attention_mask": mask}


def some(n=80, seed=0):
    """Texts of 5 to 12 tokens, with [CLS], [SEP], a comma and a full stop, some words twice."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        words = torch.randint(5, 12, (int(torch.randint(1, 8, (1,), generator=generator)),), generator=generator)
        found.append([CLS, *words.tolist(), COMMA, FULL_STOP, SEP])
    return found


PLANTED = {
    "previous": at(-1),
    "next": at(1),
    "self": at(0),
    "sink:cls": to(CLS),
    "sink:sep": to(SEP),
    "sink:punct": to(COMMA, FULL_STOP),
}


def match(ids):
    same = (ids[:, None] == ids[None]) & ~torch.eye(len(ids), dtype=torch.bool) & (ids > FULL_STOP)
    return torch.where(same.any(1, keepdim=True), same, True)


def test_planted_heads_play_their_role_completely_and_no_other():
    explainer = planted(*PLANTED.values(), match, even, tokenizer=TOKENIZER)
    found = attention_roles(explainer, [texts(*some())])
    names = [*PLANTED, "match", "broad"]
    for number, role in enumerate(names):
        assert found.scores[role][0, number] == pytest.approx(1, abs=1e-12), role
        others = {names.index("match")} if role == "broad" else set()  # looks everywhere where nothing matches
        assert set(found.selected[role][0].nonzero().flatten().tolist()) - others == {number}, role
    # What separators themselves look at is another question: a head that looks at itself does so there, too.
    assert found.mask("sep:from_sep")[0].nonzero().flatten().tolist() == [names.index("self"), names.index("sink:sep")]
    assert "rare" not in found.scores  # without frequencies
    assert "sink:bos" not in found.scores  # of decoders


def test_an_even_head_gives_what_is_called_the_baseline():
    batch = texts(*some())
    found = attention_roles(planted(even, tokenizer=TOKENIZER), [batch])
    for role, score in found.scores.items():
        assert float(score) == pytest.approx(found.baseline[role], abs=1e-12), role
    assert found.selected["broad"].all()
    assert sum(bool(chosen.any()) for chosen in found.selected.values()) == 1


def test_left_and_right_are_told_apart():
    """Offset is key - query: the previous token is at -1."""
    rows = [[CLS, *range(5, 5 + n), SEP] for n in range(2, 40)]
    found = attention_roles(planted(at(-1), at(1), tokenizer=TOKENIZER), [texts(*rows)])
    assert found.scores["previous"][0, 0] == found.scores["next"][0, 1] == 1
    assert found.scores["previous"][0, 1] < 0.1
    assert found.scores["next"][0, 0] < 0.1


def test_values_by_hand():
    """[CLS] a , a [SEP]; a head that gives weights 1, 2, 3, 4, 5 of 15 in every row."""
    explainer = planted(lambda ids: torch.arange(1, 6).expand(5, 5), tokenizer=TOKENIZER)
    sums = count_roles(explainer.adapter, [texts([CLS, 7, COMMA, 7, SEP])])
    found = dict(zip(sums.roles, sums.mean[:, 0, 0].tolist(), strict=True))
    expected = {
        "previous": (1 + 2 + 3 + 4) / 4 / 15,
        "next": (2 + 3 + 4 + 5) / 4 / 15,
        "self": (1 + 2 + 3 + 4 + 5) / 5 / 15,
        "sink:cls": 1 / 15,
        "sink:sep": 5 / 15,
        "sep:from_sep": 5 / 15,
        "sep:from_others": 5 / 15,
        "sink:punct": 3 / 15,
        "match": (4 + 2) / 2 / 15,  # from one a to the other, and back
    }
    for role, value in expected.items():
        assert found[role] == pytest.approx(value, abs=1e-15), role
    chance = dict(zip(sums.roles, sums.chance.tolist(), strict=True))
    assert [chance[role] for role in ("next", "match", "sink:sep")] == pytest.approx([0.2] * 3)
    assert found["broad"] == pytest.approx(
        -sum(p * math.log(p) for p in (0.9999 * k / 15 + 0.0001 / 5 for k in range(1, 6))) / math.log(5), abs=1e-12
    )


def looks_at(number):
    return lambda ids: (ids[None] == number).double().expand(len(ids), -1) + 1e-3


def test_rare_words_are_looked_at_by_frequency():
    """Of 600 tokens 59 is the rarest; 58 is no common word either, 10 is the most common one."""
    frequencies = torch.arange(600).flip(0)
    frequencies[58], frequencies[59] = 2, 1
    rows = [[CLS, 10, 58, 59, 11, SEP]] * MIN_TEXTS + [[CLS, 10, 11, 12, SEP]] * 7
    explainer = planted(looks_at(59), looks_at(58), looks_at(10), even, tokenizer=TOKENIZER)
    found = attention_roles(explainer, [texts(*rows)], frequencies=frequencies)
    assert found.scores["rare"][0].tolist() == [1, 0, 0, 0]
    assert found.count["rare"] == MIN_TEXTS  # the others have common words alone
    assert found.baseline["rare"] == pytest.approx(1 / 6)
    assert found.mask("rare").tolist() == [[True, False, False, False]]


def test_equally_rare_words_count_alike():
    frequencies = torch.full((600,), 9)
    frequencies[[58, 59]] = 1
    explainer = planted(looks_at(59), looks_at(58), tokenizer=TOKENIZER)
    sums = count_roles(explainer.adapter, [texts([CLS, 58, 59, 11, SEP])], frequencies=frequencies)
    assert sums.mean[sums.roles.index("rare"), 0].tolist() == [1, 1]
    assert sums.chance[sums.roles.index("rare")] == pytest.approx(2 / 5)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_masses_are_those_of_a_slow_loop(name):
    explainer = Explainer(tiny_model(name), None)
    explainer.adapter.tokenizer = TOKENIZER
    explainer.adapter._special_ids = torch.tensor([0, CLS, SEP])
    rows = some(6)
    sums = count_roles(explainer.adapter, [texts(*rows)])
    for role in MASSES:
        expected, n = torch.zeros(3, 4, dtype=torch.float64), 0
        for tokens in rows:
            value = slow_mass(explainer, tokens, role.id)
            n += value is not None
            expected += 0 if value is None else value
        index = sums.roles.index(role.id)
        assert sums.texts[index] == n
        torch.testing.assert_close(sums.total[index], expected, rtol=0, atol=1e-10)


RULES = {
    "previous": lambda t, i, j: j == i - 1,
    "next": lambda t, i, j: j == i + 1,
    "self": lambda t, i, j: i == j,
    "sink:cls": lambda t, i, j: t[j] == CLS,
    "sink:sep": lambda t, i, j: t[j] == SEP,
    "sep:from_sep": lambda t, i, j: t[j] == SEP == t[i],
    "sep:from_others": lambda t, i, j: t[j] == SEP != t[i],
    "sink:punct": lambda t, i, j: t[j] in (COMMA, FULL_STOP),
    "match": lambda t, i, j: i != j and t[i] == t[j] > FULL_STOP,
}


def slow_mass(explainer, tokens, role):
    """[L, H], or None where no row has a key."""
    causal = explainer.adapter.causal
    if role == "sink:bos" and not causal:
        return None
    rule = RULES.get(role, lambda t, i, j: j == 0)
    with torch.no_grad():
        attention = torch.stack(explainer.adapter.attentions(inputs_of(tokens)))[:, 0]
    rows = []
    for i in range(1 if causal else 0, len(tokens)):  # the first row of a decoder has no choice
        keys = [j for j in range(i + 1 if causal else len(tokens)) if rule(tokens, i, j)]
        if keys:
            rows.append(attention[:, :, i, keys].sum(-1))
    return torch.stack(rows).mean(0) if rows else None


def inputs_of(tokens):
    from attribution.model.inputs import Inputs

    return Inputs.of(torch.tensor([tokens]))


def test_neither_batches_nor_order_nor_padding_matter():
    explainer = Explainer(tiny_model("bert"), None)
    explainer.adapter.tokenizer = TOKENIZER
    explainer.adapter._special_ids = torch.tensor([0, CLS, SEP])
    rows, frequencies = some(9), torch.arange(1000)
    whole = count_roles(explainer.adapter, [texts(*rows)], frequencies=frequencies)
    turned = rows[::-1]
    parts = [texts(*turned[:4], width=20, side="left"), *(texts(row) for row in turned[4:])]
    found = count_roles(explainer.adapter, parts, frequencies=frequencies)
    assert torch.equal(found.texts, whole.texts)
    assert whole.texts.min() >= 0
    for name in ("total", "squares", "even"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=0, atol=1e-11)


def test_intervals_are_of_the_mean_over_texts():
    explainer = Explainer(tiny_model("bert"), None)
    explainer.adapter.tokenizer = TOKENIZER
    rows = some(12)
    each = torch.stack([count_roles(explainer.adapter, [texts(row)]).mean for row in rows])
    found = attention_roles(explainer, [texts(*rows)])
    index = [role.id for role in (*MASSES, *ROWS)].index("next")
    half = 1.959963984540054 * each[:, index].std(0) / len(rows) ** 0.5
    torch.testing.assert_close(found.interval["next"][..., 1] - found.scores["next"], half)
    torch.testing.assert_close(found.scores["next"] - found.interval["next"][..., 0], half)


def test_match_has_to_beat_random_models_where_they_are_known():
    rows = some()
    count = lambda *heads: count_roles(planted(*heads, tokenizer=TOKENIZER).adapter, [texts(*rows)])  # noqa: E731
    own = count(match, even)
    assert role_scores(own).selected["match"].tolist() == [[True, False]]
    assert role_scores(own, random=[count(even, even)]).selected["match"].tolist() == [[True, False]]
    assert not role_scores(own, random=[count(even, match)]).selected["match"].any()  # mean + 3 std is above 1


def test_too_few_texts_select_nothing():
    explainer = planted(at(-1), tokenizer=TOKENIZER)
    assert not attention_roles(explainer, [texts(*some(MIN_TEXTS - 1))]).mask().any()
    assert attention_roles(explainer, [texts(*some(MIN_TEXTS))]).mask("previous").all()


def test_a_report_selects_nothing():
    explainer = planted(to(9), tokenizer=TOKENIZER)
    found = attention_roles(explainer, [texts([CLS, SEP, 6])], report=[texts(*[[CLS, 9, SEP]] * MIN_TEXTS)])
    assert found.report["sink:sep"].tolist() == [[0]]
    assert found.scores["sink:sep"].tolist() == [[pytest.approx(1 / 3)]]
    assert found.count["sink:sep"] == 1


def test_there_has_to_be_text():
    with pytest.raises(InputError, match="give at least one batch"):
        attention_roles(planted(even), [])


def induct(ids):
    before = torch.nn.functional.pad(ids, (1, -1), value=-1)
    hit = (ids[:, None] == before[None]).tril()
    return torch.where(hit.any(1, keepdim=True), hit, True)


def test_induction_is_found_in_decoders_alone():
    explainer = planted(induct, at(-1), even, causal=True)
    found = induction_heads(explainer, sequences=MIN_TEXTS, length=9)
    assert found.scores["induction"][0, 0] == pytest.approx(1, abs=1e-12)
    assert found.mask("induction").tolist() == [[True, False, False]]
    with pytest.raises(InputError, match="induction is for decoders"):
        induction_heads(planted(even))


def test_induction_sequences_repeat_different_tokens():
    seen = []
    explainer = planted(even, causal=True)
    read = explainer.adapter.attentions
    explainer.adapter.attentions = lambda inputs: [seen.append(inputs.input_ids), read(inputs)][1]
    explainer.adapter.start_id = 3
    sums = count_induction(explainer.adapter, sequences=10, length=12, seed=1)
    ids = torch.cat(seen)
    assert ids.shape == (10, 25)
    assert (ids[:, 0] == 3).all()
    assert torch.equal(ids[:, 1:13], ids[:, 13:])
    assert all(len(set(row)) == 12 for row in ids[:, 1:13].tolist())
    assert not torch.isin(ids[:, 1:], torch.tensor([0, 3])).any()
    # An even row at place t gives its one key 1 / (t + 1); rows of the second half count.
    assert float(sums.chance) == pytest.approx(sum(1 / (t + 1) for t in range(13, 25)) / 12)


def test_random_decoders_have_none():
    assert not induction_heads(Explainer(tiny_model("gpt2"))).mask().any()


def test_kinds_of_tokens_of_byte_level_vocabularies():
    vocabulary = {"Ġ.": 0, ",": 1, "Ġa": 2, "##b": 3, "Ġ12": 4, "...": 5, "▁": 6, "É": 7}
    kinds = TokenKinds.of(SimpleNamespace(get_vocab=lambda: vocabulary, cls_token_id=None, sep_token_id=9))
    assert kinds.punctuation.tolist() == [0, 1]
    assert kinds.without_letters.tolist() == [0, 1, 4, 5, 6]
    assert kinds.opening.tolist() == []
    assert kinds.separators.tolist() == [9]


def test_every_role_has_a_source():
    assert all(role.source for role in ROLES.values())
