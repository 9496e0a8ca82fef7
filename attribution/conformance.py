"""What every method owes its users, as a kit: point it at a method and a model, and read what is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution.decoding.head import LanguageModelHead
from attribution.errors import HeadlightError, InputError
from attribution.explainer import Explainer, MethodLike, Request
from attribution.methods.registry import Method
from attribution.targets import TargetLike

LENGTHS = (9, 5, 7)
TARGETS: dict[str, tuple[TargetLike, TargetLike]] = {
    "classification": (0, 1), "question_answering": ("start", "end"), "next_token": (7, 8), "masked_token": (7, 8),
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What became of one method on one model: refused for a reason, or run, with what is wrong."""

    refused: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def conforms(self) -> bool:
        """Whether it runs and nothing is wrong."""
        return self.refused is None and not self.problems


def check_method(
    method: MethodLike,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    lm_head: LanguageModelHead | None = None,
) -> list[str]:
    """What is wrong with a method on a model, as sentences; none: it conforms, or refuses the model with a reason.

    method: an id, a mapping {method: id, **parameters}, or a `Method` that is not registered.
    """
    (verdict,) = check_methods({"": method}, model, tokenizer, lm_head).values()
    return list(verdict.problems)


def check_methods(
    methods: Mapping[str, MethodLike],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    lm_head: LanguageModelHead | None = None,
    *,
    precisions: Sequence[str] = ("float32",),
) -> dict[str, Verdict]:
    """The same for several methods, by label; what they share is computed once.

    precisions: those in which the scores of a double-precision model are compared with its own.
    """
    bench = _Bench(Explainer(model, tokenizer, lm_head=lm_head), dict(methods), precisions)
    verdicts = {label: _first_run(bench, label) for label in methods}
    running = [label for label, verdict in verdicts.items() if verdict.conforms]
    problems: dict[str, list[str]] = {label: list(verdict.problems) for label, verdict in verdicts.items()}
    for check in CHECKS:
        for label, sentence in check(bench, running) if running else ():
            problems[label].append(sentence)
    return {label: Verdict(verdict.refused, tuple(problems[label])) for label, verdict in verdicts.items()}


@dataclass
class _Bench:
    """A model, the methods, and the texts they are tried on: random tokens of the vocabulary, none of them special."""

    explainer: Explainer
    methods: dict[str, MethodLike]
    precisions: Sequence[str] = ()
    failures: dict[str, str] = field(default_factory=dict)

    def method(self, label: str) -> Method:
        """What the registry knows of a method."""
        return Request.of(self.methods[label]).method

    @cached_property
    def rows(self) -> list[Tensor]:
        """Texts [1, n] of different lengths."""
        config, generator = self.explainer.model.config, torch.Generator().manual_seed(5)
        special = set(self.explainer.adapter._special_ids.tolist()) | {config.pad_token_id}
        usable = torch.tensor([id for id in range(5, min(config.vocab_size, 1000)) if id not in special])
        rows = [usable[torch.randint(len(usable), (1, n), generator=generator)] for n in LENGTHS]
        if self.explainer.adapter.task == "masked_token":
            for row in rows:
                row[0, 2] = self._mask
        return rows

    @property
    def _mask(self) -> int:
        if self.explainer.adapter.mask_id is None:
            raise InputError("model: a masked language model is checked with its tokenizer, which knows the mask")
        return self.explainer.adapter.mask_id

    def batch(self, side: str = "right", extra: int = 2) -> tuple[Tensor, Tensor]:
        """All texts, padded on a side: ids and mask, [B, N]."""
        width = max(LENGTHS) + extra
        ids = torch.full((len(LENGTHS), width), self.explainer.adapter.pad_id or 0)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(self.rows):
            where = slice(0, row.shape[1]) if side == "right" else slice(width - row.shape[1], width)
            ids[i, where], mask[i, where] = row[0], 1
        return ids, mask

    @property
    def targets(self) -> tuple[TargetLike, TargetLike]:
        """Two targets that fit the task."""
        return TARGETS[self.explainer.adapter.task]

    def scores(
        self, labels: list[str], ids: Tensor, mask: Tensor, explainer: Explainer | None = None, **options: Any
    ) -> dict[str, Tensor]:
        """Scores by label, shared; a method that fails is left out from then on, and its failure kept."""
        device = self.explainer.adapter.device
        ask = {label: self.methods[label] for label in labels if label not in self.failures}
        run = (explainer or self.explainer).scores_many
        try:
            found = run(ids.to(device), mask.to(device), methods=ask, **options)
        except Exception:
            found = {}
            for label, method in ask.items():
                try:
                    found |= run(ids.to(device), mask.to(device), methods={label: method}, **options)
                except Exception as error:
                    self.failures[label] = f"raises {type(error).__name__}: {error} (with {_described(options)})"
        return {label: scores.cpu() for label, scores in found.items()}

    @cached_property
    def plain(self) -> dict[str, Tensor]:
        """Scores [B, N] of the first target, padded on the right."""
        return self.scores(list(self.methods), *self.batch(), target=self.targets[0])

    def tolerance(self, label: str, dtype: str | None = None) -> float:
        """How far this method's scores may move on a model of this precision; None: the model's own."""
        largest = float(self.plain[label].abs().max())
        return self.method(label).precision.allowed(dtype or self.explainer.adapter.dtype_name, largest)


Found = Iterator[tuple[str, str]]
Check = Callable[[_Bench, list[str]], Found]


def _first_run(bench: _Bench, label: str) -> Verdict:
    """One method alone on one text: does it run, what does it return, and what does it leave behind?"""
    model, row = bench.explainer.model, bench.rows[0].to(bench.explainer.adapter.device)
    before = _state(model)
    try:
        scores = bench.explainer.scores_many(row, methods={"": bench.methods[label]}, target=bench.targets[0])[""]
    except HeadlightError as error:
        bench.failures[label] = str(error)
        return Verdict(refused=str(error), problems=_left_behind(before, model))
    except Exception as error:
        bench.failures[label] = str(error)
        return Verdict(problems=(f"raises {type(error).__name__}: {error}",))
    problems = [*_left_behind(before, model)]
    if scores.shape != row.shape:
        bench.failures[label] = "shape"
        problems.append(f"returns shape {list(scores.shape)} for a text of shape {list(row.shape)}")
    return Verdict(problems=tuple(problems))


def _state(model: PreTrainedModel) -> dict[str, Any]:
    """Everything of a model that explaining it must leave as it is."""
    state: dict[str, Any] = {"the attention implementation": model.config._attn_implementation}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[f"the values of {name}"] = (tensor._version, tensor.data_ptr())
        state[f"requires_grad of {name}"] = tensor.requires_grad
        state[f"the gradient of {name}"] = tensor.grad is None
    for name, module in model.named_modules():
        hooks = [kind for kind in vars(module) if kind.endswith("_hooks")]
        state[f"the hooks of {name or 'the model'}"] = tuple(len(getattr(module, kind) or ()) for kind in hooks)
        state[f"the forward of {name or 'the model'}"] = "forward" in vars(module)
        state[f"the training mode of {name or 'the model'}"] = module.training
    return state


def _left_behind(before: dict[str, Any], model: PreTrainedModel) -> tuple[str, ...]:
    after = _state(model)
    return tuple(f"changes {name}" for name, value in before.items() if after[name] != value)


def _output(bench: _Bench, labels: list[str]) -> Found:
    """Shape, dtype, finite values, sign, and zeros on padding."""
    ids, mask = bench.batch()
    for label, scores in bench.plain.items():
        expected = bench.explainer.adapter.score_dtype
        if scores.shape != ids.shape or scores.dtype != expected:
            yield label, f"returns {scores.dtype} {list(scores.shape)}, not {expected} {list(ids.shape)}"
        if not bool(scores.isfinite().all()):
            yield label, "returns values that are not finite"
        if bool(scores[mask == 0].any()):
            yield label, "gives padding a score"
        if not bench.method(label).signed and bool((scores < 0).any()):
            yield label, "returns negative scores but is not registered as signed"


def _determinism(bench: _Bench, labels: list[str]) -> Found:
    again = bench.scores(labels, *bench.batch(), target=bench.targets[0])
    for label, scores in again.items():
        if not torch.equal(scores, bench.plain[label]):
            yield label, f"gives other scores the second time, by {_apart(scores, bench.plain[label]):.1e}"


def _padding(bench: _Bench, labels: list[str]) -> Found:
    """A text's scores do not depend on the side and amount of padding, nor on the texts beside it."""
    _, mask = bench.batch()
    left, left_mask = bench.batch("left", extra=5)
    for label, scores in bench.scores(labels, left, left_mask, target=bench.targets[0]).items():
        apart = _apart(scores[left_mask == 1], bench.plain[label][mask == 1])
        if not apart <= bench.tolerance(label):
            yield label, f"depends on the side of the padding, by {apart:.1e}"
    for i, row in enumerate(bench.rows):
        alone = bench.scores(labels, row, torch.ones_like(row), target=bench.targets[0])
        for label, scores in alone.items():
            apart = _apart(scores[0], bench.plain[label][i][mask[i] == 1])
            if not apart <= bench.tolerance(label):
                yield label, f"gives text {i} alone other scores than in a batch, by {apart:.1e}"


def _targets(bench: _Bench, labels: list[str]) -> Found:
    """Several targets are the single ones; only methods that are blind to the class give the same for all."""
    first, second = bench.targets
    together = bench.scores(labels, *bench.batch(), target=[first, second])
    other = bench.scores(labels, *bench.batch(), target=second)
    one_row = bench.explainer.adapter.is_qa  # start and end are read at different positions
    for label in together.keys() & other.keys():
        both, method = together[label], bench.method(label)
        for number, single in enumerate((bench.plain[label], other[label])):
            if not (apart := _apart(both[:, number], single)) <= bench.tolerance(label):
                yield label, f"explains target {number} otherwise when several are asked for, by {apart:.1e}"
        same = torch.equal(both[:, 0], both[:, 1])
        if method.class_blind and not same and not one_row:
            yield label, "is registered as blind to the class but tells classes apart"
        if not method.class_blind and same:
            yield label, "gives every class the same scores but is not registered as blind to it"


def _special_tokens(bench: _Bench, labels: list[str]) -> Found:
    """Marked special tokens either change nothing, or are left out with a score of 0."""
    ids, mask = bench.batch()
    special = torch.zeros_like(ids)
    special[:, 1] = 1
    marked = bench.scores(
        labels, ids, mask, target=bench.targets[0], special_tokens_mask=special.to(bench.explainer.adapter.device)
    )
    for label, scores in marked.items():
        ignored = _apart(scores, bench.plain[label]) <= bench.tolerance(label)
        if not ignored and bool(scores[special == 1].any()):
            yield label, "changes its scores for special tokens and yet gives them one"


def _precision(bench: _Bench, labels: list[str]) -> Found:
    """A double-precision model's scores are, nearly, those of the same model in other precisions."""
    if bench.explainer.adapter.dtype != torch.float64:
        return
    for dtype in bench.precisions:
        model, given = copy.deepcopy(bench.explainer.model).to(getattr(torch, dtype)), bench.explainer
        offered = [label for label in labels if bench.method(label).precision.refusal(dtype) is None]
        narrow = Explainer(model, given.tokenizer, lm_head=given.adapter.lm_head)
        for label, scores in bench.scores(offered, *bench.batch(), explainer=narrow, target=bench.targets[0]).items():
            apart, allowed = _apart(scores.double(), bench.plain[label]), bench.tolerance(label, dtype)
            if not apart <= allowed:
                yield label, f"moves by {apart:.1e} in {dtype}; {allowed:.1e} is allowed"


def _failures(bench: _Bench, labels: list[str]) -> Found:
    """What was raised on the way."""
    for label in labels:
        if label in bench.failures:
            yield label, bench.failures[label]


CHECKS: tuple[Check, ...] = (
    _output, _determinism, _padding, _targets, _special_tokens, _precision, _failures,
)  # fmt: skip


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _described(options: Mapping[str, Any]) -> str:
    return ", ".join(name if isinstance(value, Tensor) else f"{name}={value}" for name, value in options.items())
