"""From texts to model inputs, and from scores back to texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Encoding
from torch import Tensor
from transformers import BatchEncoding

from attribution.errors import InputError
from attribution.explanation import Explanation
from attribution.model.adapter import ModelAdapter
from attribution.model.inputs import Inputs
from attribution.targets import TargetLike, parts
from attribution.words import join_fields, sentence_ids, token_word_ids, words_of

LEVELS = ("token", "word")


@dataclass(frozen=True)
class Tokenized:
    """Texts as a right-padded batch, with what leads back to the texts."""

    texts: list[tuple[str, str | None]]
    inputs: Inputs
    tokens: list[list[str]]
    word_ids: list[list[int]]  # -1 for special tokens
    fields: list[list[int]]  # 0 text, 1 text_b, -1 special tokens
    offsets: list[list[tuple[int, int]]]


def tokenize(adapter: ModelAdapter, texts: Sequence[str | tuple[str, str]], max_length: int | None) -> Tokenized:
    """Tokenize texts or pairs of texts; anything past `max_length` (default: what the model takes) is cut off."""
    tokenizer = adapter.tokenizer
    if tokenizer is None or not tokenizer.is_fast:
        raise InputError("explain needs a fast tokenizer; Explainer(model, tokenizer)")
    pairs: list[tuple[str, str | None]] = [(t, None) if isinstance(t, str) else (t[0], t[1]) for t in texts]
    if not pairs:
        raise InputError("explain needs at least one text")
    second = [pair[1] for pair in pairs]
    encoded = tokenizer(
        [pair[0] for pair in pairs],
        second if second[0] is not None else None,
        truncation="only_second" if adapter.is_qa else "longest_first",
        max_length=max_length or adapter.max_length,
        padding=True,
        padding_side="right",
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    )
    inputs = Inputs.from_mapping(encoded)
    rows = [(pairs[i], encoding, int(n)) for i, (encoding, n) in enumerate(_lengths(encoded, inputs))]
    words = [_word_ids(pair, encoding) for pair, encoding, _ in rows]
    sentences = [sentence_ids(_fields(encoding), encoding.offsets, pair) for pair, encoding, _ in rows]
    fields = torch.tensor([_fields(encoding) for _, encoding, _ in rows])
    units = {"word_ids": join_fields(torch.tensor(words), fields), "sentence_ids": torch.tensor(sentences)}
    return Tokenized(
        pairs,
        replace(inputs, **units),
        [encoding.tokens[:n] for _, encoding, n in rows],
        [ids[:n] for ids, (_, _, n) in zip(words, rows, strict=True)],
        [_fields(encoding)[:n] for _, encoding, n in rows],
        [encoding.offsets[:n] for _, encoding, n in rows],
    )


def _lengths(encoded: BatchEncoding, inputs: Inputs) -> Iterator[tuple[Encoding, int]]:
    return zip(encoded.encodings, inputs.attention_mask.sum(1).tolist(), strict=True)


def _fields(encoding: Encoding) -> list[int]:
    return [-1 if field is None else field for field in encoding.sequence_ids]


def _word_ids(pair: tuple[str, str | None], encoding: Encoding) -> list[int]:
    """Word of each token in its own field, -1 for special tokens."""
    ids, fields = [-1] * len(encoding), _fields(encoding)
    for field, text in enumerate(pair):
        if text is not None:
            own = [word if at == field else None for word, at in zip(encoding.word_ids, fields, strict=True)]
            found = token_word_ids(own, encoding.offsets, text)
            ids = [new if at == field else old for new, old, at in zip(found, ids, fields, strict=True)]
    return ids


def explanations_of(
    adapter: ModelAdapter,
    batch: Tokenized,
    scores: Tensor,
    *,
    method: str,
    params: dict[str, Any],
    target: TargetLike,
    level: str,
) -> list[Explanation]:
    """One `Explanation` per row of `scores` [B, N]."""
    if level not in LEVELS:
        raise InputError(f"level={level} is unknown; choices: {', '.join(LEVELS)}")
    logits = adapter.logits(batch.inputs).cpu()
    visible = batch.inputs.attention_mask.bool()
    position = adapter.read_out(batch.inputs)
    explained = _indices([part.index for part in parts(target, logits, visible, position)])
    predicted = _indices([part.index for part in parts(None, logits, visible, position)])
    probabilities = _probabilities(logits, visible, predicted)
    made = []
    for i, (text, text_b) in enumerate(batch.texts):
        tokens, word_ids, offsets, values = _units(batch, i, scores[i].tolist(), level)
        result = {"target": explained[i], "prediction": predicted[i], "probabilities": probabilities[i]}
        made.append(Explanation(text, tokens, word_ids, offsets, values, method, params, text_b=text_b, **result))
    return made


def _units(
    batch: Tokenized, row: int, scores: list[float], level: str
) -> tuple[list[str], list[int], list[tuple[int, int]], list[float]]:
    """Tokens, word ids, offsets and scores of a row, or the same of its words."""
    tokens, offsets, ids = batch.tokens[row], batch.offsets[row], batch.word_ids[row]
    if level == "token":
        return tokens, ids, offsets, scores[: len(tokens)]
    units: list[tuple[str, int, tuple[int, int], float]] = []
    for field, text in enumerate(batch.texts[row]):
        if text is None:
            continue
        inside = [word if batch.fields[row][i] == field else -1 for i, word in enumerate(ids)]
        for word in words_of(inside, offsets, text):
            total = sum(scores[i] for i in word.tokens)
            units.append((word.text, ids[word.tokens[0]], (word.start, word.end), total))
    names, words, spans, totals = zip(*units, strict=True) if units else ((), (), (), ())
    return list(names), list(words), list(spans), list(totals)


def _indices(columns: list[Tensor]) -> list[Any]:
    rows = torch.stack(columns, 1).tolist()
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


def _probabilities(logits: Tensor, visible: Tensor, predicted: list[Any]) -> list[list[float]]:
    """[C] per row, or those of the predicted start and end."""
    if logits.ndim == 2:
        return [[float(p) for p in row] for row in logits.float().softmax(1)]
    ends = logits.float().masked_fill(~visible[..., None], -torch.inf).softmax(1)
    return [[float(ends[i, start, 0]), float(ends[i, end, 1])] for i, (start, end) in enumerate(predicted)]
