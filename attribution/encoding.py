"""From texts to model inputs, and from scores back to texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Encoding
from torch import Tensor
from transformers import BatchEncoding

from attribution.errors import InputError
from attribution.explanation import Explanation
from attribution.model.adapter import ModelAdapter
from attribution.model.inputs import Inputs
from attribution.targets import Target, TargetLike, as_target, parts, token_columns
from attribution.words import AGGREGATIONS, aggregate, join_fields, sentence_ids, token_word_ids, words_of

LEVELS = ("token", "word", "sentence")


@dataclass(frozen=True)
class Tokenized:
    """Texts as a right-padded batch, with what leads back to the texts."""

    texts: list[tuple[str, str | None]]
    inputs: Inputs
    tokens: list[list[str]]
    word_ids: list[list[int]]  # -1 for special tokens
    fields: list[list[int]]  # 0 text, 1 text_b, -1 special tokens
    offsets: list[list[tuple[int, int]]]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(tokens) for tokens in self.tokens]


def tokenize(adapter: ModelAdapter, texts: Sequence[str | tuple[str, str]], max_length: int | None) -> Tokenized:
    """Tokenize texts or pairs of texts; anything past `max_length` is cut off, None: nothing is."""
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
        truncation=max_length is not None and ("only_second" if adapter.is_qa else "longest_first"),
        max_length=max_length,
        verbose=False,  # about texts that are longer than the model takes
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    inputs = _padded(encoded, adapter.pad_id or 0)
    rows = [(pairs[i], encoding, int(n)) for i, (encoding, n) in enumerate(_lengths(encoded, inputs))]
    words = [_word_ids(pair, encoding) for pair, encoding, _ in rows]
    sentences = [sentence_ids(_fields(encoding), encoding.offsets, pair) for pair, encoding, _ in rows]
    fields = _rows([_fields(encoding) for _, encoding, _ in rows], -1)
    units = {"word_ids": join_fields(_rows(words, -1), fields), "sentence_ids": _rows(sentences, -1)}
    return Tokenized(
        pairs,
        replace(inputs, **units),
        [encoding.tokens[:n] for _, encoding, n in rows],
        [ids[:n] for ids, (_, _, n) in zip(words, rows, strict=True)],
        [_fields(encoding)[:n] for _, encoding, n in rows],
        [encoding.offsets[:n] for _, encoding, n in rows],
    )


def _padded(encoded: BatchEncoding, pad_id: int) -> Inputs:
    """Rows padded on the right; many decoders have no padding token, so their tokenizers would refuse to."""
    fill = {"input_ids": pad_id, "special_tokens_mask": 1}
    fields = {name: rows for name, rows in encoded.items() if name != "offset_mapping"}
    return Inputs.from_mapping({name: _rows(rows, fill.get(name, 0)) for name, rows in fields.items()})


def _rows(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of different length as [B, N]."""
    width = max(len(row) for row in rows)
    return torch.stack([F.pad(torch.tensor(row), (0, width - len(row)), value=fill) for row in rows])


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
    batch: Tokenized,
    scores: Tensor,
    results: Sequence[Mapping[str, Any]],
    *,
    method: str,
    params: dict[str, Any],
    level: str,
    aggregation: str = "sum",
) -> list[Explanation]:
    """One `Explanation` per row of `scores` [B, N]; `results`: what else is known of each."""
    if level not in LEVELS:
        raise InputError(f"level={level} is unknown; choices: {', '.join(LEVELS)}")
    if aggregation not in AGGREGATIONS:
        raise InputError(f"aggregation={aggregation} is unknown; choices: {', '.join(AGGREGATIONS)}")
    made = []
    for i, (text, text_b) in enumerate(batch.texts):
        tokens, word_ids, offsets, values = _units(batch, i, scores[i].tolist(), level, aggregation)
        made.append(Explanation(text, tokens, word_ids, offsets, values, method, params, text_b=text_b, **results[i]))
    return made


def results_of(adapter: ModelAdapter, inputs: Inputs, target: TargetLike) -> list[dict[str, Any]]:
    """Per row what was explained, what the model predicts, and probabilities."""
    visible, position = inputs.attention_mask.bool(), adapter.read_out(inputs)
    if not adapter.is_generative:
        return read_results(adapter, adapter.logits(inputs).cpu(), visible, target)
    predicted_target = Target("predicted", position=as_target(target, adapter.task).position)
    columns = token_columns([target], visible, position, adapter.task)
    logits = adapter.logits(inputs, columns).cpu()
    (explained,) = parts(target, logits, visible, position, columns=columns, task=adapter.task)
    (best,) = parts(predicted_target, logits, visible, position, columns=columns, task=adapter.task)
    chosen = logits[:, 0].float().softmax(1).gather(1, torch.stack((best.index, explained.index), 1))
    return _described([explained.index], [best.index], chosen.tolist())


def read_results(adapter: ModelAdapter, logits: Tensor, visible: Tensor, target: TargetLike) -> list[dict[str, Any]]:
    """The same from logits [B, C], or [B, N, 2] with visible [B, N]."""
    nowhere = torch.zeros(len(logits), dtype=torch.long)
    explained = [part.index for part in parts(target, logits, visible, nowhere)]
    best = [part.index for part in parts(None, logits, visible, nowhere)]
    return _described(explained, best, _probabilities(logits, visible, _indices(best), independent=adapter.multi_label))


def _described(explained: list[Tensor], best: list[Tensor], probabilities: list[list[float]]) -> list[dict[str, Any]]:
    rows = zip(_indices(explained), _indices(best), probabilities, strict=True)
    return [{"target": goal, "prediction": guess, "probabilities": p} for goal, guess, p in rows]


def _units(
    batch: Tokenized, row: int, scores: list[float], level: str, aggregation: str
) -> tuple[list[str], list[int], list[tuple[int, int]], list[float]]:
    """Tokens, word ids, offsets and scores of a row, or the same of its words or sentences."""
    tokens, offsets, ids = batch.tokens[row], batch.offsets[row], batch.word_ids[row]
    if level == "token":
        return tokens, ids, offsets, scores[: len(tokens)]
    units: list[tuple[str, int, tuple[int, int], float]] = []
    values = torch.tensor(scores[: len(ids)], dtype=torch.float64)
    ids = sentence_ids(batch.fields[row], offsets, batch.texts[row]) if level == "sentence" else ids
    for field, text in enumerate(batch.texts[row]):
        if text is None:
            continue
        inside = [word if batch.fields[row][i] == field else -1 for i, word in enumerate(ids)]
        totals = aggregate(values, torch.tensor(inside), aggregation).tolist()
        for word in words_of(inside, offsets, text):
            own = inside[word.tokens[0]]
            units.append((word.text, own, (word.start, word.end), totals[own]))
    names, words, spans, sums = zip(*units, strict=True) if units else ((), (), (), ())
    return list(names), list(words), list(spans), list(sums)


def _indices(columns: list[Tensor]) -> list[Any]:
    rows = torch.stack(columns, 1).tolist()
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


def _probabilities(logits: Tensor, visible: Tensor, predicted: list[Any], *, independent: bool) -> list[list[float]]:
    """[C] per row, or those of the predicted start and end."""
    if logits.ndim == 2:
        wide = logits.float()
        return [[float(p) for p in row] for row in (wide.sigmoid() if independent else wide.softmax(1))]
    ends = logits.float().masked_fill(~visible[..., None], -torch.inf).softmax(1)
    return [[float(ends[i, start, 0]), float(ends[i, end, 1])] for i, (start, end) in enumerate(predicted)]
