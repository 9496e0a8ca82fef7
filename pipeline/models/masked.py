"""Masked language models that are made here: a head on the embedded encoder, and fine-tuning on number agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from attribution.errors import InputError
from pipeline.config import DatasetConfig, ModelConfig
from pipeline.data import load_dataset
from pipeline.data.examples import Example
from pipeline.data.masking import differing_token
from pipeline.keys import digest, source_digest, versions
from pipeline.models.finetune import Recipe, optimizer_of, publish, quiet, shown
from pipeline.models.folder import Location, body_fingerprint
from pipeline.models.lm_head import trained_language_model
from pipeline.models.minilm import encoder_folder, review_corpus

# As in the Value Zeroing code, some of it from commented defaults: Mohebbi et al. 2023.
AGREEMENT = Recipe(epochs=5, batch_size=64, learning_rate=3e-5, warmup=0.1, weight_decay=0.0, max_length=32, seed=42)
CODE = ("pipeline.models.masked", "pipeline.data.agreement_rules")

Row = tuple[list[int], int, int]  # token ids, place of the asked one, the wrong token


def minilm_masked(config: ModelConfig, models_dir: Path, *, progress: bool = True) -> Path:
    """The folder of the embedded encoder with a masked-language-model head, trained on the texts of `model.texts`.

    Without any on the corpus that the package brings along.
    """
    texts = [text for path in config.texts for text in texts_of(path)] or [text for text, _ in review_corpus()]
    return trained_language_model(encoder_folder(), texts, models_dir, progress=progress)


def texts_of(path: str) -> list[str]:
    """The texts of a file that `dataset=local` can read."""
    try:
        dataset = load_dataset(DatasetConfig(source="local", path=path))
    except InputError as error:
        raise InputError(f"conf error: model.texts: {str(error).removeprefix('conf error: ')}") from error
    return [text for example in dataset.examples for text in (example.text, example.text_b) if text]


def tuned_on_agreement(location: Location, path: str, models_dir: Path, *, progress: bool = True) -> Location:
    """A masked language model further trained to tell right from wrong forms, on the pairs of split train."""
    data = DatasetConfig(source="local", path=path, form="agreement", split="train")
    dataset = load_dataset(data)
    content = {
        "model": body_fingerprint(location),
        "data": dataset.fingerprint,
        "recipe": asdict(AGREEMENT),
        "code": source_digest(CODE),
        **versions(),
    }
    folder = models_dir / f"agreement-{digest(content)[:16]}"
    if not folder.is_dir():
        model, tokenizer = tune(location.folder, dataset.examples, AGREEMENT, progress=progress)

        def write(made: Path) -> None:
            model.save_pretrained(made)
            tokenizer.save_pretrained(made)

        publish(folder, write)
    return replace(location, folder=folder, name=f"{location.name}_tuned")


def tune(
    folder: Path, examples: Sequence[Example], recipe: Recipe, *, progress: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with all weights trained: cross entropy of the right against the wrong form at the mask."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    rows = asked_rows(examples, tokenizer, recipe.max_length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        with quiet():
            model = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        model = model.float().train()
        order = [torch.split(torch.randperm(len(rows)), recipe.batch_size) for _ in range(recipe.epochs)]
        batches = [batch.tolist() for epoch in order for batch in epoch]
        optimizer, schedule = optimizer_of(model, len(batches), recipe)
        for batch in shown(batches, "fine-tuning on number agreement (only once)", progress=progress):
            agreement_loss(model, tokenizer, [rows[i] for i in batch]).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return model.eval(), tokenizer


def asked_rows(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
    """Examples both of whose forms are one token, within `max_length`."""
    right, wrong = (
        tokenizer(texts)["input_ids"] for texts in ([e.text for e in examples], [str(e.foil) for e in examples])
    )
    found = [
        (ids, place, foil) for ids, foil in zip(right, wrong, strict=True) for place in [differing_token(ids, foil)]
    ]
    rows = [(ids, place, foil[place]) for ids, place, foil in found if place is not None and len(ids) <= max_length]
    if not rows:
        raise InputError("conf error: model.tune_on: no pair has two forms of one token each")
    return rows


def agreement_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> Tensor:
    """Mean cross entropy of the right form against the wrong one, logits computed at the masks alone."""
    inputs = [_with(ids, place, tokenizer.mask_token_id) for ids, place, _ in rows]
    batch = tokenizer.pad({"input_ids": inputs}, return_tensors="pt")
    at = torch.arange(len(rows)), torch.tensor([place for _, place, _ in rows])
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _module, args: (args[0][at],))
    try:
        logits = model(**batch).logits
    finally:
        hook.remove()
    pairs = torch.tensor([[ids[place], foil] for ids, place, foil in rows])
    return nn.functional.cross_entropy(logits.gather(1, pairs), torch.zeros(len(rows), dtype=torch.long))


def _with(ids: Sequence[int], place: int, token: int) -> list[int]:
    return [*ids[:place], token, *ids[place + 1 :]]
