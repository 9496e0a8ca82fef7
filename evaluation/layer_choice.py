"""Which layer to decode: chosen once for a model on unlabelled texts, which are not to be evaluated on afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.model.inputs import Inputs
from evaluation.curves import run_curves
from evaluation.faithfulness import CURVES, mean_drop

if TYPE_CHECKING:
    from attribution.decoding.coherence import Coherence
    from attribution.explainer import Explainer

READABLE = 0.5  # least in_text@10 of a layer that is chosen for its faithfulness
SHARE = 0.9  # of the best recovery@10 that the latest coherent layer has at least


def choose_layer(
    explainer: Explainer, batches: Sequence[Inputs], coherence: Coherence, *, mode: str = "faithful", **parameters: Any
) -> int:
    """The layer to decode, 0 to L. Our reconstruction; the paper's own choice is not known.

    mode: faithful: the most comprehensive map (ERASER's levels) among layers whose in_text@10 is at least 0.5;
    coherent: the latest layer with 0.9 of the best recovery@10; most_coherent: that with the best. parameters: of
    `decoded_layer`, but for the layer. Raises `InputError` where no layer decodes to words of the texts.
    """
    if mode not in MODES:
        raise InputError(f"mode={mode} is unknown; choices: {', '.join(MODES)}")
    return (
        BY_COHERENCE[mode](coherence) if mode in BY_COHERENCE else _faithful(explainer, batches, coherence, parameters)
    )


def comprehensiveness_of_layers(
    explainer: Explainer, batches: Sequence[Inputs], layers: Sequence[int], parameters: dict[str, Any]
) -> Tensor:
    """[layers] mean comprehensiveness of their decoded maps over all texts; undefined ones are left out."""
    return torch.cat(
        [comprehensiveness_of_texts(explainer, inputs, layers, parameters) for inputs in batches], 1
    ).nanmean(1)


def comprehensiveness_of_texts(
    explainer: Explainer, inputs: Inputs, layers: Sequence[int], parameters: Mapping[str, Any]
) -> Tensor:
    """[layers, B] comprehensiveness of the maps that `decoded_layer` with these parameters gives of each layer."""
    methods = {str(layer): {"method": "decoded_layer", **parameters, "layer": layer} for layer in layers}
    present: dict[str, Any] = dict(inputs.present())
    maps = explainer.scores_many(**present, methods=methods)
    requests = {label: CURVES["comprehensiveness"].request(scores, ()) for label, scores in maps.items()}
    curves = run_curves(explainer, inputs, requests)
    return torch.stack([mean_drop(curves[label]) for label in methods])


def readable_layers(coherence: Coherence) -> list[int]:
    """The layers of which one is chosen for its faithfulness. Raises `InputError` where there are none."""
    readable = coherence.values["in_text@10"]
    layers: list[int] = (readable >= READABLE).nonzero()[:, 0].tolist()
    if not layers:
        raise InputError(
            f"no layer decodes to words of the texts: in_text@10 is {float(readable.max()):.2f} at most, {READABLE} is "
            "needed; give the head of the pre-trained model, or choose a layer yourself"
        )
    return layers


def _faithful(explainer: Explainer, batches: Sequence[Inputs], coherence: Coherence, parameters: dict[str, Any]) -> int:
    layers = readable_layers(coherence)
    return layers[int(comprehensiveness_of_layers(explainer, batches, layers, parameters).argmax())]


def _latest_coherent(coherence: Coherence) -> int:
    recovery = coherence.values["recovery@10"]
    return int((recovery >= SHARE * recovery.max()).nonzero()[-1])


def _most_coherent(coherence: Coherence) -> int:
    return int(coherence.values["recovery@10"].argmax())


FAITHFUL = "faithful"
BY_COHERENCE: dict[str, Callable[[Coherence], int]] = {"coherent": _latest_coherent, "most_coherent": _most_coherent}
MODES = (FAITHFUL, *BY_COHERENCE)
