"""A Hugging Face model as the rest of the package sees it: token ids in, logits and attention out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution.errors import InputError, UnruledOperation
from attribution.model.attention import Taps, own_attention
from attribution.model.families import ReadOut, family_of
from attribution.model.inputs import ABOUT_TEXT, Inputs
from attribution.model.layer import Folded, FoldedProjections, Layer, layer_of
from attribution.targets import TOKEN_TASKS

if TYPE_CHECKING:
    from attribution.decoding.head import LanguageModelHead

HEADS = {
    "ForSequenceClassification": "classification",
    "ForQuestionAnswering": "question_answering",
    "ForCausalLM": "next_token",
    "LMHeadModel": "next_token",
    "ForMaskedLM": "masked_token",
}


class ModelAdapter:
    """What every method and metric needs of a model; nothing of the model is changed outside a call.

    Padding may stand on either side: rows are aligned to the left before the model runs, which is where encoders read
    their first token and where positions start, and results are put back where the caller had them.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        if hasattr(model, "_orig_mod"):
            raise InputError("model: a torch.compile'd model cannot be explained; pass the module it was compiled from")
        self.model, self.tokenizer = model, tokenizer
        self.lm_head: LanguageModelHead | None = None  # that hidden states are decoded with, if one is given
        self.family = family_of(model.config.model_type)
        self.task = task_of(type(model).__name__)
        self.causal = self.family.causal
        self.multi_label = self.task == "classification" and model.config.problem_type == "multi_label_classification"
        self.pooling = self.family.read_out(model.config)
        self._layers = [model.base_model.get_submodule(path) for path in self.family.layers(model.config)]
        self.n_layers = len(self._layers)
        self.n_heads: int = model.config.num_attention_heads
        self.pad_id = self._token("pad")
        self.mask_id = self._token("mask")
        self.unk_id = self._token("unk")
        self.start_id = self._token("bos") if self.causal else None  # what a decoder reads where there is no text
        self._folded = FoldedProjections()
        # An unknown or masked word is a word of the text: it may be explained and perturbed, unless it is asked for.
        words = {self.unk_id, self.mask_id} if self.task != "masked_token" else {self.unk_id}
        special = set(getattr(tokenizer, "all_special_ids", [])) - words
        self._special_ids = torch.tensor(sorted(special), dtype=torch.long)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    def texts(self, ids: Sequence[int]) -> list[str]:
        """What the tokenizer makes of each token by itself, word pieces without their marks; empty without one."""
        if self.tokenizer is None:
            return [""] * len(ids)
        return [str(self.tokenizer.decode([id])).removeprefix("##") for id in ids]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def dtype_name(self) -> str:
        """The same as configurations spell it: `float32`."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def score_dtype(self) -> torch.dtype:
        """What scores are returned in: float32, or the model's dtype if wider."""
        return torch.promote_types(self.dtype, torch.float32)

    def layers(self) -> list[nn.Module]:
        """The model's blocks in the order they run; a block that runs several times (ALBERT) comes as often."""
        return self._layers

    def layer(self, index: int, *, final_norm: bool = True) -> Layer:
        """Block `index` behind its attention; the last one with the model's final normalisation, if it has one."""
        if has_projected_attention(self.model):
            raise UnruledOperation("projected attention beside a block is not part of what value zeroing takes apart")
        is_last, path = index == self.n_layers - 1, self.family.final_norm
        final = self.model.base_model.get_submodule(path) if final_norm and is_last and path else None
        return layer_of(self.layers()[index], self.family, self.n_heads, final)

    def folded(self, index: int) -> Folded:
        """The folded projections of block `index`; made once and again when its weights have changed."""
        return self._folded(self.layer(index), self.layers()[index])

    def special_tokens(self, inputs: Inputs) -> Tensor:
        """Bool [B, N]: special tokens and padding."""
        hidden = inputs.attention_mask == 0
        if inputs.special_tokens_mask is not None:
            return hidden | inputs.special_tokens_mask.bool()
        return hidden | torch.isin(inputs.input_ids, self._special_ids.to(inputs.input_ids.device))

    def logits(self, inputs: Inputs, columns: Tensor | None = None) -> Tensor:
        """Logits [B, C], or [B, N, 2] (start, end) for question answering, with the model's own attention.

        For tokens [B, N, V]; or, where `columns` [B, P] of the inputs are given, [B, P, V].
        """
        aligned, index = align(inputs.to(self.device))
        shifted = columns if columns is None or index is None else columns.to(self.device) - index[:, :1]
        with torch.inference_mode(), frozen(self.model):
            logits = self.forward(aligned, shifted)
        per_position = self.task != "classification" and columns is None
        return restore(logits, index) if per_position else logits

    def attentions(self, inputs: Inputs) -> list[Tensor]:
        """Attention after softmax of each layer, L times [B, H, N, N]."""
        aligned, index = align(inputs.to(self.device))
        taps = Taps()
        with torch.inference_mode(), frozen(self.model), own_attention(self.model, taps):
            self.forward(aligned)
        return [restore(restore(a, index, dim=2), index, dim=3) for a in taps.attention]

    def states(self, inputs: Inputs) -> list[Tensor]:
        """Hidden states, L + 1 times [B, N, D]: what enters the first block, then what leaves each."""
        aligned, index = align(inputs.to(self.device))
        with torch.inference_mode(), frozen(self.model):
            found = self.model.base_model(**self._arguments(aligned), output_hidden_states=True).hidden_states
        return [restore(each, index) for each in found]

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

    @property
    def is_generative(self) -> bool:
        """Whether the model gives logits of tokens: of the next one, or of those that are masked."""
        return self.task in TOKEN_TASKS

    def forward(self, aligned: Inputs, columns: Tensor | None = None) -> Tensor:
        """One pass over left-aligned rows, whatever the context asks of it.

        columns: [B, P]; logits of tokens are computed there alone, [B, P, V].
        """
        with _head_at(self.model, columns):
            output = self.model(**self._arguments(aligned))
        return torch.stack((output.start_logits, output.end_logits), dim=-1) if self.is_qa else output.logits

    def read_out(self, aligned: Inputs) -> Tensor:
        """[B] position that feeds the classifier: the first token of encoders, the last one of decoders.

        Where a classifier pools all tokens it is the first, too; `Capture.reading` has the weight of each. Of masked
        tokens the first in a row; -1 where there is none.
        """
        if self.task == "masked_token":
            masked = torch.eq(aligned.input_ids, -1 if self.mask_id is None else self.mask_id)
            return masked.long().argmax(1).masked_fill(~masked.any(1), -1)
        if not self.causal:
            return torch.zeros(aligned.shape[0], dtype=torch.long, device=aligned.input_ids.device)
        return last_attended(aligned.attention_mask)

    @property
    def pools_all(self) -> bool:
        """Whether what is explained reads the mean of all tokens."""
        return self.task == "classification" and self.pooling is ReadOut.MEAN

    def _arguments(self, aligned: Inputs) -> dict[str, Any]:
        unknown = {*ABOUT_TEXT, *(() if self.family.token_types else ("token_type_ids",))}
        arguments: dict[str, Any] = {name: value for name, value in aligned.present().items() if name not in unknown}
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


def has_projected_attention(model: PreTrainedModel) -> bool:
    """Whether patterns stand beside the model's blocks (`attribution.patterns`)."""
    patterns = getattr(model.base_model, "head_patterns", None)
    return patterns is not None and len(patterns.projected) > 0


def task_of(architecture: str) -> str:
    """The task of a model class; raises `InputError` for classes without a head that can be explained."""
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


def last_attended(attention_mask: Tensor) -> Tensor:
    """[B] the last column that is attended."""
    return attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(1)


@contextmanager
def _head_at(model: PreTrainedModel, columns: Tensor | None) -> Iterator[None]:
    """Let the language-model head see `columns` [B, P] alone: logits everywhere would be the largest tensor of all."""
    if columns is None:
        yield
        return

    def gather(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        hidden = args[0]
        return (hidden.gather(1, columns.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[2])),)

    hook = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        hook.remove()


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
