"""The head of a language model, apart from its body: hidden states in, logits over the vocabulary out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from attribution import loading
from attribution.errors import InputError
from attribution.model.families import family_of

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

RECORD = "lm_head.json"  # beside the weights of a head that was trained here: how, and what it reached
ADVICE = "name the pre-trained checkpoint, or have a head trained: model.lm_head=train model.lm_head_texts=FILE"

CPU_ROWS = 1024  # of the decoder in one product on a CPU: all in one take half as long again, past the caches

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LanguageModelHead:
    """What a language model does behind its last block, to be applied to the output of any block.

    steps: [..., D] -> [..., E], one after the other, the model's final normalisation among them; weight: [V, E];
    bias: [V]. about: where it comes from, in words for reports.
    """

    steps: tuple[Step, ...]
    weight: Tensor
    bias: Tensor | None
    about: str

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return self.weight.shape[0]

    def transformed(self, hidden: Tensor) -> Tensor:
        """[..., E] of hidden states [..., D]: what is compared with every token's vector."""
        x = hidden.to(self.weight.dtype)
        for step in self.steps:
            x = step(x)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., V] of hidden states [..., D]."""
        x, bias = self.transformed(hidden), self.bias
        if x.device.type != "cpu":
            return nn.functional.linear(x, self.weight, bias)
        parts = (slice(start, start + CPU_ROWS) for start in range(0, self.vocabulary, CPU_ROWS))
        pieces = [nn.functional.linear(x, self.weight[part], None if bias is None else bias[part]) for part in parts]
        return torch.cat(pieces, dim=-1)

    def logits_of(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """[B, N, M] of hidden states [B, N, D], for the tokens ids [B, M] of each row alone."""
        logits = self.transformed(hidden) @ self.weight[ids].transpose(1, 2)
        return logits if self.bias is None else logits + self.bias[ids].unsqueeze(1)


def head_of(model: PreTrainedModel, about: str, *, dtype: torch.dtype | None = None) -> LanguageModelHead:
    """The head of a language model; shares the model's weights unless `dtype` is another than theirs.

    Raises `InputError` where the model has none that its family is known to have.
    """
    family, decoder = family_of(model.config.model_type), model.get_output_embeddings()
    if decoder is None:
        raise InputError(f"lm_head: {about}: {type(model).__name__} has no language-model head")
    final = [model.base_model.get_submodule(family.final_norm)] if family.final_norm else []
    try:
        own = [model.get_submodule(step) if isinstance(step, str) else step for step in family.language_head]
    except AttributeError as error:
        raise InputError(
            f"lm_head: {about}: {type(model).__name__} has another head than its family: {error}"
        ) from None
    steps: list[Step] = [*final, *own]
    weight, bias = decoder.weight.detach(), None if decoder.bias is None else decoder.bias.detach()
    if dtype is not None and dtype != weight.dtype:
        steps = [copy.deepcopy(step).to(dtype) if isinstance(step, nn.Module) else step for step in steps]
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return LanguageModelHead(tuple(steps), weight, bias, about)


def head_for(adapter: ModelAdapter, asker: str) -> LanguageModelHead:
    """The head given for a model, or the one it has itself; raises `InputError` where there is none."""
    if adapter.lm_head is not None:
        return adapter.lm_head
    if adapter.is_generative:
        return head_of(adapter.model, "the model's own head", dtype=adapter.score_dtype)
    raise InputError(
        f"conf error: {asker} needs a language-model head, and model.lm_head is not set: {ADVICE}; "
        "in Python Explainer(model, lm_head=CHECKPOINT)"
    )


def read_head(
    path_or_id: str | Path, adapter: ModelAdapter, *, revision: str | None = None, local_files_only: bool = False
) -> LanguageModelHead:
    """The head of a checkpoint of a language model, a folder or a hub id, for the model of `adapter`.

    Weights are read from safetensors only. Raises `InputError` where the checkpoint has no head, or one of another
    kind of model: a head can only read states of the width it was trained on.
    """
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
    config = loading.read_config(path_or_id, **options)
    check_fit(config, adapter.model.config, path_or_id)
    model, missing = loading.load_language_model(path_or_id, causal=adapter.causal, **options)
    if missing:
        raise InputError(
            f"conf error: model.lm_head={path_or_id} has no language-model head (no {missing[0]}); {ADVICE}"
        )
    model = model.to(device=adapter.device, dtype=adapter.score_dtype).eval().requires_grad_(False)
    return head_of(model, about_checkpoint(path_or_id, path_or_id))


def check_fit(config: PreTrainedConfig, own: PreTrainedConfig, given: str | Path) -> None:
    """Raise `InputError` where a checkpoint's head cannot read the states of the model explained."""
    for name in ("model_type", "hidden_size", "vocab_size"):
        if getattr(config, name) != getattr(own, name):
            problem = f"{name} is {getattr(config, name)}, the explained model's is {getattr(own, name)}"
            raise InputError(f"conf error: model.lm_head={given} does not fit: its {problem}; {ADVICE}")


def about_checkpoint(folder: str | Path, given: str | Path) -> str:
    """Where a head comes from, in words: the checkpoint given, or a head that was trained here."""
    record = Path(folder) / RECORD
    if not record.is_file():
        return f"the language-model head of {Path(given).name if Path(given).is_dir() else given}"
    return str(json.loads(record.read_text(encoding="utf-8"))["about"])
