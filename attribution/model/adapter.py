"""A Hugging Face model as the rest of the package sees it: token ids in, logits and attention out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution.errors import InputError
from attribution.model.attention import Taps, own_attention
from attribution.model.families import family_of
from attribution.model.inputs import ABOUT_TEXT, Inputs

HEADS = {"ForSequenceClassification": "classification", "ForQuestionAnswering": "question_answering"}


class ModelAdapter:
    """What every method and metric needs of a model; nothing of the model is changed outside a call.

    Padding may stand on either side: rows are aligned to the left before the model runs, which is where encoders read
    their first token and where positions start, and results are put back where the caller had them.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        if hasattr(model, "_orig_mod"):
            raise InputError("model: a torch.compile'd model cannot be explained; pass the module it was compiled from")
        self.model, self.tokenizer = model, tokenizer
        self.family = family_of(model.config.model_type)
        self.task = task_of(type(model).__name__)
        self.causal = self.family.causal
        self.n_layers: int = model.config.num_hidden_layers
        self.n_heads: int = model.config.num_attention_heads
        self.pad_id = self._token("pad")
        self.mask_id = self._token("mask")
        self.unk_id = self._token("unk")
        self.start_id = self._token("bos") if self.causal else None  # what a decoder reads where there is no text
        # An unknown or masked word is a word of the text: it may be explained and perturbed.
        special = set(getattr(tokenizer, "all_special_ids", [])) - {self.unk_id, self.mask_id}
        self._special_ids = torch.tensor(sorted(special), dtype=torch.long)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def score_dtype(self) -> torch.dtype:
        """What scores are returned in: float32, or the model's dtype if wider."""
        return torch.promote_types(self.dtype, torch.float32)

    def layers(self) -> nn.ModuleList:
        """The model's blocks, bottom to top."""
        layers: nn.ModuleList = self.model.base_model.get_submodule(self.family.layers)
        return layers

    def special_tokens(self, inputs: Inputs) -> Tensor:
        """Bool [B, N]: special tokens and padding."""
        hidden = inputs.attention_mask == 0
        if inputs.special_tokens_mask is not None:
            return hidden | inputs.special_tokens_mask.bool()
        return hidden | torch.isin(inputs.input_ids, self._special_ids.to(inputs.input_ids.device))

    def logits(self, inputs: Inputs) -> Tensor:
        """Logits [B, C], or [B, N, 2] (start, end) for question answering, with the model's own attention."""
        aligned, index = align(inputs.to(self.device))
        with torch.inference_mode(), frozen(self.model):
            return restore(self.forward(aligned), index) if self.is_qa else self.forward(aligned)

    def attentions(self, inputs: Inputs) -> list[Tensor]:
        """Attention after softmax of each layer, L times [B, H, N, N]."""
        aligned, index = align(inputs.to(self.device))
        taps = Taps()
        with torch.inference_mode(), frozen(self.model), own_attention(self.model, taps):
            self.forward(aligned)
        return [restore(restore(a, index, dim=2), index, dim=3) for a in taps.attention]

    @property
    def max_length(self) -> int:
        """The longest input the model has positions for, special tokens counted."""
        config = self.model.config
        unused = config.pad_token_id + 1 if self.family.positions_after_padding else 0
        known = getattr(self.tokenizer, "model_max_length", config.max_position_embeddings)
        return int(min(known, config.max_position_embeddings - unused))

    @property
    def is_qa(self) -> bool:
        """Whether the model marks answer spans."""
        return self.task == "question_answering"

    def forward(self, aligned: Inputs) -> Tensor:
        """One pass over left-aligned rows, whatever the context asks of it."""
        output = self.model(**self._arguments(aligned))
        return torch.stack((output.start_logits, output.end_logits), dim=-1) if self.is_qa else output.logits

    def read_out(self, aligned: Inputs) -> Tensor:
        """[B] position that feeds the classifier: the first token of encoders, the last one of decoders."""
        if not self.causal:
            return torch.zeros(aligned.shape[0], dtype=torch.long, device=aligned.input_ids.device)
        return aligned.attention_mask.sum(1) - 1

    def _arguments(self, aligned: Inputs) -> dict[str, Any]:
        arguments: dict[str, Any] = {name: value for name, value in aligned.present().items() if name not in ABOUT_TEXT}
        if self.family.positions_after_padding and aligned.position_ids is None:
            # Counted from the input ids otherwise, so that a token replaced by the pad id would move all that follow.
            first = self.model.config.pad_token_id + 1
            count = torch.arange(first, first + aligned.shape[1], device=aligned.input_ids.device)
            arguments["position_ids"] = count.expand(aligned.shape)
        if self.causal:
            arguments["use_cache"] = False
        return arguments

    def _token(self, kind: str) -> int | None:
        own = getattr(self.tokenizer, f"{kind}_token_id", None)
        return own if own is not None else getattr(self.model.config, f"{kind}_token_id", None)


def task_of(architecture: str) -> str:
    """The task of a model class; raises `InputError` for classes without a classification or span head."""
    for suffix, task in HEADS.items():
        if architecture.endswith(suffix):
            return task
    raise InputError(f"model: {architecture} has no head to explain; classes ending in {' or '.join(HEADS)} have one")


def align(inputs: Inputs) -> tuple[Inputs, Tensor | None]:
    """Rows rotated to start with their first visible token; the index [B, N] that did it, None if none moved."""
    first = inputs.attention_mask.argmax(dim=1)
    if not bool(first.any()):
        return inputs, None
    length = inputs.shape[1]
    index = (torch.arange(length, device=first.device) + first[:, None]) % length
    return replace(inputs, **{name: value.gather(1, index) for name, value in inputs.present().items()}), index


def restore(x: Tensor, index: Tensor | None, dim: int = 1) -> Tensor:
    """Undo `align` along dimension `dim` of x, whose first dimension is the batch."""
    if index is None:
        return x
    back = index.argsort(dim=1)
    shape = [1] * x.ndim
    shape[0], shape[dim] = back.shape
    return x.gather(dim, back.view(shape).expand(x.shape))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside; as it was on leaving."""
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for module in training:
        module.training = False
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)
