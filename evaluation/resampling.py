"""Tokens that a masked language model puts in the place of those taken away, so that copies remain text.

As ROAD does for images (Rong et al. 2022, arXiv 2202.00449): a copy is run several times with different tokens and what
is read of it is averaged. What context gives away, the language model puts back; report it next to `mask`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from attribution.draws import example_keys, uniform
from attribution.errors import InputError
from attribution.model.adapter import align, frozen, restore
from attribution.model.families import family_of
from attribution.model.inputs import ABOUT_TEXT, Inputs
from attribution.perturb import Marks, Perturbation, resolve_operator, run_perturbed

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

RESAMPLE = "mlm_resample"


@dataclass(frozen=True)
class Resampler:
    """Draws tokens from a masked language model with the vocabulary of the model that is explained.

    All tokens taken away are masked together, and each is drawn by itself given the rest; the token that was there is
    not drawn. Draws follow from the copy and `seed` alone. draws: how many tokens each place gets in turn.
    """

    model: PreTrainedModel
    mask_id: int
    draws: int = 4
    temperature: float = 1.0
    seed: int = 0
    _bare: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        family, config = family_of(self.model.config.model_type), self.model.config
        bare = SimpleNamespace(
            task="masked_token", causal=False, model=self.model, family=family, device=self.model.device,
            mask_id=self.mask_id, pad_id=config.pad_token_id, unk_id=None, start_id=None, logits=self._logits,
        )  # fmt: skip
        object.__setattr__(self, "_bare", bare)

    def copies(self, inputs: Inputs, asked: Perturbation) -> Perturbation:
        """Each copy [R, N] that is asked for `draws` times in a row, with the tokens that take its places."""
        tokens = self._tokens(inputs, asked).flatten(0, 1)
        rows, touched = (each.repeat_interleave(self.draws, 0) for each in (asked.rows, asked.touched))
        return Perturbation(rows, touched, RESAMPLE, tokens)

    def averaged(self, read: Tensor) -> Tensor:
        """Of what is read of the copies [R * draws, 3, C]: mean logits, mean probabilities, the commonest decision."""
        each = read.view(-1, self.draws, *read.shape[1:])
        logits, decision = each[:, :, 0].mean(1), each[:, :, 2].mode(1).values
        return torch.stack((logits, each[:, :, 1].logsumexp(1) - math.log(self.draws), decision), 1)

    def _tokens(self, inputs: Inputs, asked: Perturbation) -> Tensor:
        """[R, draws, N]."""
        aligned, index = align(inputs)
        ask, marks = replace(asked, operator="mask"), Marks(labels=aligned.input_ids)
        (drawn,), _ = run_perturbed(self._bare, inputs, [ask], self._draw, marks=marks)
        return drawn if index is None else restore(drawn, index[asked.rows], dim=2)

    def _draw(self, logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
        """Tokens [R, draws, N] in the columns of `marks.labels` [R, N], the ids that were there."""
        before = marks.labels
        assert before is not None
        width, n = logits.shape[1], before.shape[1]
        was = F.pad(before, (0, max(0, width - n)))[:, :width]
        chances = (logits.double() / self.temperature).scatter(2, was[..., None], -torch.inf).softmax(-1).cumsum(-1)
        keys = example_keys(batch.input_ids, batch.attention_mask.bool(), self.seed)
        wanted = uniform(keys, width, self.draws) * chances[..., -1:]
        tokens = torch.searchsorted(chances, wanted, right=True).clamp(max=logits.shape[2] - 1).transpose(1, 2)
        return F.pad(tokens, (0, max(0, n - width)))[:, :, :n]

    def _logits(self, inputs: Inputs, columns: Tensor | None = None) -> Tensor:
        unknown = {*ABOUT_TEXT, *(() if self._bare.family.token_types else ("token_type_ids",))}
        given = {name: value for name, value in inputs.present().items() if name not in unknown}
        if self._bare.family.positions_after_padding and "position_ids" not in given:
            first = self.model.config.pad_token_id + 1
            count = torch.arange(first, first + inputs.shape[1], device=self.model.device)
            given["position_ids"] = count.expand(inputs.shape)
        with torch.inference_mode(), frozen(self.model):
            logits: Tensor = self.model(**given).logits
        return logits


def checked(resampler: Resampler | None, explained: PreTrainedModel) -> Resampler:
    """A resampler that fits the model explained; InputError where there is none, or it does not."""
    if resampler is None:
        raise InputError(f"operator={RESAMPLE} needs a masked language model: resampler=Resampler(model, mask_id)")
    if resampler.model.config.vocab_size != explained.config.vocab_size:
        raise InputError(f"operator={RESAMPLE}: the language model has another vocabulary than the model explained")
    return resampler


def resolved(adapter: ModelAdapter, operator: str | None) -> str:
    """As `resolve_operator`, which does not know of language models."""
    return RESAMPLE if operator == RESAMPLE else resolve_operator(adapter, operator)
