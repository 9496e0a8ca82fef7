"""Values per example, of methods under metrics: what all statistics are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from attribution.errors import InputError
from evaluation.statistics.moments import Bools, Floats, Ints


@dataclass(frozen=True)
class ValueTable:
    """`values` [K, n, M] of M methods under K metrics on n examples; NaN is undefined, and stays to be counted.

    Examples are in the order of their ids, so that nothing depends on the order they came in. `weights` [K, n].
    """

    items: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Floats
    weights: Floats
    higher_is_better: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        items: Sequence[str],
        methods: Sequence[str],
        higher_is_better: Mapping[str, bool],
        values: ArrayLike,
        weights: ArrayLike | None = None,
    ) -> ValueTable:
        """Values [K, n, M] in the order of `higher_is_better`, `items` and `methods`; InputError if they do not fit.

        A weight [K, n] of 0 or NaN makes the values of an example undefined.
        """
        array = np.asarray(values, dtype=np.float64)
        shape = (len(higher_is_better), len(items), len(methods))
        weight = np.ones(shape[:2]) if weights is None else np.asarray(weights, dtype=np.float64)
        _require(array.shape == shape, f"values have the shape {array.shape}, not metrics x items x methods {shape}")
        _require(weight.shape == shape[:2], f"weights have the shape {weight.shape}, not metrics x items {shape[:2]}")
        _require(len(set(items)) == len(items), "items: an example is there twice")
        _require(len(set(methods)) == len(methods), "methods: a method is there twice")
        _require(not np.isinf(array).any(), "values are infinite; an undefined one is NaN")
        order = np.array(sorted(range(len(items)), key=items.__getitem__), dtype=np.int64)
        array, weight = array[:, order], np.where(weight > 0, weight, 0.0)[:, order]
        array[~(weight > 0)] = np.nan
        ordered = tuple(items[i] for i in order)
        metrics, higher = tuple(higher_is_better), tuple(higher_is_better.values())
        return cls(ordered, tuple(methods), metrics, array, weight, higher)

    @classmethod
    def from_arrow(cls, table: pa.Table, higher_is_better: Mapping[str, bool]) -> ValueTable:
        """From rows item_id, method, metric, value, weight; all names are sorted. A missing row is undefined.

        InputError where methods give an example different weights under a metric.
        """
        kept = table.filter(pc.is_in(table["metric"], pa.array(list(higher_is_better))))
        metrics, items, methods = (_codes(kept[name]) for name in ("metric", "item_id", "method"))
        shape = (len(metrics.names), len(items.names), len(methods.names))
        place = np.ravel_multi_index((metrics.codes, items.codes, methods.codes), shape)
        once = np.bincount(place, minlength=1).max(initial=0) <= 1
        _require(bool(once), "values: an example has two values of the same method and metric")
        value, weight = (_scattered(kept[name], place, shape) for name in ("value", "weight"))
        known = np.nan_to_num(weight).max(axis=2, initial=0.0)
        agree = np.isnan(value) | (weight == known[:, :, None])
        _require(bool(agree.all()), "values: methods give an example different weights")
        return cls.of(
            items.names, methods.names, {name: higher_is_better[name] for name in metrics.names}, value, known
        )

    @property
    def signs(self) -> Floats:
        """1 where higher is better, -1 where lower is, [K]."""
        return np.where(np.asarray(self.higher_is_better, dtype=bool), 1.0, -1.0)

    @property
    def defined(self) -> Bools:
        """Which values there are, [K, n, M]."""
        return ~np.isnan(self.values)

    def columns(self) -> tuple[Floats, Floats]:
        """Values and weights [n, K * M], methods running fastest; a weight of 0 where there is no value."""
        columns = (len(self.items), len(self.metrics) * len(self.methods))
        weights = self.defined * self.weights[:, :, None]
        return tuple(np.moveaxis(each, 0, 1).reshape(columns) for each in (self.values, weights))  # type: ignore[return-value]

    def metric(self, metric: str) -> int:
        """The place of a metric; InputError naming all of them where there is none."""
        _require(metric in self.metrics, f"metric={metric} was not measured; choose from {', '.join(self.metrics)}")
        return self.metrics.index(metric)

    def only(self, metrics: Sequence[str] | None = None, methods: Sequence[str] | None = None) -> ValueTable:
        """These metrics and methods."""
        chosen = [self.metric(metric) for metric in metrics or self.metrics]
        kept = [self.methods.index(method) for method in methods or self.methods]
        return replace(
            self,
            methods=tuple(self.methods[i] for i in kept),
            metrics=tuple(self.metrics[k] for k in chosen),
            values=self.values[np.ix_(chosen, range(len(self.items)), kept)],
            weights=self.weights[chosen],
            higher_is_better=tuple(self.higher_is_better[k] for k in chosen),
        )

    def where(self, members: Sequence[str]) -> ValueTable:
        """The examples of these ids."""
        wanted = set(members)
        kept = [i for i, item in enumerate(self.items) if item in wanted]
        items = tuple(self.items[i] for i in kept)
        return replace(self, items=items, values=self.values[:, kept], weights=self.weights[:, kept])


class _Codes(NamedTuple):
    """A column of names as places in their sorted list."""

    names: list[str]
    codes: Ints


def _codes(column: pa.ChunkedArray) -> _Codes:
    encoded = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = encoded.combine_chunks()
    names = np.array(encoded.dictionary.to_pylist(), dtype=str)
    order = np.argsort(names)
    return _Codes(names[order].tolist(), np.argsort(order)[encoded.indices.to_numpy()])


def _scattered(column: pa.ChunkedArray, place: Ints, shape: tuple[int, ...]) -> Floats:
    full = np.full(shape, np.nan)
    full.ravel()[place] = column.to_numpy()
    return full


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InputError(otherwise)
