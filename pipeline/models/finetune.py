"""Fine-tuning a small encoder into a classifier, the same way every time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from pipeline.execution.progress import make_progress

POOL = 16  # batches among which examples are sorted by length


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, next to the data and the encoder."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    max_length: int = 128
    frozen_layers: int = 0  # layers below this one, and the embeddings, keep their weights
    seed: int = 0


def fine_tune(
    encoder: Path,
    texts: Sequence[str],
    labels: Sequence[int],
    label_names: Sequence[str],
    recipe: Recipe,
    *,
    name: str = "a classifier",
    progress: bool = True,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder with a head for `label_names`, in evaluation mode. The global random state stays as it was.

    name: of the model, where progress is shown.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    ids = tokenizer(list(texts), truncation=True, max_length=recipe.max_length)["input_ids"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = _classifier(encoder, label_names, recipe)
        batches = list(_batches(ids, recipe))
        optimizer, schedule = optimizer_of(model, len(batches), recipe)
        for batch in shown(batches, f"fine-tuning {name} (only once)", progress=progress):
            _step(model, tokenizer, [ids[i] for i in batch], [labels[i] for i in batch], optimizer)
            schedule.step()
    return model.eval(), tokenizer


def _classifier(encoder: Path, label_names: Sequence[str], recipe: Recipe) -> PreTrainedModel:
    names = dict(enumerate(label_names))
    with quiet():  # that the head is new is the point here, not a warning
        model = AutoModelForSequenceClassification.from_pretrained(
            encoder,
            local_files_only=True,
            use_safetensors=True,
            id2label=names,
            label2id={name: index for index, name in names.items()},
        )
    model.base_model.embeddings.requires_grad_(False)
    model.base_model.encoder.layer[: recipe.frozen_layers].requires_grad_(False)
    return model.train()


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers without its own messages and progress bars."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _batches(ids: Sequence[Sequence[int]], recipe: Recipe) -> Iterator[list[int]]:
    """Indexes of every batch of every epoch: shuffled, then sorted by length within pools, to pad little."""
    size = recipe.batch_size * POOL
    for _ in range(recipe.epochs):
        order = torch.randperm(len(ids)).tolist()
        pools = [sorted(order[i : i + size], key=lambda i: len(ids[i])) for i in range(0, len(order), size)]
        batches = [pool[i : i + recipe.batch_size] for pool in pools for i in range(0, len(pool), recipe.batch_size)]
        yield from (batches[i] for i in torch.randperm(len(batches)).tolist())


def optimizer_of(
    model: PreTrainedModel, steps: int, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, with a linear warm-up and a linear way down to zero."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    warmup = max(1, round(recipe.warmup * steps))

    def factor(step: int) -> float:
        return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _step(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[list[int]],
    labels: list[int],
    optimizer: torch.optim.Optimizer,
) -> None:
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    model(**batch, labels=torch.tensor(labels)).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def shown(batches: Sequence[list[int]], description: str, *, progress: bool) -> Iterator[list[int]]:
    """The batches, with progress on stderr."""
    with make_progress(silent=not progress).stage(description, len(batches), "batches") as bar:
        for batch in batches:
            yield batch
            bar.advance()


def publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the final place, then move it there at once: nobody ever sees half a model."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as unfinished:
        made = Path(unfinished) / folder.name
        with quiet():
            write(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # another run was quicker: its model is the same
                raise
