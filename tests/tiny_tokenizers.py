"""Tiny tokenizers of every kind that models come with, made on the spot; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = "An unhappy cat, isn't it?"
CORPUS = [TEXT, "an unhappy dog and a happy cat", "it isn't a cat", "is it an unhappy cat?"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
PIECES = ["▁", "▁An", "▁an", "▁un", "happy", "▁cat", ",", "▁is", "n", "'", "t", "▁it", "?", "."]


def _trained(model: models.Model, trainer: trainers.Trainer, pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    """BERT, DistilBERT, ELECTRA."""
    trainer = trainers.WordPieceTrainer(vocab_size=40, special_tokens=["[UNK]"])
    return _trained(models.WordPiece(unk_token="[UNK]"), trainer, pre_tokenizers.BertPreTokenizer())


def byte_level(*, trim: bool = True) -> Tokenizer:
    """GPT-2, RoBERTa and ModernBERT; RoBERTa trims the space in front from its offsets."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=262, initial_alphabet=alphabet)
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim)
    tokenizer = _trained(models.BPE(), trainer, pre_tokenizer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    return tokenizer


def llama3() -> Tokenizer:
    """Llama 3 and Qwen: a pattern of their own, then bytes."""
    trainer = trainers.BpeTrainer(vocab_size=262, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
    return _trained(models.BPE(), trainer, pre_tokenizers.Sequence([split, bytes_only]))


def unigram(*, lowercase: bool = False) -> Tokenizer:
    """XLM-R and DeBERTa-v3; ALBERT in lower case."""
    scored = [("<unk>", 0.0)] + [(piece, -len(piece) / 9) for piece in PIECES]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0))
    steps = [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Lowercase()] if lowercase else steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def llama2(*, by_normalizer: bool = True) -> Tokenizer:
    """Llama 2: pairs of bytes and pieces over the whole text, which is one word to the tokenizer."""
    letters = sorted({letter for text in CORPUS for letter in text} - {" "})
    vocabulary = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters, "ca", "cat", "▁cat"]
    index = {piece: number for number, piece in enumerate(vocabulary)}
    merges = [("c", "a"), ("ca", "t"), ("▁", "cat")]
    tokenizer = Tokenizer(models.BPE(index, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if by_normalizer:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "WordPiece": word_piece,
    "byte-level BPE": lambda: byte_level(trim=False),
    "byte-level BPE, trimmed": byte_level,
    "byte-level BPE of Llama 3": llama3,
    "SentencePiece unigram": unigram,
    "SentencePiece unigram in lower case": lambda: unigram(lowercase=True),
    "SentencePiece BPE": llama2,
    "SentencePiece BPE without a normalizer": lambda: llama2(by_normalizer=False),
}
SPLITS_PUNCTUATION = ("WordPiece", "byte-level")


def with_special_tokens(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer as models have them; decoders of these kinds begin a text and have no padding token."""
    tokenizer = TOKENIZERS[kind]()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    start = tokenizer.token_to_id("<s>")
    template = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", start)])
    kept = tokenizer.post_processor
    tokenizer.post_processor = template if kept is None else processors.Sequence([kept, template])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", model_max_length=64)
