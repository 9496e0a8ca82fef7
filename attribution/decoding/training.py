"""A language-model head for a body that has none: trained by masked language modelling, the body left as it is."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attribution.decoding.head import RECORD
from attribution.errors import InputError

POOL = 16  # batches among which texts are sorted by length
IGNORED = -100  # the label of tokens that are not to be predicted


@dataclass(frozen=True)
class HeadRecipe:
    """Everything that decides the weights of a head, next to the texts and the body."""

    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 2e-3  # at its highest, after a tenth of the steps; falls to 0 from there
    weight_decay: float = 0.01
    predicted: float = 0.4  # share of the tokens that are predicted
    masked: float = 0.5  # share of these that are masked
    replaced: float = 0.1  # share of these that are replaced by any other; the rest stays in sight
    held_out: float = 0.1  # share of the texts that are measured, not trained on
    max_length: int = 128
    seed: int = 0


@dataclass(frozen=True)
class HeadQuality:
    """What a head reached on texts that were held out."""

    loss: float  # cross entropy of the predicted tokens, in nats
    accuracy: float  # share of the predicted tokens that come first
    recovery: float  # share of the tokens that come first at their own place, nothing being masked
    texts: int
    trained_on: int

    @property
    def words(self) -> str:
        """The same in words."""
        return (
            f"trained on {self.trained_on} texts; on {self.texts} held-out texts it recovers {self.recovery:.1%} of "
            f"the tokens, and {self.accuracy:.1%} where some are masked or replaced (loss {self.loss:.2f})"
        )


def train_language_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    recipe: HeadRecipe = HeadRecipe(),
    *,
    shown: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> tuple[PreTrainedModel, HeadQuality]:
    """A masked language model on the body of `model`, which keeps its weights; its head is its family's, and new.

    The decoder is tied to the word embeddings. shown: wraps the steps, for a progress bar. The global random state
    stays as it was. Raises `InputError` where the family or the tokenizer knows no masked words, or texts are too few.
    """
    if tokenizer.mask_token is None:
        raise InputError("lm_head: the tokenizer has no mask token; a head is trained by masked language modelling")
    kept, held = _split(texts, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        language_model = _on_body_of(model)
        _fit(language_model, tokenizer, kept, recipe, shown)
    return language_model, _quality(language_model, tokenizer, held, len(kept), recipe)


def save_language_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quality: HeadQuality, **record: Any
) -> None:
    """Write a checkpoint with the record that tells readers of reports what its head is."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    about = f"a head trained here, by masked language modelling on the frozen body: {quality.words}"
    text = json.dumps({"about": about, "quality": asdict(quality), **record}, indent=1, sort_keys=True)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def _split(texts: Sequence[str], recipe: HeadRecipe) -> tuple[list[str], list[str]]:
    """Texts to train on, and those held out."""
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(recipe.seed)).tolist()
    n_held = max(1, round(recipe.held_out * len(texts)))
    if len(texts) - n_held < 1:
        raise InputError(f"lm_head: {len(texts)} texts are too few to train a head on and hold some out")
    return [texts[i] for i in sorted(order[n_held:])], [texts[i] for i in sorted(order[:n_held])]


def _on_body_of(model: PreTrainedModel) -> PreTrainedModel:
    """A masked language model with a new head on a copy of the body, which is frozen."""
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = True
    try:
        language_model = AutoModelForMaskedLM.from_config(config, dtype=model.dtype, trust_remote_code=False)
    except ValueError:
        raise InputError(f"lm_head: {config.model_type} models are not trained by masking words") from None
    missing = language_model.base_model.load_state_dict(model.base_model.state_dict(), strict=False).missing_keys
    if missing:
        raise InputError(f"lm_head: {type(model).__name__} has no {missing[0]}, which a language model of it needs")
    language_model.tie_weights()
    language_model.base_model.requires_grad_(False)
    _near_identity(language_model)
    trainable: PreTrainedModel = language_model.eval().to(model.device)
    return trainable


def _near_identity(model: PreTrainedModel) -> None:
    """Let the head begin as what it comes to: states near the embeddings of their tokens. Learned from few texts."""
    decoder, body = model.get_output_embeddings(), set(model.base_model.modules())
    for module in model.modules():
        if isinstance(module, nn.Linear) and module not in body and module is not decoder:
            with torch.no_grad():
                module.weight.add_(torch.eye(*module.weight.shape, device=module.weight.device))


def _fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    recipe: HeadRecipe,
    shown: Callable[[Sequence[Any]], Iterable[Any]],
) -> None:
    ids, masking = _ids(tokenizer, texts, recipe), _masking(tokenizer, recipe, recipe.seed)
    batches = [batch for _ in range(recipe.epochs) for batch in pooled_batches(ids, recipe.batch_size)]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=len(batches) + 1, pct_start=0.1, anneal_strategy="linear"
    )
    for chosen in shown(batches):
        batch = masking([{"input_ids": ids[i]} for i in chosen])
        labels = batch.pop("labels").to(model.device)
        asked = labels != IGNORED
        if bool(asked.any()):
            torch.autograd.backward(nn.functional.cross_entropy(_logits(model, batch, asked), labels[asked]))
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()


def pooled_batches(texts: Sequence[Sized], size: int) -> Iterator[list[int]]:
    """Indexes of every batch of an epoch: shuffled, then sorted by length within pools, to pad little."""
    order, pool = torch.randperm(len(texts)).tolist(), size * POOL
    pools = [sorted(order[i : i + pool], key=lambda i: len(texts[i])) for i in range(0, len(order), pool)]
    batches = [pool[i : i + size] for pool in pools for i in range(0, len(pool), size)]
    yield from (batches[i] for i in torch.randperm(len(batches)).tolist())


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], recipe: HeadRecipe) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=recipe.max_length)["input_ids"]
    return ids


def _masking(tokenizer: PreTrainedTokenizerBase, recipe: HeadRecipe, seed: int) -> Callable[[Any], Any]:
    """Pads token ids into a batch and masks tokens of it."""
    masking: Callable[[Any], Any] = DataCollatorForLanguageModeling(
        tokenizer,
        mlm_probability=recipe.predicted,
        mask_replace_prob=recipe.masked,
        random_replace_prob=recipe.replaced,
        seed=seed,
    )
    return masking


def _logits(model: PreTrainedModel, batch: Mapping[str, Tensor], asked: Tensor) -> Tensor:
    """[M, V] where `asked` bool [B, N] is true; nowhere else are logits computed."""
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _module, args: (args[0][asked],))
    try:
        logits: Tensor = model(**{name: x.to(model.device) for name, x in batch.items()}).logits
        return logits.float()
    finally:
        hook.remove()


@torch.no_grad()
def _quality(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    trained_on: int,
    recipe: HeadRecipe,
) -> HeadQuality:
    ids, masking = sorted(_ids(tokenizer, texts, recipe), key=len), _masking(tokenizer, recipe, recipe.seed + 1)
    seen: dict[str, list[Tensor]] = {"loss": [], "first": [], "recovered": []}
    for start in range(0, len(ids), recipe.batch_size):
        rows = [{"input_ids": row} for row in ids[start : start + recipe.batch_size]]
        plain, masked = tokenizer.pad(rows, return_tensors="pt"), masking(rows)
        words = plain["input_ids"].to(model.device)
        special = torch.isin(words, torch.tensor(tokenizer.all_special_ids, device=model.device))
        visible = plain["attention_mask"].to(model.device).bool() & ~special
        seen["recovered"].append(_logits(model, plain, visible).argmax(1) == words[visible])
        labels = masked.pop("labels").to(model.device)
        logits, goal = _logits(model, masked, labels != IGNORED), labels[labels != IGNORED]
        seen["first"].append(logits.argmax(1) == goal)
        seen["loss"].append(nn.functional.cross_entropy(logits, goal, reduction="none"))
    loss, first, recovered = (torch.cat(each).double().mean().item() for each in seen.values())
    return HeadQuality(loss, first, recovered, len(ids), trained_on)
