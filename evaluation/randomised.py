"""Explanations of randomised models, of other classes, under noise and with other seeds: [B, M, N] or [B, N].

Of several methods {label: method} at once, which share their passes, or of one (`scores_of`, `neighbour_scores`, ...).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attribution.draws import example_keys, normal, uniform
from attribution.errors import InputError
from attribution.explainer import Explainer, MethodLike, Request
from attribution.model.inputs import Inputs

ORDERS = ("cascading", "independent", "all")

Methods = Mapping[str, MethodLike]
Scores = dict[str, Tensor]
How = ParamSpec("How")
Found = TypeVar("Found")


def of_one(
    explain: Callable[Concatenate[Explainer, Inputs, Methods, How], dict[str, Found]],
) -> Callable[Concatenate[Explainer, Inputs, MethodLike, How], Found]:
    """The same of one method: what `explain` finds of several is found of this one."""

    def explain_one(
        explainer: Explainer, inputs: Inputs, method: MethodLike, /, *args: How.args, **kwargs: How.kwargs
    ) -> Found:
        return explain(explainer, inputs, {"": method}, *args, **kwargs)[""]

    explain_one.__doc__ = f"`{explain.__name__}` of one method."
    return explain_one


def stacked(found: Sequence[Scores]) -> Scores:
    """Scores [B, N] of several explanations as [B, M, N], by label."""
    return {label: torch.stack([each[label] for each in found], 1) for label in found[0]}


def scores_of_many(explainer: Explainer, inputs: Inputs, methods: Methods, target: Any) -> Scores:
    """Scores [B, N] of each method."""
    return explainer.scores_many(**inputs.present(), methods=methods, target=target)  # type: ignore[arg-type]


def randomised_scores_many(
    explainer: Explainer,
    inputs: Inputs,
    methods: Methods,
    *,
    target: Any,
    order: str = "cascading",
    seed: int = 0,
    noisy: int = 0,
    stdev: float = 0.01,
) -> Scores:
    """Scores [B, M, N] from models with random weights: the head, each block from the top, and what is below them.

    order: `cascading` (each step with all before it), `independent` (one alone), `all` (the last step of the cascade,
    for the efficient test). noisy: scores are the mean over as many copies with Gaussian noise on the embeddings
    (smooth test). target has to be fixed: what a random model predicts is another question. Weights are drawn as the
    model's own class draws them.
    """
    if order not in ORDERS:
        raise InputError(f"order={order} is not an order; choose one of {', '.join(ORDERS)}")
    steps = len(randomisable(explainer))
    plans = {"cascading": range(1, steps + 1), "independent": range(steps), "all": [steps]}[order]
    found = []
    for step in plans:
        other = Explainer(copy.deepcopy(explainer.model), explainer.tokenizer, max_tokens=explainer.max_tokens)
        groups = randomisable(other)
        randomise(other.model, [groups[step]] if order == "independent" else groups[:step], seed)
        smooth = {"n_samples": noisy, "stdev": stdev, "seed": seed}
        found.append(smoothed_scores_many(other, inputs, methods, target=target, **smooth))  # type: ignore[arg-type]
    return stacked(found)


def randomisable(explainer: Explainer) -> list[list[nn.Module]]:
    """Modules with weights of their own, from the top: the head, each block, everything below them."""
    base, blocks = explainer.model.base_model, list(dict.fromkeys(explainer.adapter.layers()))
    inside = {module for block in blocks for module in block.modules()}
    below = set(base.modules()) - inside
    embeddings = explainer.model.get_input_embeddings()
    above = [m for m in explainer.model.modules() if m not in inside and m not in below and _own(m, embeddings)]
    pooler = [m for name, m in base.named_modules() if name.startswith("pooler") and _own(m, embeddings)]
    under = [m for m in base.modules() if m in below and m not in pooler and any(True for _ in m.parameters(False))]
    return [above + pooler, *([list(block.modules()) for block in reversed(blocks)]), under]


def _own(module: nn.Module, embeddings: nn.Module) -> bool:
    """Whether it has weights, and not those of the word embeddings."""
    weights = list(module.parameters(recurse=False))
    return bool(weights) and all(weight is not embeddings.weight for weight in weights)


def random_model(explainer: Explainer, seed: int) -> Explainer:
    """A copy of the same architecture in which every weight is drawn anew."""
    other = Explainer(copy.deepcopy(explainer.model), explainer.tokenizer, max_tokens=explainer.max_tokens)
    randomise(other.model, randomisable(other), seed)
    return other


def randomise(model: PreTrainedModel, groups: Sequence[Sequence[nn.Module]], seed: int) -> None:
    """Draw the weights of modules anew, as their model draws those of a new one."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in (module for group in groups for module in group):
            for weight in module.parameters(recurse=False):
                weight._is_hf_initialized = False  # type: ignore[attr-defined]
            model._init_weights(module)


def smoothed_scores_many(
    explainer: Explainer, inputs: Inputs, methods: Methods, *, target: Any, n_samples: int, stdev: float, seed: int
) -> Scores:
    """Mean scores [B, N] over embeddings with Gaussian noise, `stdev` of their range wide; no samples: plain scores."""
    if not n_samples:
        return scores_of_many(explainer, inputs, methods, target)
    drawn = [
        _under_noise(explainer, inputs, methods, target, stdev, seed + sample, normal) for sample in range(n_samples)
    ]
    return {label: scores.mean(1) for label, scores in stacked(drawn).items()}


def neighbour_scores_many(
    explainer: Explainer, inputs: Inputs, methods: Methods, *, target: Any, n: int = 10, radius: float = 0.02,
    seed: int = 0,
) -> Scores:  # fmt: skip
    """Scores [B, n, N] where every number of the word embeddings is moved by at most `radius` of their range."""
    drawn = [_under_noise(explainer, inputs, methods, target, radius, seed + sample, evenly) for sample in range(n)]
    return stacked(drawn)


def shuffled_label_scores_many(
    explainer: Explainer, inputs: Inputs, methods: Methods, *, target: Any, other: Explainer
) -> Scores:
    """Scores [B, N] of `other`, the same model trained on the same texts with shuffled labels.

    target has to be fixed, to what the model itself decides for: what the other one would is another question.
    InputError where the two do not read the same tokens or have not the same classes.
    """
    own, theirs = explainer.model.config, other.model.config
    for name in ("vocab_size", "num_labels"):
        if getattr(own, name) != getattr(theirs, name):
            raise InputError(
                f"the model with shuffled labels has {name}={getattr(theirs, name)}, the one explained "
                f"{getattr(own, name)}: train the same model on the same classes"
            )
    return scores_of_many(other, inputs, methods, target)


def shuffled_labels(labels: Sequence[int], seed: int = 0) -> list[int]:
    """The labels in another order, to train such a model on: as many of each class, but texts say nothing of them."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return [labels[place] for place in order.tolist()]


def other_class_scores_many(explainer: Explainer, inputs: Inputs, methods: Methods, *, target: Tensor) -> Scores:
    """Scores [B, N] of the class after the explained one [B]; of two classes the other."""
    classes = explainer.model.config.num_labels
    return scores_of_many(explainer, inputs, methods, (target + 1) % classes)


def reseeded_scores_many(
    explainer: Explainer, inputs: Inputs, methods: Methods, *, target: Any, seeds: Sequence[int] = (1, 2, 3)
) -> Scores:
    """Scores [B, S, N] with other seeds; InputError for a method without one."""
    specs = {
        label: {"method": each} if not isinstance(each, Mapping) else dict(each) for label, each in methods.items()
    }
    for spec in specs.values():
        if "seed" not in Request.of(spec).method.parameters:
            raise InputError(f"method={spec['method']} has no seed: it gives the same scores every time")
    return stacked(
        [
            scores_of_many(explainer, inputs, {label: {**spec, "seed": seed} for label, spec in specs.items()}, target)
            for seed in seeds
        ]
    )


scores_of = of_one(scores_of_many)
randomised_scores = of_one(randomised_scores_many)
smoothed_scores = of_one(smoothed_scores_many)
neighbour_scores = of_one(neighbour_scores_many)
shuffled_label_scores = of_one(shuffled_label_scores_many)
other_class_scores = of_one(other_class_scores_many)
reseeded_scores = of_one(reseeded_scores_many)


def _under_noise(
    explainer: Explainer, inputs: Inputs, methods: Methods, target: Any, size: float, seed: int, draw: Any
) -> Scores:
    """Scores [B, N]; one text at a time, so that its noise follows from the text alone."""
    require_single_pass(methods)
    rows = []
    for b in range(inputs.shape[0]):
        row, own = inputs.rows(slice(b, b + 1)), target[b : b + 1] if isinstance(target, Tensor) else target
        with added(explainer, noise_of(explainer, row, size, seed, draw)):
            rows.append(scores_of_many(explainer, row, methods, own))
    return {label: torch.cat([row[label] for row in rows]) for label in methods}


def require_single_pass(methods: Methods) -> None:
    """InputError where a method runs copies of its own, which the same noise would not reach."""
    if any(Request.of(method).method.asks for method in methods.values()):
        raise InputError(
            "noise on the embeddings: methods that run perturbed copies or other embeddings would each need noise of "
            "their own; take one that reads a single pass"
        )


def evenly(keys: Tensor, *axes: int) -> Tensor:
    """Numbers between -1 and 1, all as likely."""
    return 2 * uniform(keys, *axes) - 1


def noise_of(explainer: Explainer, row: Inputs, size: float, seed: int, draw: Any) -> Tensor:
    """What is added to the word embeddings of one text, [1, N, D]; 1 in `draw` is `size` of their range."""
    weight = explainer.model.get_input_embeddings().weight.detach()
    keys = example_keys(row.input_ids, row.attention_mask.bool(), seed)
    noise: Tensor = size * float(weight.max() - weight.min()) * draw(keys, row.shape[1], weight.shape[1])
    return noise


@contextmanager
def added(explainer: Explainer, noise: Tensor) -> Iterator[None]:
    """The model with this added to its word embeddings."""
    words = explainer.model.get_input_embeddings()
    hook = words.register_forward_hook(lambda _module, _args, output: output + noise.to(output))
    try:
        yield
    finally:
        hook.remove()
