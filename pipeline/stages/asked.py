"""What a stage asks a model about: the target of each example of a microbatch, in the form its task has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attribution.model.inputs import Inputs
from attribution.targets import Target, TargetLike
from pipeline.microbatch import MicroBatch

Targets = tuple[int, ...] | tuple[tuple[int, int], ...]
Examples = Sequence[Mapping[str, Any]]


def target_of(examples: Examples, targets: Targets) -> TargetLike:
    """Of rows of the examples table; where a word is masked, its class against the other one.

    A class is a token of `choices` there, and the other is that of the class after it, the first after the last.
    """
    if examples[0]["masked"] is None:
        return torch.tensor(targets)
    choices, goals = torch.tensor([row["choices"] for row in examples]), torch.tensor(targets)[:, None]
    index, contrast = (choices.gather(1, (goals + step) % choices.shape[1])[:, 0] for step in (0, 1))
    return Target("masked_token", index=index, position=masked_of(examples), contrast=contrast)


def targets_for(batch: MicroBatch, targets: Sequence[Any]) -> Targets:
    """Those of a microbatch, from those of all examples."""
    return tuple(targets[row] for row in batch.rows)


def masked_of(examples: Examples) -> Tensor:
    """[B] positions of the masked words."""
    return torch.tensor([row["masked"] for row in examples])


def without_separators(inputs: Inputs, tokenizer: Any) -> Inputs:
    """The same batch with every separator hidden from the model; as it is where the tokenizer has none."""
    separator = getattr(tokenizer, "sep_token_id", None)
    if separator is None:
        return inputs
    visible = inputs.attention_mask * (inputs.input_ids != separator)
    return Inputs(inputs.input_ids, visible, inputs.token_type_ids, inputs.position_ids, inputs.special_tokens_mask)
