"""The one object people hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution import loading
from attribution.asking import Asking, Scored, Surroundings, conduct
from attribution.capture import BACKWARDS, UNMASKED_RELEVANCE, Capture, Need, Trace, trace
from attribution.carried import Carried
from attribution.decoding.head import LanguageModelHead, read_head
from attribution.encoding import explanations_of
from attribution.errors import InputError
from attribution.explanation import Explanation
from attribution.long_texts import explained_texts
from attribution.methods import Method
from attribution.methods.layers import lowest_layer
from attribution.methods.mixing import Mixing, mixing_of
from attribution.methods.registry import check_parameters, check_precision, method_of
from attribution.model.adapter import ModelAdapter, align, restore
from attribution.model.inputs import Inputs
from attribution.passes import Memory
from attribution.relevance.node import AbsoluteWeights
from attribution.targets import Part, TargetLike, in_aligned_columns, of_rows, parts, token_columns

MethodLike = str | Method | Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """A method with the parameters asked for."""

    method: Method
    parameters: dict[str, Any]

    @classmethod
    def of(cls, spec: MethodLike) -> Request:
        """From a method id, a method, or a mapping {method: id, **parameters}."""
        given = {"method": spec} if isinstance(spec, (str, Method)) else dict(spec)
        if "method" not in given:
            raise InputError(f"a method is an id or a mapping with the key 'method', not {given}")
        method = method_of(given.pop("method"))
        check_parameters(method, given)
        return cls(method, given)


class Explainer:
    """Explains the predictions of a loaded Hugging Face model; the model is as before after every call.

    max_tokens: how many tokens (rows times padded length) one pass takes; longer batches are split. lm_head: what reads
    hidden states as words, for the methods that do: the pre-trained checkpoint, or a head.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        max_tokens: int = 8192,
        lm_head: LanguageModelHead | str | Path | None = None,
    ) -> None:
        self.adapter = ModelAdapter(model, tokenizer)
        self.max_tokens = max_tokens
        self.memory: Memory | None = None
        self.adapter.lm_head = read_head(lm_head, self.adapter) if isinstance(lm_head, (str, Path)) else lm_head
        self._absolute = AbsoluteWeights()

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        lm_head: str | Path | None = None,
    ) -> Explainer:
        """From a folder or a hub id. Weights are read from safetensors only; no code of the repository runs."""
        return cls(*loading.load(path_or_id, revision=revision, dtype=dtype, device=device), lm_head=lm_head)

    @property
    def model(self) -> PreTrainedModel:
        """The model explained."""
        return self.adapter.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Its tokenizer, if one was given."""
        return self.adapter.tokenizer

    @contextmanager
    def remembering(self) -> Iterator[Memory]:
        """Inside, no perturbed copy is run twice, whichever method or metric asks for it; see `Memory.counts.saved`."""
        before, self.memory = self.memory, Memory()
        try:
            yield self.memory
        finally:
            self.memory = before

    def scores(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        method: str,
        target: TargetLike | Sequence[TargetLike] = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
        word_ids: Tensor | None = None,
        sentence_ids: Tensor | None = None,
        output: str = "logit",
        **params: Any,
    ) -> Tensor:
        """Scores [B, N] of one method, [B, T, N] for several targets; padding, on either side, scores 0.

        input_ids and what belongs to them: [B, N], see `Inputs`; word_ids and sentence_ids for methods with `unit`.
        Dtype: float32, or the model's if wider. target: see `Target`; None is the predicted class or span.
        """
        return self.scores_many(
            input_ids,
            attention_mask,
            methods={method: {"method": method, **params}},
            target=target,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            special_tokens_mask=special_tokens_mask,
            word_ids=word_ids,
            sentence_ids=sentence_ids,
            output=output,
        )[method]

    def scores_many(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        methods: Mapping[str, MethodLike],
        target: TargetLike | Sequence[TargetLike] = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
        word_ids: Tensor | None = None,
        sentence_ids: Tensor | None = None,
        output: str = "logit",
    ) -> dict[str, Tensor]:
        """Scores of several methods from one shared capture, by label; see `scores`."""
        scored = self.scored_many(
            input_ids,
            attention_mask,
            methods=methods,
            target=target,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            special_tokens_mask=special_tokens_mask,
            word_ids=word_ids,
            sentence_ids=sentence_ids,
            output=output,
        )
        return {label: each.scores for label, each in scored.items()}

    def scored_many(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        methods: Mapping[str, MethodLike],
        target: TargetLike | Sequence[TargetLike] = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
        word_ids: Tensor | None = None,
        sentence_ids: Tensor | None = None,
        output: str = "logit",
    ) -> dict[str, Scored]:
        """As `scores_many`, with what else the methods know of each example: facts by name, [B] or [B, T]."""
        requests = {label: Request.of(spec) for label, spec in methods.items()}
        for request in requests.values():
            check_precision(request.method, self.adapter.dtype_name)
        inputs = Inputs.of(
            input_ids,
            attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            special_tokens_mask=special_tokens_mask,
            word_ids=word_ids,
            sentence_ids=sentence_ids,
        )
        self._check(inputs)
        targets, several = self._targets(target)
        chunks = [self._chunk(inputs.rows(rows), rows, requests, targets, output) for rows in self._rows(inputs)]
        joined = {label: _joined([chunk[label] for chunk in chunks], torch.cat) for label in requests}
        return joined if several else {label: _first_target(scored) for label, scored in joined.items()}

    def explain(
        self,
        texts: Sequence[str | tuple[str, str]],
        *,
        method: str,
        target: TargetLike = None,
        level: str = "token",
        aggregation: str = "sum",
        max_length: int | None = None,
        long_texts: str = "truncate",
        stride: int | None = None,
        **params: Any,
    ) -> list[Explanation]:
        """Explain texts, or pairs of texts (question and context), at `level` token, word or sentence.

        aggregation: how tokens make a word's or sentence's score: sum, mean, max or signed_max. long_texts: what
        becomes of texts longer than `max_length` tokens (None: what the model takes): `truncate` cuts off their ends,
        `windows` explains them in windows that share `stride` tokens, see `attribution.windows`.
        """
        request = Request.of({"method": method, **params})
        found = explained_texts(self, texts, request, target, max_length, long_texts, stride)
        about: dict[str, Any] = {"method": request.method.id, "params": params}
        return explanations_of(*found, level=level, aggregation=aggregation, **about)

    def context_mixing(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        method: str,
        rows: Sequence[int] | Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        target: TargetLike = None,
        **params: Any,
    ) -> Tensor:
        """What every token takes from every other in each layer, [B, L, N, N]: row i is token i, column j its source.

        rows: positions, or a tensor [B, R] of them; [B, L, R, N] comes back, at the cost of R rows. Rows and columns of
        padding are 0. target: for the methods that have one (`grad_rollout`).
        """
        mixing = mixing_of(method, list(params))
        inputs = Inputs.of(input_ids, attention_mask, token_type_ids=token_type_ids, position_ids=position_ids)
        self._check(inputs)
        asked = None if rows is None else _asked_rows(rows, inputs)
        found = []
        for part in self._rows(inputs):
            own = None if asked is None else asked[part]
            found.append(self._mixing(mixing, inputs.rows(part), own, of_rows(target, part), params))
        return torch.cat(found)

    def _mixing(
        self, mixing: Mixing, inputs: Inputs, rows: Tensor | None, target: TargetLike, params: dict[str, Any]
    ) -> Tensor:
        """[b, L, R, N] of one pass."""
        aligned, index = align(inputs.to(self.adapter.device))
        if rows is None:
            maps = self._maps(mixing, aligned, None, in_aligned_columns(target, self.adapter.task, index), params)
            return restore(restore(maps, index, dim=2), index, dim=3)
        rows = rows.to(self.adapter.device)
        rows = rows if index is None else (rows - index[:, :1]) % aligned.shape[1]
        if mixing.row and rows.shape[1] == 1 and self.adapter.dtype == self.adapter.score_dtype:
            return restore(mixing.row(self.adapter, aligned, rows, **params), index, dim=3)
        maps = self._maps(mixing, aligned, rows, in_aligned_columns(target, self.adapter.task, index), params)
        return restore(maps, index, dim=3)

    def _maps(
        self, mixing: Mixing, aligned: Inputs, rows: Tensor | None, target: TargetLike, params: dict[str, Any]
    ) -> Tensor:
        """[b, L, R, N] from a capture, all queries if `rows` is None; the parts of a span add up."""
        run = trace(self.adapter, aligned, mixing.needs, self._absolute, columns=self._columns(aligned, [target]))
        seeds = self._parts(run, target, "logit")[: 1 if mixing.class_blind else None]
        found = [mixing.maps(Capture(run, part, mixing.needs), rows, **params) for part in seeds]
        return torch.stack(found).sum(0).to(self.adapter.score_dtype)

    def _targets(self, target: TargetLike | Sequence[TargetLike]) -> tuple[list[TargetLike], bool]:
        if isinstance(target, Tensor) and target.ndim == 2 and not self.adapter.is_qa:
            return list(target.T), True
        if isinstance(target, (list, tuple)):
            return list(target), True
        return [target], False  # type: ignore[list-item]

    def _check(self, inputs: Inputs) -> None:
        ids = inputs.input_ids
        if ids.ndim != 2 or not len(ids):
            raise InputError(f"input_ids has shape {list(ids.shape)}; a batch [B, N] of at least one row is needed")
        for name, value in inputs.present().items():
            if value.shape != ids.shape:
                raise InputError(f"{name} has shape {list(value.shape)}; input_ids has {list(ids.shape)}")
        if not bool(inputs.attention_mask.any(1).all()):
            raise InputError("attention_mask hides every token of a row")

    def _rows(self, inputs: Inputs) -> Iterator[slice]:
        size = max(1, self.max_tokens // inputs.shape[1])
        return (slice(start, start + size) for start in range(0, inputs.shape[0], size))

    def _chunk(
        self, inputs: Inputs, rows: slice, requests: dict[str, Request], targets: list[TargetLike], output: str
    ) -> dict[str, Scored]:
        """Scores [b, T, N] and facts [b, T] of one pass, by label."""
        aligned, index = align(inputs.to(self.adapter.device))
        chosen = [in_aligned_columns(of_rows(target, rows), self.adapter.task, index) for target in targets]
        asked = {label: _select_parameters(request, rows) for label, request in requests.items()}
        found: dict[str, Scored] = {}
        for sharing in _passes(asked):
            found |= self._pass(aligned, sharing, chosen, output)
        return {label: replace(found[label], scores=restore(found[label].scores, index, dim=2)) for label in asked}

    def _pass(
        self, aligned: Inputs, asked: dict[str, Request], chosen: Sequence[TargetLike], output: str
    ) -> dict[str, Scored]:
        """Scores [b, T, N] and facts [b, T] of left-aligned rows, by label."""
        needs = _union(request.method.needs for request in asked.values())
        keep = _relevance_passes(asked, len(chosen)) > 1
        columns = self._columns(aligned, chosen)
        lowest = lowest_layer(((each.method, each.parameters) for each in asked.values()), self.adapter)
        run = trace(self.adapter, aligned, needs, self._absolute, keep=keep, columns=columns, lowest=lowest)
        per_target = self._read(run, chosen, asked, needs, output)
        return {label: _joined([one[label] for one in per_target], partial(torch.stack, dim=1)) for label in asked}

    def _columns(self, aligned: Inputs, targets: Sequence[TargetLike]) -> Tensor | None:
        if not self.adapter.is_generative:
            return None
        visible, read_out = aligned.attention_mask.bool(), self.adapter.read_out(aligned)
        return token_columns(targets, visible, read_out, self.adapter.task)

    def _parts(self, run: Trace, target: TargetLike, output: str) -> list[Part]:
        position, logits = self.adapter.read_out(run.inputs), run.logits.detach()
        options: dict[str, Any] = {"columns": run.columns, "task": self.adapter.task}
        options["independent"] = self.adapter.multi_label
        return parts(target, logits, run.visible, position, output, **options)

    def _read(
        self, run: Trace, targets: Sequence[TargetLike], requests: dict[str, Request], needs: Need, output: str
    ) -> list[dict[str, Scored]]:
        """Scores [b, N] for each target, by label; the parts of a span add up."""
        total: list[dict[str, Scored]] = [{} for _ in targets]
        asking: list[tuple[int, str, Part, Asking]] = []
        explained = [(n, part) for n, target in enumerate(targets) for part in self._parts(run, target, output)]
        carried = Carried(run, [part for _, part in explained])
        for number, part in explained:
            capture = Capture(run, part, needs, carried)
            for label, request in requests.items():
                found = request.method.readout(capture, **request.parameters)
                if request.method.asks:
                    asking.append((number, label, part, found))
                else:
                    self._add(total[number], label, found, run.visible)
        around = Surroundings(self.adapter, run.inputs, self.max_tokens, run.columns, self.memory)
        found_by_asking, _ = conduct(around, [(part, method) for *_, part, method in asking])
        for (number, label, *_), found in zip(asking, found_by_asking, strict=True):
            self._add(total[number], label, found, run.visible)
        return total

    def _add(self, total: dict[str, Scored], label: str, found: Tensor | Scored, visible: Tensor) -> None:
        """Add a part's scores [b, N], 0 on padding, and its facts to those of its target."""
        own = found if isinstance(found, Scored) else Scored(found, {})
        facts = {name: value.detach() for name, value in own.facts.items()}
        if own.scores.shape != visible.shape:
            raise ValueError(f"{label} returned scores {list(own.scores.shape)} for rows {list(visible.shape)}")
        scores, before = own.scores.detach().to(self.adapter.score_dtype) * visible, total.get(label)
        if before is None:
            total[label] = Scored(scores, facts)
        else:
            added = {name: before.facts[name] + value for name, value in facts.items()}
            total[label] = Scored(before.scores + scores, added)


def _asked_rows(rows: Sequence[int] | Tensor, inputs: Inputs) -> Tensor:
    """[B, R] positions, from a list of them or as they are."""
    asked, (batch, length) = torch.as_tensor(rows, dtype=torch.long), inputs.shape
    asked = asked.expand(batch, -1) if asked.ndim == 1 else asked
    if asked.ndim != 2 or len(asked) != batch or not asked.shape[1]:
        raise InputError(f"rows: a list of positions or a tensor [{batch}, R] is needed, not {list(asked.shape)}")
    if bool(((asked < 0) | (asked >= length)).any()):
        raise InputError(f"rows={sorted(set(asked.flatten().tolist()))} are not all between 0 and {length - 1}")
    return asked


def _joined(scored: Sequence[Scored], join: Callable[[list[Tensor]], Tensor]) -> Scored:
    names = scored[0].facts
    return Scored(join([one.scores for one in scored]), {n: join([one.facts[n] for one in scored]) for n in names})


def _first_target(scored: Scored) -> Scored:
    """[B, N] and [B] of [B, 1, N] and [B, 1]."""
    return Scored(scored.scores[:, 0], {name: value[:, 0] for name, value in scored.facts.items()})


def _passes(requests: Mapping[str, Request]) -> list[dict[str, Request]]:
    """What shares a forward: gradients of layers have their own where others record all of it.

    Theirs are the plain gradients, which recording changes in the last digits: scores are not to depend on the company.
    """
    layers = {label: each for label, each in requests.items() if Need.LAYER_GRADIENT in each.method.needs}
    others = {label: each for label, each in requests.items() if label not in layers}
    if layers and _union(each.method.needs for each in others.values()) & BACKWARDS:
        return [others, layers]
    return [dict(requests)]


def _union(needs: Iterable[Need]) -> Need:
    union = Need.NOTHING
    for need in needs:
        union |= need
    return union


def _relevance_passes(requests: Mapping[str, Request], n_targets: int) -> int:
    """How many relevance passes one forward will see."""
    unmasked = any(request.method.needs & UNMASKED_RELEVANCE for request in requests.values())
    masked = sum(request.method.needs_heads for request in requests.values())
    return (int(unmasked) + masked) * n_targets


def _select_parameters(request: Request, rows: slice) -> Request:
    """The rows' part of per-example parameters, such as a head mask [B, L, H]."""
    mask = request.parameters.get("head_mask")
    if mask is None or torch.as_tensor(mask).ndim != 3:
        return request
    return replace(request, parameters={**request.parameters, "head_mask": torch.as_tensor(mask)[rows]})
