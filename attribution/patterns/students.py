"""Small models that learn from labels, from a teacher's logits, or both; with patterns or without."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
)

from attribution.errors import InputError


@dataclass(frozen=True)
class StudentShape:
    """Size of a student. inner: width of its feed-forward branches; 0: four times that of the student."""

    layers: int = 2
    heads: int = 4
    width: int = 128
    inner: int = 0


@dataclass(frozen=True)
class Recipe:
    """How the weights are changed."""

    learning_rate: float = 1e-3  # at its highest, after `warm_up` of the steps; falls to 0 from there
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0  # the longest gradient


def small_config(config: PreTrainedConfig, shape: StudentShape) -> PreTrainedConfig:
    """The same configuration of a smaller model; its vocabulary stays, and so does the tokenizer that fits it."""
    if shape.width % shape.heads:
        raise InputError(f"conf error: students: width={shape.width} is not a multiple of heads={shape.heads}.")
    small = copy.deepcopy(config)
    small.num_hidden_layers, small.num_attention_heads = shape.layers, shape.heads
    small.hidden_size, small.intermediate_size = shape.width, shape.inner or 4 * shape.width
    if hasattr(small, "num_key_value_heads"):
        small.num_key_value_heads = shape.heads
    return small


def student_of(model: PreTrainedModel, shape: StudentShape = StudentShape(), *, seed: int = 0) -> PreTrainedModel:
    """A smaller model of the same class with weights drawn by `seed`, in float32, on the same device."""
    return _drawn(type(model), small_config(model.config, shape), seed).to(model.device)


def sentence_student(
    config: PreTrainedConfig, shape: StudentShape = StudentShape(), *, seed: int = 0
) -> PreTrainedModel:
    """A small scorer of sentences (`attribution.summaries`) of the family and vocabulary of `config`."""
    small = small_config(config, shape)
    small.num_labels, small.problem_type = 1, None
    return _drawn(AutoModelForTokenClassification.from_config, small, seed)


def sentence_scorer_of(model: PreTrainedModel, *, seed: int = 0) -> PreTrainedModel:
    """A scorer of sentences that begins as a model was trained, but for a head drawn by `seed`; on the same device."""
    config = copy.deepcopy(model.config)
    config.num_labels, config.problem_type = 1, None
    made = _drawn(AutoModelForTokenClassification.from_config, config, seed).to(model.device)
    made.base_model.load_state_dict(model.base_model.state_dict(), strict=False)  # some have a pooler for their head
    return made


def _drawn(make: Callable[[Any], PreTrainedModel], config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A new model; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(config)


def sentence_loss(logits: Tensor, oracle: Tensor, given: Tensor) -> Tensor:
    """Mean binary cross entropy of the sentences [B, S] that are given; `oracle` is 1 for those of the summary."""
    each = F.binary_cross_entropy_with_logits(logits, oracle.to(logits.dtype), reduction="none")
    return each[given].mean()


def distilled_sentences(student: Tensor, teacher: Tensor, given: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean relative entropy of the probabilities of each given sentence [B, S]; 0 where student and teacher agree.

    Times the square of the temperature, which keeps gradients as large (Hinton et al. 2015).
    """
    soft = torch.sigmoid(teacher.detach() / temperature)
    crossed = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none")
    own = F.binary_cross_entropy_with_logits(teacher.detach() / temperature, soft, reduction="none")
    return (crossed - own)[given].mean() * temperature**2


def distilled_classes(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """The same of classes [B, C]: relative entropy of softened predictions (Hinton et al. 2015)."""
    wanted, found = ((logits / temperature).log_softmax(-1) for logits in (teacher.detach(), student))
    return F.kl_div(found, wanted, reduction="batchmean", log_target=True) * temperature**2


class Learner:
    """Changes what of a model requires a gradient, by AdamW with a warm-up and a linear fall over `steps` steps."""

    def __init__(self, model: nn.Module, steps: int, recipe: Recipe = Recipe()) -> None:
        self.recipe = recipe
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(self.learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        warm_up = round(recipe.warm_up * steps)
        self.schedule = get_linear_schedule_with_warmup(self.optimiser, warm_up, steps)

    def step(self, loss: Tensor) -> float:
        """One step down this loss; gives it as a number."""
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.learning, self.recipe.clip)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """What `resume` takes to go on as if nothing had been interrupted."""
        return {"optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
