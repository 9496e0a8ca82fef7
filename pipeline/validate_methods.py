"""What is wrong with the methods and metrics a configuration asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attribution.capture import Need
from attribution.decoding.head import ADVICE
from attribution.heads.masks import check_spec
from attribution.methods import METHODS
from attribution.methods.lrp import VARIANTS
from attribution.methods.registry import ALIASES
from evaluation import METRICS, Metric
from pipeline.config import Config
from pipeline.duration import seconds
from pipeline.layer_texts import AUTO, chosen_labels
from pipeline.operators import OPERATORS
from pipeline.overrides import Problem, did_you_mean
from pipeline.stages.explain_again import AGAIN
from pipeline.standing import is_control
from pipeline.validate_heads import unknown_heads

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
CHOICES = {"variant": tuple(VARIANTS)}
KEPT = {"answers", "relevance", "cues", "importance"}  # what some metrics need and runs keep
TOLD = {"scores", "tokens", "rationale", "rationale_length"}  # what all explanations have, and marked texts
LIST = "`headlight methods` lists them all."


def check_evaluation(config: Config) -> Iterator[Problem]:
    """Metrics and controls that do not exist."""
    for metric in config.evaluation.metrics:
        if metric not in METRICS:
            hint = did_you_mean(metric, METRICS)
            yield Problem("evaluation.metrics", f"evaluation.metrics: {metric} is not a metric.{hint}")
        elif not _of_runs(METRICS[metric]):
            known = ", ".join(each.id for each in METRICS.values() if _of_runs(each))
            yield Problem(
                "evaluation.metrics",
                f"evaluation.metrics: {metric} is not among those that runs compute: {known}. In Python "
                "evaluation.evaluate_all has it.",
            )
    for metric in config.evaluation.where_marked:
        if metric not in METRICS or "rationale" not in METRICS[metric].needs:
            known = ", ".join(each.id for each in METRICS.values() if "rationale" in each.needs)
            text = f"evaluation.where_marked: {metric} is not a metric of rationales. Choose from {known}."
            yield Problem("evaluation.where_marked", text)
    yield from _check_operators(config)
    yield from _check_shuffled(config)
    for label in config.evaluation.controls:
        if label not in config.attribution:
            hint = "Add it there, or set evaluation.controls=[]."
            yield Problem("evaluation.controls", f"evaluation.controls: {label} is not a label of attribution. {hint}")


def check_budget(config: Config) -> Iterator[Problem]:
    """A budget that is no time, and runs in which there is nothing for it to decide."""
    key, budget = "evaluation.budget", config.evaluation.budget
    if budget is None:
        return
    try:
        if not seconds(budget):
            yield Problem(key, f"{key}={budget} is no time at all; write 90s, 15m or 2h.")
    except ValueError as error:
        yield Problem(key, f"{key}={budget} {error}.")
    entries = {label: entry for label, entry in config.attribution.items() if isinstance(entry, Mapping)}
    about = {"methods": {label: {"method": entry["method"], "params": entry} for label, entry in entries.items()}}
    if sum(not is_control(label, about) for label in entries) < 2:
        text = f"{key}={budget} decides between methods; attribution needs two that are no controls."
        yield Problem(key, text)
    if not config.evaluation.metrics:
        yield Problem(key, f"{key}={budget} decides by a metric, and evaluation.metrics names none.")
    for name in ("layers", "probes"):
        if getattr(config.mixing, name):
            yield Problem(key, f"{key}={budget}: mixing.{name} takes all examples. Leave one of the two out.")


def _check_operators(config: Config) -> Iterator[Problem]:
    asked: dict[str, list[str | None]] = {
        "operator": [config.evaluation.operator],
        "other_operators": [*config.evaluation.other_operators],
    }
    for operator in config.evaluation.other_operators:
        if operator not in OPERATORS or operator == config.evaluation.operator:
            reason = "evaluation.operator already" if operator in OPERATORS else "no operator"
            text = f"evaluation.other_operators: {operator} is {reason}. Choose from {', '.join(OPERATORS)}."
            yield Problem("evaluation.other_operators", text)
    for key, operators in asked.items():
        if "mlm_resample" in operators and config.model.lm_head is None:
            text = f"model.lm_head is missing; evaluation.{key}=mlm_resample needs a masked language model: {ADVICE}."
            yield Problem("model.lm_head", text)


def _check_shuffled(config: Config) -> Iterator[Problem]:
    if "label_randomisation" in config.evaluation.metrics and config.model.shuffled is None:
        text = (
            "model.shuffled is missing; evaluation.metrics: label_randomisation compares with the same model trained "
            "on shuffled labels: model.shuffled=FOLDER."
        )
        yield Problem("model.shuffled", text)


def _of_runs(metric: Metric) -> bool:
    """Whether runs have what a metric needs: curves, removed sets, what data sets and methods tell, another go."""
    told = all(need in {*metric.prepared, *TOLD} for need in metric.needs)
    return told or metric.id in AGAIN or not KEPT.isdisjoint(metric.needs)


def check_mixing(config: Config) -> Iterator[Problem]:
    """What is asked of masked words without any, and references that are none."""
    asked = [name for name in ("layers", "blank_out", "probes") if getattr(config.mixing, name)]
    if asked and config.dataset.form != "agreement":
        yield Problem(
            f"mixing.{asked[0]}", f"mixing.{asked[0]} is for dataset.form=agreement, not {config.dataset.form}."
        )
    for form in config.mixing.probes:
        if form not in ("strict", "reference"):
            yield Problem("mixing.probes", f"mixing.probes: {form} is not a form. Choose strict or reference.")
    for label in config.mixing.blank_out:
        if label not in config.attribution:
            yield Problem("mixing.blank_out", f"mixing.blank_out: {label} is not a label of attribution.")
    if "blank_out" in config.evaluation.metrics and not config.mixing.blank_out:
        text = "evaluation.metrics: blank_out is measured against mixing.blank_out, which names no label."
        yield Problem("mixing.blank_out", text)


def check_decoding(config: Config) -> Iterator[Problem]:
    """Texts to choose a layer on that are not there, and a choice among masked words."""
    labels = chosen_labels(config.attribution)
    if not labels:
        return
    if config.dataset.form == "agreement":
        key = f"attribution.{labels[0]}.layer"
        yield Problem(key, f"{key}={AUTO} is for texts, not dataset.form=agreement; give the number of a layer.")
    path = config.decoding.texts
    if path and not Path(path).expanduser().is_file():
        yield Problem("decoding.texts", f"decoding.texts={path} does not exist; give a file.")


def check_attribution(config: Config) -> Iterator[Problem]:
    """Methods and parameters that do not exist, and values that do not fit."""
    if not config.attribution:
        yield Problem("attribution", "attribution is empty. Name a method: attribution.mine.method=gradcam")
    for label, entry in config.attribution.items():
        key = f"attribution.{label}"
        if not re.fullmatch(r"\w[\w-]*", label):
            yield Problem(key, f"{key}: a label has letters, digits, '-' and '_' only.")
        elif not isinstance(entry, Mapping):
            yield Problem(key, f"{key}={entry} is not a method. Write {key}.method=gradcam; {LIST}")
        elif (name := str(entry["method"])) not in METHODS:
            hint = did_you_mean(name, [*METHODS, *ALIASES])
            yield Problem(f"{key}.method", f"{key}.method={name} is not a method.{hint} {LIST}")
        else:
            if reason := METHODS[name].precision.refusal(config.model.dtype):
                yield Problem(f"{key}.method", f"{key}.method={name} {reason} for model.dtype.")
            yield from _parameters(config, key, name, {k: v for k, v in entry.items() if k != "method"})


def _parameters(config: Config, key: str, name: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    defaults, choices = METHODS[name].parameters, {**CHOICES, **METHODS[name].choices}
    for parameter, value in given.items():
        where = f"{key}.{parameter}"
        if parameter not in defaults:
            hint = did_you_mean(parameter, defaults) or " It has none."
            yield Problem(where, f"{where} is not a parameter of {name}.{hint}")
        elif value is not None and value not in choices.get(parameter, (value,)):
            yield Problem(where, f"{where}={value} is not a choice. Choose one of {', '.join(choices[parameter])}.")
        elif problem := _wrong(config, parameter, value, defaults[parameter]):
            yield Problem(where, f"{where}={value} {problem}")
    if Need.LAYER_GRADIENT in METHODS[name].needs:
        yield from _decoding(config, key, name, given)
    if given.get("variant") == "reference" and given.get("head_mask") is None:
        yield Problem(f"{key}.head_mask", f"{key}.variant=reference needs a head mask: {key}.head_mask=both")


def _decoding(config: Config, key: str, name: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    """Methods that read hidden states as words, without what reads them."""
    layer = given.get("layer")
    if config.model.lm_head is None and (given.get("aggregate") != "raw" or layer == AUTO):
        text = f"model.lm_head is missing; {key}.method={name} needs a language-model head: {ADVICE}."
        yield Problem("model.lm_head", text)
    if layer not in (None, AUTO) and (not isinstance(layer, int) or isinstance(layer, bool) or layer < 0):
        yield Problem(
            f"{key}.layer", f"{key}.layer={layer} is not a layer: 0 (embeddings) to the model's last, or auto."
        )


def _wrong(config: Config, parameter: str, value: Any, default: Any) -> str | None:
    """What is wrong with the value of a parameter, judged by its name and its default."""
    if value is None or (default is None and parameter != "head_mask"):
        return None
    if parameter == "head_mask":
        return _wrong_mask(config, value)
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool):
        return None
    return f"is not {KINDS[type(default)]}; the default is {default}."


def _wrong_mask(config: Config, value: Any) -> str | None:
    if isinstance(value, str):
        if problem := check_spec(value):
            return problem.removeprefix(f"conf error: head_mask={value} ")
        return unknown_heads(config.heads, value)
    table = isinstance(value, list) and value and all(isinstance(row, list) for row in value)
    if table and len({len(row) for row in value}) == 1:
        return None
    return "is neither the name of a head mask nor a table of 0 and 1 with one row for each layer."
