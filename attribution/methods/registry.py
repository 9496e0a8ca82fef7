"""The registry: a method is what it needs and how it reads it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attribution.capture import BACKWARDS, GRADIENTS, UNMASKED_RELEVANCE, Need
from attribution.errors import InputError
from attribution.precision import ASKED, BACKWARD, EXACT, POSITIVE_RELEVANCE, READ, Precision
from attribution.relevance.node import RuleTable

Readout = Callable[..., Any]


@dataclass(frozen=True)
class Method:
    """A method of attribution."""

    id: str
    readout: Readout  # (capture, **parameters) -> [B, N], or a generator of asks that returns it
    needs: Need
    source: str
    parameters: Mapping[str, Any]  # name -> default
    class_blind: bool = False  # gives the same scores for every class
    signed: bool = False  # scores may be negative
    control: bool = False  # a yardstick, not an explanation
    table: RuleTable | None = None  # the rules of its modified gradient
    aliases: tuple[str, ...] = ()  # what other libraries call it
    asked: tuple[str, str] = ("0", "0")  # forwards and backwards of its own asks at most, in N and its parameters
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)  # parameter -> the values it takes
    own_precision: Precision | None = None  # None: that of what it needs

    @property
    def needs_heads(self) -> bool:
        """Whether it takes a head mask."""
        return Need.MASKED_RELEVANCE in self.needs

    @property
    def needed(self) -> list[str]:
        """What it needs, in words."""
        return [str(need.name).lower().replace("_", " ") for need in type(self.needs) if need in self.needs]

    @property
    def asks(self) -> bool:
        """Whether it asks the model again (attribution/asking.py)."""
        return inspect.isgeneratorfunction(self.readout)

    @property
    def perturbs(self) -> bool:
        """Whether all it asks for is perturbed copies, whose passes are as large however many rows are explained."""
        return self.asks and self.asked[1] == "0"

    @property
    def backwards(self) -> int:
        """Backward passes of its own; a pass shared with other methods is paid once."""
        return sum(
            bool(self.needs & group)
            for group in (
                GRADIENTS,
                UNMASKED_RELEVANCE,
                Need.MASKED_RELEVANCE,
                Need.MODIFIED_GRADIENT,
                Need.LAYER_GRADIENT,
            )
        )

    @property
    def cost(self) -> tuple[str, str]:
        """Forwards and backwards beyond the forward all methods share, in N (units of the text) and its parameters."""
        forwards, backwards = self.asked
        return forwards, str(self.backwards) if backwards == "0" and not self.asks else backwards

    @property
    def precision(self) -> Precision:
        """In which precisions of a model it is offered, and its tolerances."""
        return self.own_precision or next(policy for holds, policy in _POLICIES if holds(self))

    @property
    def summary(self) -> str:
        """First line of the readout's docstring."""
        return (inspect.getdoc(self.readout) or "").split("\n", 1)[0]


# The first that holds is the policy of a method that does not bring its own.
_POLICIES: tuple[tuple[Callable[[Method], bool], Precision], ...] = (
    (lambda method: bool(method.needs & (UNMASKED_RELEVANCE | Need.MASKED_RELEVANCE)), POSITIVE_RELEVANCE),
    (lambda method: method.asks, ASKED),
    (lambda method: bool(method.needs & BACKWARDS), BACKWARD),
    (lambda method: bool(method.needs), READ),
    (lambda method: True, EXACT),
)

METHODS: dict[str, Method] = {}
ALIASES: dict[str, str] = {}  # what other libraries call a method -> its id


def register(
    id: str,
    *,
    needs: Need,
    source: str,
    class_blind: bool = False,
    signed: bool = False,
    control: bool = False,
    table: RuleTable | None = None,
    aliases: Sequence[str] = (),
    asked: tuple[str, str] = ("0", "0"),
    choices: Mapping[str, Sequence[str]] | None = None,
    precision: Precision | None = None,
) -> Callable[[Readout], Readout]:
    """Enter a readout into the registry; its keyword-only arguments are the method's parameters."""

    def enter(readout: Readout) -> Readout:
        keywords = [p for p in inspect.signature(readout).parameters.values() if p.kind is p.KEYWORD_ONLY]
        parameters = {keyword.name: keyword.default for keyword in keywords}
        described = Method(id, readout, needs, source, parameters, class_blind, signed, control, table)
        more: dict[str, Any] = {"asked": asked, "choices": choices or {}, "own_precision": precision}
        METHODS[id] = replace(described, aliases=tuple(aliases), **more)
        ALIASES.update(dict.fromkeys(aliases, id))
        return readout

    return enter


def method_of(id: str | Method) -> Method:
    """The method of that id or alias; raises `InputError` with the nearest name.

    A method that is not registered is itself.
    """
    if isinstance(id, Method):
        return id
    if canonical(id) in METHODS:
        return METHODS[canonical(id)]
    near = difflib.get_close_matches(id, [*METHODS, *ALIASES], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InputError(f"method={id} is not a method.{hint} Known: {', '.join(METHODS)}")


def canonical(id: str) -> str:
    """The id that an alias stands for; anything else as it is."""
    return ALIASES.get(id, id)


def check_parameters(method: Method, parameters: Mapping[str, Any]) -> None:
    """Raise `InputError` for a parameter the method does not have, or a value it does not take."""
    if unknown := [name for name in parameters if name not in method.parameters]:
        known = ", ".join(method.parameters) or "none"
        raise InputError(f"{method.id} has no parameter {unknown[0]}; its parameters: {known}")
    for name, choices in method.choices.items():
        if (value := parameters.get(name)) is not None and value not in choices:
            raise InputError(f"{method.id}: {name}={value} is unknown; choices: {', '.join(choices)}")


def check_precision(method: Method, dtype: str) -> None:
    """Raise `InputError` where a method is not offered on models of this precision."""
    if reason := method.precision.refusal(dtype):
        raise InputError(f"{method.id} {reason}")


def list_methods() -> list[Method]:
    """Every method, with its needs, parameters, cost and source."""
    return list(METHODS.values())
