"""Methods that take units of the text away and look what becomes of the explained value."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attribution.asking import Asking, Scored
from attribution.capture import Capture, Need
from attribution.draws import example_keys, uniform
from attribution.errors import InputError
from attribution.methods.coalitions import Every, Walk, every_coalition, kernel_coalitions, shapley_weights
from attribution.methods.registry import register
from attribution.methods.regression import constrained_regression, ridge_regression
from attribution.methods.units import UNITS, Units, operator_of, worth
from attribution.perturb import OPERATORS

CHOICES = {"unit": tuple(UNITS), "operator": tuple(OPERATORS)}
SIMILARITIES: dict[str, Callable[[Tensor], Tensor]] = {  # share of the units kept -> weight in LIME's regression
    "fraction": lambda share: share,
    "cosine": lambda share: torch.exp(-((1 - share.sqrt()) ** 2) / (2 * 0.25**2)),
}


@register(
    "occlusion",
    needs=Need.NOTHING,
    source="Zeiler & Fergus 2014, arXiv 1311.2901; Li et al. 2016, arXiv 1612.08220",
    signed=True,
    aliases=("occ", "Occlusion", "leave_one_out", "feature_ablation", "FeatureAblation"),
    asked=("2 + max(0, ceil((N - window) / stride))", "0"),
    choices=CHOICES,
)
def occlusion(
    capture: Capture, *, window: int = 1, stride: int = 1, unit: str = "token", operator: str | None = None
) -> Asking:
    """How much the explained value falls without a unit: the mean over the windows of neighbours that hold it."""
    if not 1 <= stride <= window:
        raise InputError(f"occlusion: stride={stride} must be at least 1 and at most window={window}")
    units = Units.of(capture, unit)
    width = units.members.shape[1]
    windows = (units.count - window).clamp(min=0).add(stride - 1) // stride + 1
    number = torch.arange(int(windows.max()), device=windows.device)
    start = (number * stride)[:, None]
    place = torch.arange(width, device=windows.device)
    hidden = ((place >= start) & (place < start + window))[None] & (number < windows[:, None])[..., None]
    kept = torch.cat((torch.ones_like(hidden[:, :1]), ~hidden), 1)
    found = yield from worth(units, kept, operator_of(capture, operator))
    fall = found.values[:, :1] - found.values[:, 1:]
    scores = (fall[..., None] * hidden).sum(1) / hidden.sum(1).clamp(min=1)
    return Scored(units.spread(scores), {"value": found.values[:, 0], "forwards": found.forwards})


@register(
    "lime",
    needs=Need.NOTHING,
    source="Ribeiro et al. 2016, arXiv 1602.04938",
    signed=True,
    aliases=("Lime", "LimeBase"),
    asked=("1 + n_samples", "0"),
    choices={**CHOICES, "similarity": tuple(SIMILARITIES)},
)
def lime(
    capture: Capture,
    *,
    n_samples: int = 100,
    mask_prob: float = 0.3,
    similarity: str = "fraction",
    ridge: float = 0.01,
    unit: str = "token",
    operator: str | None = None,
    seed: int = 0,
) -> Asking:
    """Coefficients of a weighted linear fit to the explained value over texts without some of their units.

    mask_prob: share of units taken away. similarity: a text's weight by the share of units kept, itself (as in
        Thermostat, padding not counted) or as LIME's kernel of the cosine distance. ridge: penalty on the coefficients.
    Texts of few units have all their 2^units copies fitted, weighted by how probable they are.
    Facts: value, forwards.
    """
    _at_least("lime", n_samples, 2)
    if not 0 < mask_prob < 1:
        raise InputError(f"lime: mask_prob={mask_prob} is not between 0 and 1")
    units = Units.of(capture, unit)
    members, every = units.members, every_coalition(units, n_samples)
    keys = example_keys(capture.input_ids, capture.visible, seed)
    drawn = (uniform(keys, n_samples, members.shape[1]) >= mask_prob) | ~members[:, None]
    present = torch.where(every.exact[:, None, None], every.kept, drawn)
    present = torch.cat((torch.ones_like(present[:, :1]), present), 1)
    found = yield from worth(units, present, operator_of(capture, operator), _after(every.asked, 1))
    kept = (present & members[:, None]).to(torch.float64)
    share = kept.sum(-1) / units.count.clamp(min=1)[:, None]
    weight = SIMILARITIES[similarity](share)
    chance = n_samples * (1 - mask_prob) ** kept.sum(-1) * mask_prob ** (units.count[:, None] - kept.sum(-1))
    weight *= torch.where(every.exact[:, None], chance, 1) * _after(every.asked, 1)
    weight[:, 0] *= ~every.exact  # there it is among all copies already
    scores = ridge_regression(kept, found.values.double(), weight, ridge)
    return Scored(units.spread(scores), {"value": found.values[:, 0], "forwards": found.forwards})


@register(
    "kernel_shap",
    needs=Need.NOTHING,
    source="Lundberg & Lee 2017, theorem 2; paired as in Covert & Lee 2021, arXiv 2012.01536",
    signed=True,
    aliases=("KernelShap",),
    asked=("2 + n_samples", "0"),
    choices=CHOICES,
)
def kernel_shap(
    capture: Capture,
    *,
    n_samples: int = 100,
    unit: str = "token",
    operator: str | None = None,
    seed: int = 0,
) -> Asking:
    """Shapley values of the explained value, by regression on coalitions drawn by the Shapley kernel.

    Each coalition comes with its complement. Texts with 2^units <= n_samples have all coalitions run and exact values.
    Facts: value, baseline_value (nothing left), completeness_error, forwards.
    """
    _at_least("kernel_shap", n_samples, 2)
    units, budget = Units.of(capture, unit), n_samples // 2 * 2
    every, keys = every_coalition(units, budget), example_keys(capture.input_ids, capture.visible, seed)
    present = torch.where(every.exact[:, None, None], every.kept, kernel_coalitions(keys, units, budget // 2))
    found = yield from worth(units, _with_ends(present), operator_of(capture, operator), _after(every.asked, 2))
    values = found.values.double()
    change = values[:, :1] - values[:, 1:2]
    kept = (present & units.members[:, None]).to(torch.float64)
    fitted = constrained_regression(kept, values[:, 2:] - values[:, 1:2], change[:, 0], units.members)
    scores = torch.where(every.exact[:, None], _exact(units, every, values[:, 2:]), fitted)
    return _shapley_scored(units, scores, found.values, found.forwards)


@register(
    "shapley_sampling",
    needs=Need.NOTHING,
    source="Castro et al. 2009; antithetic permutations as in Mitchell et al. 2022, arXiv 2104.12199",
    signed=True,
    aliases=("svs", "ShapleyValueSampling", "shapley_value_sampling"),
    asked=("2 + max(n_samples, N - 1)", "0"),
    choices=CHOICES,
)
def shapley_sampling(
    capture: Capture,
    *,
    n_samples: int = 200,
    unit: str = "token",
    operator: str | None = None,
    seed: int = 0,
) -> Asking:
    """Shapley values of the explained value: what each unit adds when the text is put together in random orders.

    As many whole orders as n_samples passes make, at least one; every second order is the one before it reversed.
    Texts with 2^units <= n_samples have all coalitions run and exact values.
    Facts: value, baseline_value (nothing left), completeness_error (rounding alone), forwards.
    """
    _at_least("shapley_sampling", n_samples, 1)
    units = Units.of(capture, unit)
    every, keys = every_coalition(units, n_samples), example_keys(capture.input_ids, capture.visible, seed)
    walk = Walk.of(keys, units, n_samples)
    asked = torch.where(every.exact[:, None], _padded(every.asked, walk.asked.shape[1]), walk.asked)
    present = torch.where(every.exact[:, None, None], _padded(every.kept, walk.asked.shape[1]), walk.kept)
    found = yield from worth(units, _with_ends(present), operator_of(capture, operator), _after(asked, 2))
    values = found.values.double()
    sampled = walk.contributions(values)
    scores = torch.where(every.exact[:, None], _exact(units, every, values[:, 2 : 2 + n_samples]), sampled)
    return _shapley_scored(units, scores, found.values, found.forwards)


def _exact(units: Units, every: Every, values: Tensor) -> Tensor:
    """Shapley values [B, U] of rows whose every coalition has been run; values [B, S]."""
    return (shapley_weights(every.kept, units) * (values * every.asked)[..., None]).sum(1)


def _shapley_scored(units: Units, scores: Tensor, values: Tensor, forwards: Tensor) -> Scored:
    """Scores with their facts; `values` [B, S] begin with those of the text and of nothing left of it."""
    value, before = values[:, 0], values[:, 1]
    error = (scores * units.members).sum(1) - (value - before)
    facts = {"value": value, "baseline_value": before, "completeness_error": error, "forwards": forwards}
    return Scored(units.spread(scores), facts)


def _with_ends(present: Tensor) -> Tensor:
    """Coalitions [B, S, U] after the full one and the empty one."""
    full = torch.ones_like(present[:, :1])
    return torch.cat((full, ~full, present), 1)


def _after(asked: Tensor, ends: int) -> Tensor:
    """[B, S] after as many coalitions that are always asked for."""
    return torch.cat((torch.ones_like(asked[:, :1]).expand(-1, ends), asked), 1)


def _padded(x: Tensor, length: int) -> Tensor:
    """[B, S, ...] with S made `length` by what is not asked for."""
    missing = torch.zeros_like(x[:, :1]).expand(-1, length - x.shape[1], *x.shape[2:])
    return torch.cat((x, missing), 1)


def _at_least(method: str, n_samples: int, least: int) -> None:
    if n_samples < least:
        raise InputError(f"{method}: n_samples={n_samples} must be at least {least}")
