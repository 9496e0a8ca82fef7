"""Runs perturbed copies of inputs: each distinct copy once, in passes of fixed shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.errors import InputError
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

OPERATORS = {  # in order of preference; operators with a token put it in place
    "mask": "mask_id",
    "delete": None,
    "unk": "unk_id",
    "pad": "pad_id",
    "attention_mask_out": None,  # the token stays where it is, and no token attends to it
}
BUCKET_STEPS = ((32, 4), (128, 8), (256, 16))  # rows up to this length are padded to a multiple of this
LONGEST_STEP = 32
SHORT = 16  # the few very short rows would mostly be filler in a full pass
BATCH_TOKENS = {"cpu": 256}  # enough to keep a core busy; more would mostly add filler rows
BATCH_TOKENS_ELSEWHERE = 8192


@dataclass(frozen=True)
class Marks:
    """Integers of each row: `positions` [R, T] are columns and move along with the text, `labels` [R, U] stay.

    `reads` [R, P] are the columns whose next token is asked for; a deleted one gives way to the last left before it.
    """

    positions: Tensor | None = None
    labels: Tensor | None = None
    reads: Tensor | None = None

    def present(self) -> dict[str, Tensor]:
        """The fields that are set, by name."""
        return {name: value for name in ("positions", "labels", "reads") if (value := getattr(self, name)) is not None}

    def rows(self, index: Tensor) -> Marks:
        """Those of the rows selected by `index`."""
        return Marks(**{name: value[index.to(value.device)] for name, value in self.present().items()})

    def to(self, device: torch.device | str) -> Marks:
        """The same on another device."""
        return Marks(**{name: value.to(device) for name, value in self.present().items()})


Read = Callable[[Tensor, Inputs, Marks], Tensor]


@dataclass(frozen=True)
class Perturbation:
    """Copies of base rows: `rows` [R] names the base row of each, `touched` bool [R, N] its perturbed tokens."""

    rows: Tensor
    touched: Tensor
    operator: str


@dataclass(frozen=True)
class PassCounts:
    """What a run cost: rows asked for, distinct rows, model passes, their real tokens and all their positions."""

    requested: int = 0
    distinct: int = 0
    passes: int = 0
    tokens: int = 0
    positions: int = 0

    @property
    def padding(self) -> float:
        """Share of the computed positions that is padding, rows that only fill up a pass included."""
        return 1 - self.tokens / self.positions if self.positions else 0.0

    def __add__(self, other: PassCounts) -> PassCounts:
        return PassCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def available_operators(adapter: ModelAdapter) -> list[str]:
    """The operators this model can be perturbed with, the default first."""
    return [name for name in OPERATORS if refusal(adapter, name) is None]


def refusal(adapter: ModelAdapter, operator: str) -> str | None:
    """Why an operator does not work on this model; None where it does."""
    token = OPERATORS[operator]
    if operator == "delete":
        moves = adapter.task == "question_answering"
        return "deleting tokens would move the positions that question answering explains" if moves else None
    if token is None:
        hides = adapter.causal or adapter.task == "question_answering"
        return "it would hide the position that decoders and question answering are read at" if hides else None
    if getattr(adapter, token) is None:
        return f"the tokenizer has no {operator} token"
    if adapter.causal and adapter.task == "classification" and getattr(adapter, token) == adapter.pad_id:
        return "a decoder's classifier reads its last token that is not padding; padding in place moves the read-out"
    return None


def resolve_operator(adapter: ModelAdapter, operator: str | None) -> str:
    """The operator asked for, or the model's default; InputError where it cannot be used."""
    choices = available_operators(adapter)
    if not choices:
        raise InputError("operator: this model has no mask, unk or pad token to replace tokens with; give a tokenizer")
    if operator is None:
        return choices[0]
    reason = refusal(adapter, operator) if operator in OPERATORS else "there is no such operator"
    if reason is not None:
        raise InputError(f"operator={operator} cannot be used: {reason}. Choose one of {', '.join(choices)}")
    return operator


def read_classes(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Logits [R, C] with their log-probabilities: [R, 2, C], float32 or wider."""
    wide = _widen(logits)
    return torch.stack((wide, wide.log_softmax(-1)), 1)


def read_labels(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Logits [R, C] of labels that do not exclude each other, with the logarithms of their sigmoids: [R, 2, C]."""
    wide = _widen(logits)
    return torch.stack((wide, F.logsigmoid(wide)), 1)


def read_next_tokens(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Logits [R, 1, V] at the tokens `labels` [R, 1] alone, with their log-probabilities: [R, 2, 1]."""
    assert marks.labels is not None
    wide = _widen(logits[:, 0])
    return torch.stack((wide, wide.log_softmax(-1)), 1).gather(2, marks.labels[:, None].expand(-1, 2, -1))


def read_best_tokens(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """The two likeliest next tokens of logits [R, 1, V], the likeliest first: [R, 2]."""
    return logits[:, 0].topk(2, dim=-1).indices


def read_span(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Start and end logits [R, N, 2] at the positions [R, 2], with log-probabilities over the attended: [R, 2, 2]."""
    positions = marks.positions
    assert positions is not None
    attended = _attended_only(logits, batch)
    both = torch.stack((attended, attended.log_softmax(1)), 1)
    return both.gather(2, positions[:, None, None, :].expand(-1, 2, -1, -1)).squeeze(2)


def read_best_span(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Columns of the best attended start and end: [R, 2]."""
    return _attended_only(logits, batch).argmax(1)


def run_perturbed(
    adapter: ModelAdapter,
    base: Inputs,
    perturbations: Sequence[Perturbation],
    read: Read = read_classes,
    *,
    marks: Marks = Marks(),
    batch_tokens: int | None = None,
) -> tuple[list[Tensor], PassCounts]:
    """`read` of every perturbed row, one tensor [R, ...] per perturbation, and what it cost.

    `marks` are those of the base rows; `read` gets them for its rows. Rows are laid out from the left without the
    padding of their base, so that neither its side nor its amount matters. A pass has a shape that follows from its
    rows' length alone: a row's result does not depend on the rows it is run with.
    """
    parts = [_copies(adapter, base, perturbation, marks) for perturbation in perturbations]
    copies = _Copies.joined(parts)
    first, inverse = distinct_rows(copies.identity())
    values, counts = _run(adapter, copies.take(first), read, batch_tokens or default_batch_tokens(adapter))
    sizes = [len(part.lengths) for part in parts]
    return list(torch.split(values.to(inverse.device)[inverse], sizes)), replace(counts, requested=len(inverse))


def distinct_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of [R, M] that differ from all before, as indexes [D], and for each row which of them it equals, [R].

    Rows are grouped by hash and compared with the first of their group; those that only share the hash go another
    round, so the answer is exact whatever the hash does.
    """
    equal_to = torch.empty(len(matrix), dtype=torch.long, device=matrix.device)
    pending = torch.arange(len(matrix), device=matrix.device)
    while len(pending):
        groups, group = torch.unique(row_hash(matrix[pending]), return_inverse=True)
        heads = pending.new_full((len(groups),), len(matrix)).scatter_reduce(0, group, pending, "amin")[group]
        same = (matrix[pending] == matrix[heads]).all(1)
        equal_to[pending[same]] = heads[same]
        pending = pending[~same]
    first, inverse = torch.unique(equal_to, return_inverse=True)
    return first, inverse


def row_hash(matrix: Tensor) -> Tensor:
    """64-bit hash [R] of the rows of an integer matrix [R, M]: a sum with random odd weights, modulo 2**64."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (matrix.shape[1],), generator=generator).to(matrix.device) * 2 + 1
    return torch.cat([(part * weights).sum(1) for part in torch.split(matrix, 4096)])


def bucket_widths(lengths: Tensor, limit: int | None = None) -> Tensor:
    """The padded length of rows of these lengths [R]; never above `limit`, the positions the model has."""
    step = torch.full_like(lengths, LONGEST_STEP)
    for up_to, smaller in reversed(BUCKET_STEPS):
        step = torch.where(lengths <= up_to, smaller, step)
    widths = (lengths + step - 1) // step * step
    return widths if limit is None else torch.maximum(lengths, widths.clamp(max=limit))


def rows_per_pass(width: int, batch_tokens: int) -> int:
    """How many rows of a width one pass takes: a power of two within the budget, short rows counted as SHORT long."""
    return 1 << (max(1, batch_tokens // max(width, SHORT)).bit_length() - 1)


@dataclass(frozen=True)
class _Copies:
    """Perturbed rows laid out from the left: `inputs` [R, N], `lengths` [R], and their marks."""

    inputs: Inputs
    lengths: Tensor
    marks: Marks

    @classmethod
    def joined(cls, parts: Sequence[_Copies]) -> _Copies:
        fields = {name: torch.cat([p.inputs.present()[name] for p in parts]) for name in parts[0].inputs.present()}
        marks = {name: torch.cat([p.marks.present()[name] for p in parts]) for name in parts[0].marks.present()}
        return cls(Inputs(**fields), torch.cat([p.lengths for p in parts]), Marks(**marks))

    def identity(self) -> Tensor:
        """Everything that the result of a row depends on, as one integer matrix."""
        marks = [mark.int() for mark in self.marks.present().values()]
        return torch.cat([*self.inputs.present().values(), self.lengths[:, None].int(), *marks], 1)

    def take(self, index: Tensor) -> _Copies:
        return _Copies(self.inputs.rows(index), self.lengths[index], self.marks.rows(index))

    def batch(self, width: int, fill: dict[str, int]) -> Inputs:
        """The rows as model inputs of this width."""
        missing = width - self.inputs.shape[1]
        fields = self.inputs.present()
        return Inputs(**{name: F.pad(v, (0, missing), value=fill.get(name, 0)).long() for name, v in fields.items()})


def _copies(adapter: ModelAdapter, base: Inputs, perturbation: Perturbation, marks: Marks) -> _Copies:
    operator = resolve_operator(adapter, perturbation.operator)
    rows, touched, token = perturbation.rows, perturbation.touched, OPERATORS[operator]
    extent = _extent(base.attention_mask)[rows]
    ids = base.input_ids[rows] if token is None else base.input_ids[rows].masked_fill(touched, getattr(adapter, token))
    own = marks.to(rows.device).rows(rows)
    keep, ids = _without(adapter, extent, touched, ids, own.reads) if operator == "delete" else (extent, ids)
    lengths = keep.sum(1)
    fields = {"input_ids": _packed(ids, keep, _fill(adapter)["input_ids"])}
    for name in ("attention_mask", "token_type_ids"):
        if (value := getattr(base, name)) is not None:
            fields[name] = _packed(value[rows], keep, 0)
    if operator == "attention_mask_out":
        fields["attention_mask"] *= _packed((~touched).long(), keep, 0)
        if not bool(fields["attention_mask"][:, 0].all()):
            raise InputError(f"operator={operator}: the first token, which is read out, cannot be hidden")
    if base.position_ids is not None:  # numbered anew: the i-th token left gets the i-th position
        within = torch.arange(keep.shape[1], device=keep.device) < lengths[:, None]
        fields["position_ids"] = _packed(base.position_ids[rows], extent, 0) * within
    moved = own if own.positions is None else replace(own, positions=_moved(own.positions, keep))
    moved = moved if own.reads is None else replace(moved, reads=_last_before(own.reads, keep))
    return _Copies(Inputs(**{name: value.int() for name, value in fields.items()}), lengths, moved)


def _without(
    adapter: ModelAdapter, extent: Tensor, touched: Tensor, ids: Tensor, reads: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What is kept where the touched are deleted, and the ids.

    A decoder that would have nothing to read, at the first of the columns `reads` or at all, has its start token.
    """
    keep, place = extent & ~touched, torch.arange(ids.shape[1], device=ids.device)
    until = place[-1:].expand(len(ids)) if reads is None else reads.amin(1)
    empty = ~(keep & (place <= until[:, None])).any(1, keepdim=True)
    if bool(empty.any()) and adapter.start_id is None:
        raise InputError("operator=delete: a text would have no token left; perturb fewer tokens")
    start = empty & extent & (extent.cumsum(1) == 1)
    return keep | start, ids if adapter.start_id is None else ids.masked_fill(start, adapter.start_id)


def _extent(attention_mask: Tensor) -> Tensor:
    """From the first to the last attended column: padding is outside, hidden tokens are inside. Bool [B, N]."""
    attended = attention_mask.bool().int()
    return (attended.cumsum(1) > 0) & (attended.flip(1).cumsum(1).flip(1) > 0)


def _packed(values: Tensor, keep: Tensor, fill: int) -> Tensor:
    """The kept entries of each row moved to the left, in order; the rest is `fill`."""
    n = keep.shape[1]
    slots = torch.where(keep, keep.cumsum(1) - 1, n)
    return values.new_full((len(values), n + 1), fill).scatter(1, slots, values)[:, :n]


def _moved(positions: Tensor, keep: Tensor) -> Tensor:
    """Where the given columns [R, T] are once the kept ones are packed to the left."""
    if not bool(keep.gather(1, positions).all()):
        raise InputError("target: an explained position lies on padding or on a deleted token")
    return (keep.cumsum(1) - 1).gather(1, positions)


def _last_before(columns: Tensor, keep: Tensor) -> Tensor:
    """Where the last kept token is that stands at or before each of the columns [R, P], once the kept are packed."""
    left = (keep.cumsum(1) - 1).gather(1, columns)
    if bool((left < 0).any()):
        raise InputError("target: every token before an explained one would be deleted; perturb fewer tokens")
    return left


def _run(adapter: ModelAdapter, copies: _Copies, read: Read, batch_tokens: int) -> tuple[Tensor, PassCounts]:
    widths = bucket_widths(copies.lengths, _position_limit(adapter))
    order, values, n_positions = [], [], 0
    for width in torch.unique(widths).tolist():
        size = rows_per_pass(width, batch_tokens)
        for members in torch.split((widths == width).nonzero().squeeze(1), size):
            filled = torch.cat((members, members[-1:].expand(size - len(members))))
            values.append(_read_pass(adapter, copies.take(filled), width, read)[: len(members)])
            order.append(members)
            n_positions += size * width
    counts = PassCounts(0, len(widths), len(order), int(copies.lengths.sum()), n_positions)
    place = torch.cat(order).argsort()
    return torch.cat(values)[place.to(values[0].device)], counts


@torch.no_grad()
def _read_pass(adapter: ModelAdapter, copies: _Copies, width: int, read: Read) -> Tensor:
    batch = copies.batch(width, _fill(adapter)).to(adapter.device)
    marks = copies.marks.to(adapter.device)
    return read(adapter.logits(batch, marks.reads), batch, marks)


def _fill(adapter: ModelAdapter) -> dict[str, int]:
    return {"input_ids": adapter.pad_id or 0}


def default_batch_tokens(adapter: ModelAdapter) -> int:
    """Tokens of one pass where nothing else is asked for."""
    return BATCH_TOKENS.get(adapter.device.type, BATCH_TOKENS_ELSEWHERE)


def _position_limit(adapter: ModelAdapter) -> int | None:
    """The longest input the model has positions for; None where it does not say."""
    config: Any = adapter.model.config
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit - config.pad_token_id - 1 if limit and adapter.family.positions_after_padding else limit


def _attended_only(logits: Tensor, batch: Inputs) -> Tensor:
    return _widen(logits).masked_fill(~batch.attention_mask.bool()[:, :, None], -torch.inf)


def _widen(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
