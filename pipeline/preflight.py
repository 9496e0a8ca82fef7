"""What only the model and the data can tell is wrong with a configuration; all of it reported before any work."""

from __future__ import annotations

from collections.abc import Callable

import torch

from attribution.errors import InputError
from attribution.heads import HeadScores
from attribution.loading import read_config
from attribution.model.adapter import ModelAdapter
from evaluation import CURVES, METRICS
from evaluation.resampling import resolved
from pipeline.config import Config
from pipeline.data.treebanks import load_treebank
from pipeline.error_choice import explaining_label
from pipeline.execution import Needs, Site, check_cluster, joins_cluster
from pipeline.heads import check_masks
from pipeline.models.folder import AUTO_CLASSES
from pipeline.prepare import Prepared
from pipeline.schedule import curve_families, removed_sets
from pipeline.score import MARKS, has_marks
from pipeline.stages.explain_again import AGAIN
from pipeline.targets import check_gold, check_target

GOLD = ["row_index", "label", "answer_start", "answer_end"]  # the rest of a large data set takes long to read


def check_prepared(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    """Raise `InputError` with one line for each problem. `heads` are those given, None where they are to be found."""
    problems = []
    for check in CHECKS:
        try:
            check(config, prepared, heads)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))


def _target(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    check_target(config, prepared.is_qa)
    check_gold(config, prepared.is_qa, prepared.examples.select(GOLD).to_pylist())


def _masks(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    check_masks(config, heads, prepared.model)


def _metrics(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    """Metrics for other tasks, and of answers where there are none."""
    answered = prepared.examples["answer_start"].null_count < prepared.examples.num_rows
    for metric in config.evaluation.metrics:
        if (tasks := METRICS[metric].tasks) and prepared.model.task not in tasks:
            raise InputError(
                f"conf error: evaluation.metrics: {metric} is for {', '.join(tasks)}, and the model is for "
                f"{prepared.model.task}; take it out of the list."
            )
        if "answers" in METRICS[metric].needs and not answered:
            raise InputError(
                f"conf error: evaluation.metrics: {metric} needs gold answers, and data set {prepared.dataset.name} "
                "has none; take it out of the list."
            )


def _again(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    """Explaining again what only some of its forms are known for."""
    for metric in config.evaluation.metrics:
        wrong = metric in AGAIN and [
            *(["explain.output=probability"] if config.explain.output != "logit" else []),
            *(["masked words"] if config.dataset.form == "agreement" else []),
            *(["answers of questions"] if prepared.is_qa and metric == "random_logit" else []),
        ]
        if wrong:
            raise InputError(
                f"conf error: evaluation.metrics: {metric} is not for {wrong[0]}; take it out of the list."
            )


def _cues(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    """Metrics of cues and rationales where there are none."""
    asked = [metric for metric in config.evaluation.metrics if not MARKS.isdisjoint(METRICS[metric].needs)]
    if asked and not has_marks(prepared.examples):
        raise InputError(
            f"conf error: evaluation.metrics: {asked[0]} needs marked tokens, and data set {prepared.dataset.name} "
            "has none; take it out of the list."
        )


def _operator(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    """Perturbations this model cannot be given, as far as its configuration and its tokenizer tell."""
    named = {f"attribution.{label}.": entry.get("operator") for label, entry in config.attribution.items()}
    asked = [(where, operator) for where, operator in named.items() if operator is not None]
    used = {config.evaluation.operator or CURVES[family].operator for family in curve_families(config)}
    used |= {config.evaluation.operator for _ in removed_sets(config)} | {*config.evaluation.other_operators}
    if explaining_label(config, prepared) is not None:
        used.add(config.evaluation.operator)
    asked += [("evaluation.", operator) for operator in used]
    if not asked:
        return
    declared = read_config(prepared.model.folder, local_files_only=True)
    with torch.device("meta"):  # no weights are needed to know its tokens
        model = AUTO_CLASSES[prepared.model.task].from_config(declared, trust_remote_code=False)
    adapter = ModelAdapter(model, prepared.tokenizer)
    for where, operator in asked:
        try:
            resolved(adapter, operator)
        except InputError as error:
            raise InputError(f"conf error: {where}{error}") from error


def _treebanks(config: Config, prepared: Prepared, heads: HeadScores | None) -> None:
    """Treebanks that cannot be read."""
    if config.heads.source == "treebank":
        for key, path in (("heads.select", config.heads.select), ("heads.report", config.heads.report)):
            if path:
                load_treebank(path, config.heads.limit, key=key)


def ask_nodes(config: Config, prepared: Prepared, site: Site) -> list[str]:
    """Ask the nodes of a cluster for folders that the configuration does not name: the model's, and its head's.

    Returns what the user is to be told of nodes that the site now leaves out. `InputError` if they are needed.
    """
    model, folders = prepared.model, {}
    if config.model.source != "local":
        key = f"model.id={config.model.id}" if config.model.source == "hub" else f"model={config.model.source}"
        folders[key] = str(model.folder.resolve())
    if model.lm_head is not None:
        folders[f"model.lm_head={config.model.lm_head}"] = str(model.lm_head.folder.resolve())
    if model.shuffled is not None:
        folders[f"model.shuffled={config.model.shuffled}"] = str(model.shuffled.folder.resolve())
    if not folders or not joins_cluster(config.cluster):
        return []
    found = check_cluster(site.cluster, Needs(folders), left_out=site.left_out).required()
    site.left_out |= found.left_out
    return found.notes


CHECKS: tuple[Callable[[Config, Prepared, HeadScores | None], None], ...] = (
    _target,
    _masks,
    _metrics,
    _again,
    _cues,
    _operator,
    _treebanks,
)
