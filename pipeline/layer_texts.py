"""The texts on which the layer to decode is chosen: none of those that are explained afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attribution.capture import Need
from attribution.methods.registry import METHODS
from pipeline.config import Config
from pipeline.other_texts import OtherTexts, Wanted, other_texts
from pipeline.prepare import Prepared

AUTO = "auto"  # the value of a method's `layer` that has it chosen


def chosen_labels(attribution: Mapping[str, Any]) -> list[str]:
    """The labels of methods whose layer is to be chosen."""
    return [
        label
        for label, entry in attribution.items()
        if isinstance(entry, Mapping) and entry.get("layer") == AUTO and _decodes(str(entry["method"]))
    ]


def _decodes(method: str) -> bool:
    return method in METHODS and Need.LAYER_GRADIENT in METHODS[method].needs


def layer_texts(config: Config, prepared: Prepared, device: str) -> OtherTexts | None:
    """The texts of a choice; None where no layer is to be chosen. Raises `InputError` where there are none.

    Their labels are taken off, so that nothing can come of them.
    """
    labels = chosen_labels(config.attribution)
    if not labels:
        return None
    purpose = f"attribution.{labels[0]}.layer={AUTO} is chosen on texts"
    asked = config.decoding
    wanted = Wanted(asked.texts, "decoding.texts", asked.n_texts, labelled=False, purpose=purpose)
    return other_texts(config, prepared, device, wanted)
