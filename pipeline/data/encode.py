"""From examples to the `examples` table: tokens, where each stands in the text, and what people said about them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from attribution.errors import InputError
from attribution.windows import Windows
from pipeline.config import Config, DatasetConfig
from pipeline.data.examples import Dataset, Example, Span
from pipeline.data.filters import draw, nothing_left
from pipeline.data.labels import map_labels
from pipeline.keys import digest
from pipeline.schemas import EXAMPLES

CHUNK = 1000  # examples tokenised at once
UNLIMITED = 10**9  # tokenizers without a limit of their own say 10**30
_NOTES = b"headlight_notes"


@dataclass(frozen=True)
class Window:
    """Some columns of an encoding, as an encoding."""

    of: Encoding
    columns: Sequence[int]
    number: int

    def __getattr__(self, name: str) -> list[Any]:
        every = getattr(self.of, name)
        return [every[column] for column in self.columns]


@dataclass(frozen=True)
class Encoded:
    """One example with its tokens. `offsets` are characters of the token's field, without the space before a word."""

    example: Example
    encoding: Encoding | Window
    full_length: int  # tokens before truncation, specials counted

    def __len__(self) -> int:
        return len(self.encoding.ids)

    @property
    def truncated(self) -> int:
        """How many tokens were cut off."""
        return self.full_length - len(self)

    @cached_property
    def fields(self) -> list[int]:
        """0 for the text, 1 for the second text, -1 for special tokens."""
        return [-1 if field is None else field for field in self.encoding.sequence_ids]

    @cached_property
    def offsets(self) -> list[Span]:
        """Characters of each token in its field."""
        texts = (self.example.text, self.example.text_b or "")
        pairs = zip(self.fields, self.encoding.offsets, strict=True)
        return [span if field < 0 else _without_space(texts[field], span) for field, span in pairs]


def encode(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    *,
    model_labels: Mapping[int, str],
    max_length: int | None = None,
) -> pa.Table:
    """The `EXAMPLES` table of a data set, in its order. `encoding_notes` tells what was cut and left out.

    `max_length` is what the model takes; `model.max_length` may lower it. With `dataset.long_texts=windows` a text that
    is longer has a row for each window. Raises `InputError` where a label is none of `model_labels`, or nothing is
    left.
    """
    length = length_limit(tokenizer, config, max_length)
    windows = config.dataset.long_texts == "windows"
    kept, notes = _kept(dataset, tokenizer, config, UNLIMITED if windows else length)
    cut = [_cut_up(row, length, config.dataset.stride) for row in kept]
    rows = _rows(cut, dataset, _classes(dataset, config, model_labels), tokenizer)
    notes += [*_truncation(kept, length), *_windows(cut, length)]
    notes += [] if windows else _lost_answers(rows, dataset)
    return noted(rows, notes)


def encode_whole(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: Config, *, model_labels: Mapping[int, str]
) -> pa.Table:
    """The texts of such a table as a table of their own, each whole, however long."""
    kept, _ = _kept(dataset, tokenizer, config, UNLIMITED)
    return noted(_rows([[row] for row in kept], dataset, _classes(dataset, config, model_labels), tokenizer), [])


def _kept(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: Config, length: int
) -> tuple[list[Encoded], list[str]]:
    everything = list(_tokenize(dataset.examples, tokenizer, length, config.dataset.truncate))
    return _long_enough(everything, config.dataset)


def _classes(dataset: Dataset, config: Config, model_labels: Mapping[int, str]) -> Mapping[str | int, int]:
    labels = (example.label for example in dataset.examples)
    return map_labels(labels, dataset.label_names, model_labels, config.model.label_map)


def _cut_up(encoded: Encoded, length: int, stride: int | None) -> list[Encoded]:
    """The example by itself, or its windows where it is longer."""
    if len(encoded) <= length:
        return [encoded]
    try:
        windows = Windows.of(encoded.fields, length, stride)
    except InputError as error:
        raise InputError(f"conf error: dataset.{error}") from error
    assert isinstance(encoded.encoding, Encoding), "a window is not cut up again"
    parts = (Window(encoded.encoding, columns, number) for number, columns in enumerate(windows.columns))
    return [replace(encoded, encoding=part, full_length=len(part.columns)) for part in parts]


def noted(rows: list[dict[str, Any]], notes: Sequence[str]) -> pa.Table:
    """The table of these rows, and notes that `encoding_notes` gives back."""
    table = pa.Table.from_pylist(rows, schema=EXAMPLES)
    return table.replace_schema_metadata({_NOTES: json.dumps(list(notes)).encode()})


def encoding_notes(table: pa.Table) -> list[str]:
    """What `encode` cut or left out, in sentences."""
    notes: list[str] = json.loads((table.schema.metadata or {}).get(_NOTES, b"[]"))
    return notes


def length_limit(tokenizer: PreTrainedTokenizerBase, config: Config, max_length: int | None) -> int:
    """The most tokens a row has: what model and tokenizer take, or what is configured."""
    if not tokenizer.is_fast:
        raise InputError(
            f"conf error: the tokenizer of the model ({type(tokenizer).__name__}) has no fast version "
            f"(tokenizer.json), which knows where each token stands in the text; save one with the model."
        )
    limits = (config.model.max_length, max_length, tokenizer.model_max_length)
    length = min(int(limit) for limit in limits if limit is not None)
    if length >= UNLIMITED:
        raise InputError(
            "conf error: neither model nor tokenizer says how many tokens fit; set model.max_length=<tokens>."
        )
    return length


def _tokenize(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int, strategy: str
) -> Iterator[Encoded]:
    """Every example with its tokens; only those too long are tokenised a second time, to be cut."""
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        whole = _encodings(chunk, tokenizer)
        long = [i for i, encoding in enumerate(whole) if len(encoding.ids) > max_length]
        cut = dict(zip(long, _cut([chunk[i] for i in long], tokenizer, max_length, strategy), strict=True))
        for i, (example, encoding) in enumerate(zip(chunk, whole, strict=True)):
            yield Encoded(example, cut.get(i, encoding), len(encoding.ids))


def _cut(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, length: int, strategy: str) -> list[Encoding]:
    if not examples:
        return []
    if strategy not in ("longest_first", "only_second"):
        raise InputError(f"conf error: dataset.truncate={strategy}; choose longest_first or only_second.")
    single = examples[0].text_b is None
    try:
        return _encodings(examples, tokenizer, truncation="longest_first" if single else strategy, max_length=length)
    except Exception as error:  # the tokenizers library raises nothing more specific
        if "Truncation error" not in str(error):
            raise
        raise InputError(
            f"conf error: dataset.truncate={strategy} cannot bring a pair down to {length} tokens, because its first "
            f"text alone is longer; use dataset.truncate=longest_first or a larger model.max_length."
        ) from error


def _encodings(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, **truncation: Any) -> list[Encoding]:
    pairs = [e.text_b for e in examples] if examples[0].text_b is not None else None
    batch = tokenizer([e.text for e in examples], pairs, verbose=False, padding=False, **truncation)
    encodings: list[Encoding] = batch.encodings
    return encodings


def _without_space(text: str, span: Span) -> Span:
    """Byte-level tokens count the space before a word as theirs; readers do not."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    return start, end


def _long_enough(everything: Sequence[Encoded], config: DatasetConfig) -> tuple[list[Encoded], list[str]]:
    """Examples of at least `min_tokens` tokens of which at least one is not special; of these those to be used."""
    readable = [row for row in everything if max(row.fields, default=-1) >= 0]
    kept = [row for row in readable if len(row) >= config.min_tokens]
    reasons = {
        "the tokenizer finds no token in their text": len(everything) - len(readable),
        f"fewer than dataset.min_tokens={config.min_tokens} tokens": len(readable) - len(kept),
    }
    notes = [f"{n} of {len(everything)} examples left out: {reason}" for reason, n in reasons.items() if n]
    if not kept:
        raise InputError(nothing_left(config, notes))
    return ([kept[i] for i in draw([row.example for row in kept], config)] if config.min_tokens else kept), notes


def _rows(
    kept: Iterable[Sequence[Encoded]],
    dataset: Dataset,
    classes: Mapping[str | int, int],
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict[str, Any]]:
    """A row for each text, or for each of its windows."""
    copies: Counter[str] = Counter()
    has_types = "token_type_ids" in tokenizer.model_input_names
    rows = []
    for parts in kept:
        encodings = [part.encoding for part in parts]
        text = encodings[0].of if isinstance(encodings[0], Window) else encodings[0]
        text_id = _item_id(parts[0].example, text.ids, copies)
        for part in parts:
            row = _row(part, dataset, classes, has_types)
            if isinstance(part.encoding, Window):
                window = {"text_id": text_id, "window": part.encoding.number}
                rows.append({"item_id": _item_id(part.example, [text_id, *part.encoding.ids], copies), **row, **window})
            else:
                rows.append({"item_id": text_id, **row})
    return rows


def _item_id(example: Example, ids: Sequence[Any], copies: Counter[str]) -> str:
    """Digest of content and tokens; of copies too, so that ids stay unique."""
    content = digest([*example.content(), str(ids)])  # one string: quicker than many numbers
    copies[content] += 1
    return content if copies[content] == 1 else digest([content, copies[content]])


def _row(encoded: Encoded, dataset: Dataset, classes: Mapping[str | int, int], has_types: bool) -> dict[str, Any]:
    example, encoding = encoded.example, encoded.encoding
    answer = _answer_tokens(encoded)
    return {
        "row_index": example.row_index,
        "text": example.text,
        "text_b": example.text_b,
        "label": None if example.label is None else classes[example.label],
        "label_name": dataset.label_name(example.label),
        "input_ids": encoding.ids,
        "token_type_ids": encoding.type_ids if has_types else None,
        "special_tokens": [bool(special) for special in encoding.special_tokens_mask],
        "tokens": encoding.tokens,
        "offsets": [{"start": start, "end": end} for start, end in encoded.offsets],
        "word_ids": [-1 if word is None else word for word in encoding.word_ids],
        "field_ids": encoded.fields,
        "truncated": encoded.truncated,
        "answer_start": answer[0] if answer else None,
        "answer_end": answer[1] if answer else None,
        "rationale": _rationale(encoded, int(dataset.task == "question_answering")),
    }


def _answer_tokens(encoded: Encoded) -> tuple[int, int] | None:
    """First and last token (inclusive) of the first gold answer that lies wholly in the tokens kept."""
    kept = {i: span for i, span in enumerate(encoded.offsets) if encoded.fields[i] == 1}
    window = (min((s for s, _ in kept.values()), default=0), max((e for _, e in kept.values()), default=0))
    for start, text in encoded.example.answers or ():
        inside = window[0] <= start and start + len(text.rstrip()) <= window[1]
        tokens = [i for i, span in kept.items() if _overlap(span, (start, start + len(text)))]
        if inside and tokens:
            return tokens[0], tokens[-1]
    return None


def _overlap(a: Span, b: Span) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def _rationale(encoded: Encoded, field: int) -> list[bool] | None:
    """A token is marked if at least half of its characters are."""
    spans = encoded.example.rationale
    if spans is None:
        return None
    marked = {char for start, end in spans for char in range(start, end)}
    return [
        of == field and end > start and 2 * sum(char in marked for char in range(start, end)) >= end - start
        for of, (start, end) in zip(encoded.fields, encoded.offsets, strict=True)
    ]


def _truncation(kept: Sequence[Encoded], length: int) -> list[str]:
    cut = [row.truncated for row in kept if row.truncated]
    if not cut:
        return []
    share = sum(cut) / sum(row.full_length for row in kept)
    return [
        f"{len(cut)} of {len(kept)} examples truncated to {length} tokens, {sum(cut)} tokens cut off "
        f"({share:.1%} of all; dataset.long_texts=windows explains them whole)"
    ]


def _windows(cut: Sequence[Sequence[Encoded]], length: int) -> list[str]:
    counts = [len(parts) for parts in cut if len(parts) > 1]
    if not counts:
        return []
    return [f"{len(counts)} of {len(cut)} examples are longer than {length} tokens: explained in {sum(counts)} windows"]


def _lost_answers(rows: Sequence[Mapping[str, Any]], dataset: Dataset) -> list[str]:
    answerable = {example.row_index for example in dataset.examples if example.answers}
    lost = sum(row["answer_start"] is None and row["row_index"] in answerable for row in rows)
    return [f"{lost} of {len(rows)} questions have no gold answer within the tokens kept"] if lost else []
