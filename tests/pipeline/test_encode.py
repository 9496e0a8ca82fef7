"""The `examples` table: tokens, their place in the text, labels, answers, rationales, and what was cut."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from attribution.errors import InputError
from pipeline.config import Config, DatasetConfig, HeadsConfig, ModelConfig
from pipeline.data import Dataset, Example
from pipeline.data.encode import encode, encoding_notes
from pipeline.schemas import EXAMPLES

SENTENCES = "a gripping film that is not bad who wrote it ? the book was by ann lee , un ##even and ##ly naive"
SENTIMENT = {0: "negative", 1: "positive"}


@pytest.fixture(scope="module")
def tiny_wordpiece() -> PreTrainedTokenizerBase:
    """BERT's kind: words and pieces, segment ids."""
    vocabulary = {
        token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SENTENCES.split()])
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    named = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **named)


@pytest.fixture(scope="module")
def tiny_bytes() -> PreTrainedTokenizerBase:
    """RoBERTa's kind: bytes with the space before a word, no segment ids; spaces are not trimmed from offsets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a gripping film", "not bad", "naïve 👍 film"] * 20, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=False)
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, pad_token="<pad>", model_max_length=64
    )


def dataset(*examples: Example, names: list[str] | None = None) -> Dataset:
    answered = any(example.answers is not None for example in examples)
    return Dataset("made", "question_answering" if answered else "classification", examples, names, "f", [])


def config(max_length: int | None = None, **settings: Any) -> Config:
    model = ModelConfig(source="local", max_length=max_length)
    return Config(model=model, dataset=DatasetConfig(source="local", **settings), heads=HeadsConfig())


def rows(table: pa.Table) -> list[dict[str, Any]]:
    assert table.schema.equals(EXAMPLES)
    return table.to_pylist()


def spans(row: dict[str, Any]) -> list[str]:
    """The text of every token, read through its offsets."""
    fields = {0: row["text"], 1: row["text_b"], -1: ""}
    pairs = zip(row["field_ids"], row["offsets"], strict=True)
    return [fields[field][offset["start"] : offset["end"]] for field, offset in pairs]


def test_single_text(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    (row,) = rows(
        encode(dataset(Example(4, "A gripping, naïve film", label=1)), tiny_wordpiece, config(), model_labels=SENTIMENT)
    )
    assert row["tokens"] == ["[CLS]", "a", "gripping", ",", "naive", "film", "[SEP]"]
    assert row["input_ids"] == tiny_wordpiece.convert_tokens_to_ids(row["tokens"])
    assert spans(row) == ["", "A", "gripping", ",", "naïve", "film", ""]
    assert row["word_ids"] == [-1, 0, 1, 2, 3, 4, -1]
    assert row["special_tokens"] == [True, False, False, False, False, False, True]
    assert (row["row_index"], row["label"], row["label_name"], row["truncated"]) == (4, 1, "1", 0)
    assert row["token_type_ids"] == [0] * 7
    assert row["text_b"] is row["answer_start"] is row["answer_end"] is row["rationale"] is None


def test_pair(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    (row,) = rows(encode(dataset(Example(0, "the film", "the uneven book")), tiny_wordpiece, config(), model_labels={}))
    assert row["tokens"] == ["[CLS]", "the", "film", "[SEP]", "the", "un", "##even", "book", "[SEP]"]
    assert row["field_ids"] == [-1, 0, 0, -1, 1, 1, 1, 1, -1]
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert row["word_ids"] == [-1, 0, 1, -1, 0, 1, 1, 2, -1]
    assert spans(row) == ["", "the", "film", "", "the", "un", "even", "book", ""]


def test_byte_level_offsets_leave_out_the_space(tiny_bytes: PreTrainedTokenizerBase) -> None:
    (row,) = rows(encode(dataset(Example(0, "a  gripping film")), tiny_bytes, config(), model_labels={}))
    assert "".join(spans(row)) == "agrippingfilm"
    assert row["token_type_ids"] is None
    assert "Ġfilm" in row["tokens"]


def test_offsets_count_characters_not_bytes(tiny_bytes: PreTrainedTokenizerBase) -> None:
    (row,) = rows(encode(dataset(Example(0, "naïve 👍 film")), tiny_bytes, config(), model_labels={}))
    assert spans(row)[-2] == "film"


def test_labels_and_their_names(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    made = dataset(Example(0, "bad", label=0), Example(1, "film", label=1), Example(2, "it"), names=["pos", "neg"])
    found = rows(encode(made, tiny_wordpiece, config(), model_labels=SENTIMENT))
    assert [(row["label"], row["label_name"]) for row in found] == [(1, "pos"), (0, "neg"), (None, None)]


def test_label_map_of_the_configuration_comes_first(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    settings = config()
    settings.model.label_map = {"0": "positive"}
    (row,) = rows(encode(dataset(Example(0, "film", label=0)), tiny_wordpiece, settings, model_labels=SENTIMENT))
    assert row["label"] == 1


def test_label_outside_the_classes(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    with pytest.raises(
        InputError, match="label 5 of the data set is none of the model's classes 0=negative, 1=positive"
    ):
        encode(dataset(Example(0, "film", label=5)), tiny_wordpiece, config(), model_labels=SENTIMENT)


def test_ten_thousand_tokens_are_cut_counted_and_reported(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    made = dataset(Example(0, "film " * 10_000), Example(1, "a film"))
    table = encode(made, tiny_wordpiece, config(), model_labels={})
    long, short = rows(table)
    assert (len(long["input_ids"]), long["truncated"]) == (64, 10_002 - 64)
    assert long["tokens"][-1] == "[SEP]"
    assert long["text"] == "film " * 10_000
    assert (len(short["input_ids"]), short["truncated"]) == (4, 0)
    assert encoding_notes(table) == [
        "1 of 2 examples truncated to 64 tokens, 9938 tokens cut off "
        "(99.3% of all; dataset.long_texts=windows explains them whole)"
    ]


@pytest.mark.parametrize(
    ("model", "ours", "expected"), [(10, None, 10), (None, 12, 12), (10, 12, 10), (None, None, 64)]
)
def test_the_shortest_limit_counts(
    model: int | None, ours: int | None, expected: int, tiny_wordpiece: PreTrainedTokenizerBase
) -> None:
    made = dataset(Example(0, "film " * 100))
    (row,) = rows(encode(made, tiny_wordpiece, config(ours), model_labels={}, max_length=model))
    assert len(row["input_ids"]) == expected


@pytest.mark.parametrize(("strategy", "first"), [("only_second", 8), ("longest_first", 5)])
def test_which_text_is_cut(strategy: str, first: int, tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    made = dataset(Example(0, "film " * 8, "book " * 8))
    (row,) = rows(encode(made, tiny_wordpiece, config(13, truncate=strategy), model_labels={}))
    assert (row["field_ids"].count(0), row["field_ids"].count(1)) == (first, 10 - first)
    assert row["truncated"] == 19 - 13


def test_first_text_alone_too_long(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match=r"dataset.truncate=only_second cannot bring a pair down to 11 tokens"):
        encode(
            dataset(Example(0, "film " * 20, "book")),
            tiny_wordpiece,
            config(11, truncate="only_second"),
            model_labels={},
        )


def test_single_texts_are_cut_whatever_the_strategy(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    table = encode(
        dataset(Example(0, "film " * 20)), tiny_wordpiece, config(11, truncate="only_second"), model_labels={}
    )
    assert len(rows(table)[0]["input_ids"]) == 11


def test_unknown_strategy(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match=r"dataset.truncate=first; choose longest_first or only_second"):
        encode(dataset(Example(0, "film " * 20)), tiny_wordpiece, config(11, truncate="first"), model_labels={})


def test_short_and_unreadable_examples_are_left_out_and_counted(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    made = dataset(Example(0, "film"), Example(1, "a gripping film"), Example(2, "\u200b"))
    table = encode(made, tiny_wordpiece, config(min_tokens=5), model_labels={})
    assert [row["row_index"] for row in rows(table)] == [1]
    assert encoding_notes(table) == [
        "1 of 3 examples left out: the tokenizer finds no token in their text",
        "1 of 3 examples left out: fewer than dataset.min_tokens=5 tokens",
    ]
    with pytest.raises(InputError, match=r"no examples are left .* fewer than dataset.min_tokens=50"):
        encode(made, tiny_wordpiece, config(min_tokens=50), model_labels={})


def test_the_limit_counts_examples_that_are_long_enough(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    made = dataset(*(Example(i, "film" if i % 2 else "a gripping film") for i in range(8)))

    def used(**options: Any) -> list[int]:
        return [row["row_index"] for row in rows(encode(made, tiny_wordpiece, config(**options), model_labels={}))]

    assert used(min_tokens=5, limit=2) == [0, 2]
    assert used(min_tokens=5, limit=2, skip=1) == [2, 4]
    assert len(drawn := used(min_tokens=5, limit=2, sample_seed=3)) == 2
    assert all(i % 2 == 0 for i in drawn)


CONTEXT = "the naive book was by ann lee , not bad"


def question(*answers: str, context: str = CONTEXT) -> Example:
    return Example(0, "who wrote it ?", context, answers=tuple((context.find(text), text) for text in answers))


def answer(row: dict[str, Any]) -> list[str]:
    return row["tokens"][row["answer_start"] : row["answer_end"] + 1]


@pytest.mark.parametrize("text", ["ann lee", "nn le", "by ann lee ", "the", "bad"])
def test_answer_tokens_are_those_that_overlap_it(text: str, tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    (row,) = rows(encode(dataset(question(text)), tiny_wordpiece, config(), model_labels={}))
    assert answer(row) == {"nn le": ["ann", "lee"]}.get(text, text.split())
    assert row["field_ids"][row["answer_start"]] == 1
    assert row["label"] is None


def test_answer_with_byte_level_tokens(tiny_bytes: PreTrainedTokenizerBase) -> None:
    (row,) = rows(
        encode(dataset(question("film", context="a gripping film not bad")), tiny_bytes, config(), model_labels={})
    )
    assert answer(row) == ["Ġfilm"]


def test_the_first_answer_counts_unless_it_is_cut_off(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    made = dataset(question("not bad", "the naive book"), question("lee ,"), question("ann"))
    whole = encode(made, tiny_wordpiece, config(), model_labels={})
    assert answer(rows(whole)[0]) == ["not", "bad"]
    cut = encode(made, tiny_wordpiece, config(13), model_labels={})  # the context ends after "ann lee"
    first, second, third = rows(cut)
    assert answer(first) == ["the", "naive", "book"]
    assert (second["answer_start"], second["answer_end"]) == (None, None)  # half an answer is none
    assert answer(third) == ["ann"]
    assert encoding_notes(cut)[-1] == "1 of 3 questions have no gold answer within the tokens kept"


def test_unanswerable_questions_do_not_count_as_lost(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    table = encode(dataset(question()), tiny_wordpiece, config(), model_labels={})
    assert rows(table)[0]["answer_start"] is None
    assert encoding_notes(table) == []


@pytest.mark.parametrize(
    ("marked", "tokens"),
    [
        ([(0, 3)], ["not"]),
        ([(0, 6)], ["not", "bad"]),  # two of three letters
        ([(0, 5)], ["not"]),  # one of three
        ([(0, 1), (2, 3)], ["not"]),
        ([(0, 1), (0, 1)], []),  # the same letter twice
        ([], []),
    ],
)
def test_rationale_needs_half_of_a_token(
    marked: list[tuple[int, int]], tokens: list[str], tiny_wordpiece: PreTrainedTokenizerBase
) -> None:
    made = dataset(Example(0, "not bad", rationale=tuple(marked)))
    (row,) = rows(encode(made, tiny_wordpiece, config(), model_labels={}))
    assert [t for t, positive in zip(row["tokens"], row["rationale"], strict=True) if positive] == tokens


def test_rationale_of_a_question_lies_in_the_context(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    made = dataset(Example(0, "who wrote it ?", CONTEXT, answers=((0, "the"),), rationale=((0, 3),)))
    (row,) = rows(encode(made, tiny_wordpiece, config(), model_labels={}))
    assert row["rationale"].index(True) == row["field_ids"].index(1)
    assert sum(row["rationale"]) == 1


def test_ids_follow_the_content_and_are_unique(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    a, b, moved = Example(0, "film", label=1), Example(1, "book", label=1), Example(7, "film", label=1)

    def ids(*examples: Example) -> list[str]:
        table = encode(dataset(*examples), tiny_wordpiece, config(), model_labels=SENTIMENT)
        return table["item_id"].to_pylist()

    assert ids(a, b) == ids(b, moved)[::-1]
    assert len(set(ids(a, moved, b))) == 3
    assert ids(a, moved)[0] == ids(a)[0]
    assert ids(Example(0, "film", label=0)) != ids(a)


def test_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match=r"tokenizer of the model \(Slow\) has no fast version"):
        encode(dataset(Example(0, "film")), Slow(), config(), model_labels={})  # type: ignore[arg-type]


def test_no_limit_anywhere(tiny_wordpiece: PreTrainedTokenizerBase) -> None:
    endless = PreTrainedTokenizerFast(tokenizer_object=tiny_wordpiece.backend_tokenizer, pad_token="[PAD]")
    with pytest.raises(InputError, match=r"set model.max_length=<tokens>"):
        encode(dataset(Example(0, "film")), endless, config(), model_labels={})
