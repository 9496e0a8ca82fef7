"""Small models that learn from labels, from a teacher's logits, or both; with patterns or without."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

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


def student_of(model: PreTrainedModel, shape: StudentShape = StudentShape(), *, seed: int = 0) -> PreTrainedModel:
    """A smaller model of the same class with weights drawn by `seed`, in float32, on the same device.

    Its vocabulary is that of `model`, and so is its tokenizer. The global random state stays as it was.
    """
    if shape.width % shape.heads:
        raise InputError(f"conf error: students: width={shape.width} is not a multiple of heads={shape.heads}.")
    config = copy.deepcopy(model.config)
    config.num_hidden_layers, config.num_attention_heads = shape.layers, shape.heads
    config.hidden_size, config.intermediate_size = shape.width, shape.inner or 4 * shape.width
    if hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = shape.heads
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student: PreTrainedModel = type(model)(config)
    return student.to(model.device)


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


def fit(model: nn.Module, losses: Iterable[Tensor], steps: int, recipe: Recipe = Recipe()) -> Iterator[float]:
    """Change what of a model requires a gradient, one step for each loss, which is made when it is asked for.

    Gives each loss. `steps`: how many there will be at most.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=steps + 1, pct_start=recipe.warm_up, anneal_strategy="linear"
    )
    for loss in losses:
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(learning, recipe.clip)
        optimiser.step()
        schedule.step()
        yield float(loss.detach())
